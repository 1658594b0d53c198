"""Annotation: weak labels, scribbles, tags, and the bounds that go with them."""

from __future__ import annotations

from .absent_annotation import AbsentAnnotatedd
from .bounds import ConstraintBoundsd, GivenBoundsd, common_bounds
from .full_annotation import FullyAnnotatedd
from .scribbles import FullLabeld, ScribbleLabeld
from .weak_labels import ErodedLabeld, PointLabeld

__all__ = [
    "AbsentAnnotatedd",
    "ConstraintBoundsd",
    "ErodedLabeld",
    "FullLabeld",
    "FullyAnnotatedd",
    "GivenBoundsd",
    "PointLabeld",
    "ScribbleLabeld",
    "common_bounds",
]
