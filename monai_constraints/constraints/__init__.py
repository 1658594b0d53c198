"""The mathematics: statistics, bounds, penalties and pooling. Imports torch only."""

from __future__ import annotations

from .bounds import BoundsRule, Common, Individual, Tag, Unbounded, active, check_bounds, residuals
from .penalties import Hinge, LogBarrier, Penalty, Quadratic, StandardLogBarrier, duality_gap_bound
from .pooling import GroupPooling, Groups, ImagePooling, Pooling, PoolingName, get_pooling
from .statistics import Centroid, MeanIntensity, Size, Spread, Statistic

__all__ = [
    "BoundsRule",
    "Centroid",
    "Common",
    "GroupPooling",
    "Groups",
    "Hinge",
    "ImagePooling",
    "Individual",
    "LogBarrier",
    "MeanIntensity",
    "Penalty",
    "Pooling",
    "PoolingName",
    "Quadratic",
    "Size",
    "Spread",
    "StandardLogBarrier",
    "Statistic",
    "Tag",
    "Unbounded",
    "active",
    "check_bounds",
    "duality_gap_bound",
    "get_pooling",
    "residuals",
]
