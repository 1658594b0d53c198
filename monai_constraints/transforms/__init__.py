"""Dictionary transforms: weak labels and bounds."""

from __future__ import annotations

from .bounds import ConstraintBoundsd, common_bounds
from .scribbles import FullLabeld, ScribbleLabeld
from .weak_labels import CentroidLabeld, ErodedLabeld, PointLabeld

__all__ = [
    "CentroidLabeld",
    "ConstraintBoundsd",
    "ErodedLabeld",
    "FullLabeld",
    "PointLabeld",
    "ScribbleLabeld",
    "common_bounds",
]
