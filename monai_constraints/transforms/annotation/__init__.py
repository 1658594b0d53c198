"""Annotation: weak labels, scribbles, tags, and the bounds that go with them."""

from __future__ import annotations

from .absent_annotation import AbsentAnnotatedd
from .bounds import ConstraintBoundsd, Given, Values, common_bounds
from .box_bounds import BoxBoundsd, BoxToWeakd, slab_fill
from .boxes import BoxesFromLabeld
from .boxes_from_file import BoxesFromFiled, BoxesOfSliced
from .full_annotation import FullyAnnotatedd
from .label_if_annotated import LabelIfAnnotatedd
from .mask_to_weak import MaskToWeakd
from .pseudo_labels import PseudoLabeld
from .regressed import RegressedBoundsd, RegressedVolumed
from .scribbles import FullLabeld, ScribbleLabeld
from .structure import OneStructured
from .weak_labels import ErodedLabeld, PointLabeld

__all__ = [
    "AbsentAnnotatedd",
    "BoxBoundsd",
    "BoxToWeakd",
    "BoxesFromFiled",
    "BoxesFromLabeld",
    "BoxesOfSliced",
    "ConstraintBoundsd",
    "ErodedLabeld",
    "FullLabeld",
    "FullyAnnotatedd",
    "Given",
    "LabelIfAnnotatedd",
    "MaskToWeakd",
    "OneStructured",
    "PointLabeld",
    "PseudoLabeld",
    "RegressedBoundsd",
    "RegressedVolumed",
    "ScribbleLabeld",
    "Values",
    "common_bounds",
    "slab_fill",
]
