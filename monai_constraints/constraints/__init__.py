"""The mathematics: statistics, bounds, penalties, multipliers, proposals and pooling. Imports torch only."""

from __future__ import annotations

from .bounds import BoundsRule, Common, Individual, Tag, Unbounded, active, check_bounds, residuals, sides
from .lagrangians import AugmentedLagrangian, NuPI, ReLULagrangian, StandardLagrangian
from .multipliers import Multipliers, observing
from .penalties import Hinge, LogBarrier, Penalty, Quadratic, StandardLogBarrier, duality_gap_bound
from .pooling import GroupPooling, Groups, ImagePooling, Pooling, PoolingName, get_pooling
from .proposals import ExactProposals, LegacyProposals, Proposals
from .statistics import Centroid, MeanIntensity, Size, Spread, Statistic

__all__ = [
    "AugmentedLagrangian",
    "BoundsRule",
    "Centroid",
    "Common",
    "ExactProposals",
    "GroupPooling",
    "Groups",
    "Hinge",
    "ImagePooling",
    "Individual",
    "LegacyProposals",
    "LogBarrier",
    "MeanIntensity",
    "Multipliers",
    "NuPI",
    "Penalty",
    "Pooling",
    "PoolingName",
    "Proposals",
    "Quadratic",
    "ReLULagrangian",
    "Size",
    "Spread",
    "StandardLagrangian",
    "StandardLogBarrier",
    "Statistic",
    "Tag",
    "Unbounded",
    "active",
    "check_bounds",
    "duality_gap_bound",
    "get_pooling",
    "observing",
    "residuals",
    "sides",
]
