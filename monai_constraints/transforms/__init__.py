"""Dictionary transforms: weak labels and bounds."""

from __future__ import annotations

from .batch import BatchGamma, BatchSimilarity
from .bounds import ConstraintBoundsd, GivenBoundsd, common_bounds
from .dihedral import RandDihedrald
from .full_annotation import FullyAnnotatedd
from .largest_component import LargestComponentd
from .scribbles import FullLabeld, ScribbleLabeld
from .weak_labels import CentroidLabeld, ErodedLabeld, PointLabeld

__all__ = [
    "BatchGamma",
    "BatchSimilarity",
    "CentroidLabeld",
    "ConstraintBoundsd",
    "ErodedLabeld",
    "FullLabeld",
    "FullyAnnotatedd",
    "GivenBoundsd",
    "LargestComponentd",
    "PointLabeld",
    "RandDihedrald",
    "ScribbleLabeld",
    "common_bounds",
]
