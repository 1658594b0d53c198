"""The mathematics: statistics, bounds, penalties, multipliers, proposals and pooling. Imports torch only."""

from __future__ import annotations

from .bounds import BoundsRule, Common, Individual, Tag, Unbounded, active, check_bounds, residuals, sides
from .box_rules import BoxRule, BoxSize, Empty, Tight
from .conformal import ConformalMargin, Margin, RelativeMargin, conformal_quantile, highest_level
from .emptiness import Inside, Outside
from .lagrangians import AugmentedLagrangian, NuPI, ReLULagrangian, StandardLagrangian
from .multipliers import Multipliers, observing
from .patch import Patch
from .penalties import Hinge, LogBarrier, Penalty, Quadratic, StandardLogBarrier, duality_gap_bound
from .pooling import GroupPooling, Groups, ImagePooling, Pooling, PoolingName, get_pooling
from .proposals import ExactProposals, LegacyProposals, Proposals
from .root import Root
from .slabs import SlabSums, slab_bounds
from .smooth_maximum import SmoothMaximum
from .statistic import Statistic
from .statistics import Centroid, MeanIntensity, Size, Spread

__all__ = [
    "AugmentedLagrangian",
    "BoundsRule",
    "BoxRule",
    "BoxSize",
    "Centroid",
    "Common",
    "ConformalMargin",
    "Empty",
    "ExactProposals",
    "GroupPooling",
    "Groups",
    "Hinge",
    "ImagePooling",
    "Individual",
    "Inside",
    "LegacyProposals",
    "LogBarrier",
    "Margin",
    "MeanIntensity",
    "Multipliers",
    "NuPI",
    "Outside",
    "Patch",
    "Penalty",
    "Pooling",
    "PoolingName",
    "Proposals",
    "Quadratic",
    "ReLULagrangian",
    "RelativeMargin",
    "Root",
    "Size",
    "SlabSums",
    "SmoothMaximum",
    "Spread",
    "StandardLagrangian",
    "StandardLogBarrier",
    "Statistic",
    "Tag",
    "Tight",
    "Unbounded",
    "active",
    "check_bounds",
    "conformal_quantile",
    "duality_gap_bound",
    "get_pooling",
    "highest_level",
    "observing",
    "residuals",
    "sides",
    "slab_bounds",
]
