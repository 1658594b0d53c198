"""Dictionary transforms: weak labels and bounds."""

from __future__ import annotations

from .bounds import ConstraintBoundsd, GivenBoundsd, common_bounds
from .dihedral import RandDihedrald
from .full_annotation import FullyAnnotatedd
from .scribbles import FullLabeld, ScribbleLabeld
from .weak_labels import CentroidLabeld, ErodedLabeld, PointLabeld

__all__ = [
    "CentroidLabeld",
    "ConstraintBoundsd",
    "ErodedLabeld",
    "FullLabeld",
    "FullyAnnotatedd",
    "GivenBoundsd",
    "PointLabeld",
    "RandDihedrald",
    "ScribbleLabeld",
    "common_bounds",
]
