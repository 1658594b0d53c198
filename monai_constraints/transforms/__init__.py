"""Dictionary transforms: weak labels, bounds and distance maps."""

from __future__ import annotations

from .annotation.absent_annotation import AbsentAnnotatedd
from .annotation.bounds import ConstraintBoundsd, Given, Values, common_bounds
from .annotation.box_bounds import BoxBoundsd, BoxToWeakd, slab_fill
from .annotation.boxes import BoxesFromLabeld
from .annotation.boxes_from_file import BoxesFromFiled, BoxesOfSliced
from .annotation.full_annotation import FullyAnnotatedd
from .annotation.label_if_annotated import LabelIfAnnotatedd
from .annotation.mask_to_weak import MaskToWeakd
from .annotation.pseudo_labels import PseudoLabeld
from .annotation.regressed import RegressedBoundsd, RegressedVolumed
from .annotation.scribbles import FullLabeld, ScribbleLabeld
from .annotation.structure import OneStructured
from .annotation.weak_labels import ErodedLabeld, PointLabeld
from .augmentation.batch import BatchGamma, BatchIntensity, BatchSimilarity
from .augmentation.copy_paste import BatchCopyPaste
from .augmentation.dihedral import RandDihedrald
from .augmentation.mirrors import BatchMirrors
from .grid.common_voxel import CommonVoxeld
from .grid.to_grid import ToGridd
from .intensity.scale_percentiles import ScalePercentilesd
from .maps.border_weight import BorderWeightd
from .maps.distance_map import SignedDistanceMapd
from .maps.geodesic_map import GeodesicDistanceMapd
from .postprocessing.dense_crf import DenseCRF, DenseCRFd
from .postprocessing.largest_component import LargestComponentd
from .postprocessing.save_mask import SaveMaskd

__all__ = [
    "ToGridd",
    "AbsentAnnotatedd",
    "BatchCopyPaste",
    "BatchGamma",
    "BatchIntensity",
    "BatchMirrors",
    "BatchSimilarity",
    "BorderWeightd",
    "BoxBoundsd",
    "BoxToWeakd",
    "BoxesFromFiled",
    "BoxesFromLabeld",
    "BoxesOfSliced",
    "CommonVoxeld",
    "ConstraintBoundsd",
    "DenseCRF",
    "DenseCRFd",
    "ErodedLabeld",
    "FullLabeld",
    "FullyAnnotatedd",
    "GeodesicDistanceMapd",
    "Given",
    "LabelIfAnnotatedd",
    "LargestComponentd",
    "MaskToWeakd",
    "OneStructured",
    "PointLabeld",
    "PseudoLabeld",
    "RandDihedrald",
    "RegressedBoundsd",
    "RegressedVolumed",
    "ScalePercentilesd",
    "ScribbleLabeld",
    "SaveMaskd",
    "SignedDistanceMapd",
    "Values",
    "common_bounds",
    "slab_fill",
]
