"""Dictionary transforms: weak labels, bounds and distance maps."""

from __future__ import annotations

from .absent_annotation import AbsentAnnotatedd
from .batch import BatchGamma, BatchIntensity, BatchSimilarity
from .border_weight import BorderWeightd
from .bounds import ConstraintBoundsd, GivenBoundsd, common_bounds
from .common_voxel import CommonVoxeld
from .dihedral import RandDihedrald
from .distance_map import SignedDistanceMapd
from .full_annotation import FullyAnnotatedd
from .geodesic_map import GeodesicDistanceMapd
from .largest_component import LargestComponentd
from .neighbour_slices import NeighbourSlicesd, neighbour_channels
from .scribbles import FullLabeld, ScribbleLabeld
from .weak_labels import CentroidLabeld, ErodedLabeld, PointLabeld

__all__ = [
    "AbsentAnnotatedd",
    "BatchGamma",
    "BatchIntensity",
    "BatchSimilarity",
    "BorderWeightd",
    "CentroidLabeld",
    "CommonVoxeld",
    "ConstraintBoundsd",
    "ErodedLabeld",
    "FullLabeld",
    "FullyAnnotatedd",
    "GeodesicDistanceMapd",
    "GivenBoundsd",
    "LargestComponentd",
    "NeighbourSlicesd",
    "PointLabeld",
    "RandDihedrald",
    "ScribbleLabeld",
    "SignedDistanceMapd",
    "common_bounds",
    "neighbour_channels",
]
