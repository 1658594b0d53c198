"""Hybrid training (thesis 2.4.3) by the data alone: some cases are fully annotated, all others weakly."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Transform

from monai_constraints.keys import CASE, LABEL, WEAK, bounds_key

from .scribbles import FullLabeld

__all__ = ["FullyAnnotatedd"]


class FullyAnnotatedd(Transform):
    """Give the named cases their label as weak label, and bounds that bound nothing; leave all others alone.

    Put it after the transforms that make the weak labels and the bounds. Neither loss nor engine knows of it.

    Args:
        cases: the fully annotated ones, as in the sample's `case`.
        key: full label (1, *S), integer classes.
        output: the weak label that it replaces.
        bounds: names of the constraints, as in `<name>_bounds`; a sample need not have them.

    Raises:
        KeyError: a fully annotated sample has no label.
        ValueError: no case is given.
    """

    def __init__(
        self,
        cases: Sequence[str],
        *,
        key: str = LABEL,
        output: str = WEAK,
        bounds: Sequence[str] = ("size",),
    ) -> None:
        if isinstance(cases, str) or not cases:
            raise ValueError(f"FullyAnnotatedd: cases={cases!r}; give a list of one case or more")
        self.cases = frozenset(cases)
        self.annotate = FullLabeld(key=key, output=output)
        self.keys = tuple(map(bounds_key, bounds))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if data.get(CASE) not in self.cases:
            return dict(data)
        given = {key: data[key] for key in self.keys if key in data}
        free = {key: bounds.new_tensor([-torch.inf, torch.inf]).expand_as(bounds) for key, bounds in given.items()}
        return {**self.annotate(data), **{key: bounds.clone() for key, bounds in free.items()}}
