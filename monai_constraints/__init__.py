"""Train segmentation networks from little annotation plus prior knowledge, inside MONAI."""

from __future__ import annotations

from .constraints import (
    Centroid,
    Common,
    Individual,
    LogBarrier,
    MeanIntensity,
    Quadratic,
    Size,
    Spread,
    Statistic,
    Tag,
)
from .losses import ConstraintLoss, PartialCrossEntropy, Term, WeightedSum
from .transforms import ConstraintBoundsd

__version__ = "0.1.0"

__all__ = [
    "Centroid",
    "Common",
    "ConstraintBoundsd",
    "ConstraintLoss",
    "Individual",
    "LogBarrier",
    "MeanIntensity",
    "PartialCrossEntropy",
    "Quadratic",
    "Size",
    "Spread",
    "Statistic",
    "Tag",
    "Term",
    "WeightedSum",
]
