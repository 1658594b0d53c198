"""Annotation: weak labels, scribbles, tags, and the bounds that go with them."""

from __future__ import annotations

from .absent_annotation import AbsentAnnotatedd
from .bounds import ConstraintBoundsd, GivenBoundsd, common_bounds
from .full_annotation import FullyAnnotatedd
from .scribbles import FullLabeld, ScribbleLabeld
from .structure import OneStructured
from .weak_labels import CentroidLabeld, ErodedLabeld, PointLabeld

__all__ = [
    "AbsentAnnotatedd",
    "CentroidLabeld",
    "ConstraintBoundsd",
    "ErodedLabeld",
    "FullLabeld",
    "FullyAnnotatedd",
    "GivenBoundsd",
    "OneStructured",
    "PointLabeld",
    "ScribbleLabeld",
    "common_bounds",
]
