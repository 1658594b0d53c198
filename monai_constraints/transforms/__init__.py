"""Dictionary transforms: weak labels, bounds and distance maps."""

from __future__ import annotations

from .annotation.absent_annotation import AbsentAnnotatedd
from .annotation.bounds import ConstraintBoundsd, GivenBoundsd, common_bounds
from .annotation.full_annotation import FullyAnnotatedd
from .annotation.scribbles import FullLabeld, ScribbleLabeld
from .annotation.structure import OneStructured
from .annotation.weak_labels import CentroidLabeld, ErodedLabeld, PointLabeld
from .augmentation.batch import BatchGamma, BatchIntensity, BatchSimilarity
from .augmentation.dihedral import RandDihedrald
from .grid.common_voxel import CommonVoxeld
from .maps.border_weight import BorderWeightd
from .maps.distance_map import SignedDistanceMapd
from .maps.geodesic_map import GeodesicDistanceMapd
from .neighbour_slices import NeighbourSlicesd, neighbour_channels
from .postprocessing.largest_component import LargestComponentd
from .postprocessing.save_mask import SaveMaskd

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
    "OneStructured",
    "PointLabeld",
    "RandDihedrald",
    "ScribbleLabeld",
    "SaveMaskd",
    "SignedDistanceMapd",
    "common_bounds",
    "neighbour_channels",
]
