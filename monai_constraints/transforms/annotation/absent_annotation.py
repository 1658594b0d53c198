"""A tag that says "not here" says of every pixel what it is: background."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Transform

from monai_constraints.keys import WEAK, bounds_key

__all__ = ["AbsentAnnotatedd"]


class AbsentAnnotatedd(Transform):
    """Label every pixel as background where the bounds say that no structure is there; leave all others alone.

    An absent class has the bounds [0, 0] (thesis 2.5 to 2.7). The penalty alone asks for that softly: it counts
    pixels, so a few false ones cost less than a tenth of a large structure. Labels ask for it as full supervision
    does, and know no more. A sample counts where all its classes are absent. Put it after the transforms that make the
    weak labels and the bounds, and let the cross-entropy count class 0 too, with `reduction="sample"`: the few marks
    of the other samples would otherwise drown in this background.

    Args:
        output: the weak label (1, *S) that is replaced.
        bounds: names of the constraints on sizes, as in `<name>_bounds` (K, 1, 2).

    Raises:
        KeyError: a sample without weak label or bounds.
        ValueError: no constraint is given.
    """

    def __init__(self, *, output: str = WEAK, bounds: Sequence[str] = ("size",)) -> None:
        if isinstance(bounds, str) or not bounds:
            raise ValueError(f"AbsentAnnotatedd: bounds={bounds!r}; give a list of one constraint or more")
        self.output, self.keys = output, tuple(map(bounds_key, bounds))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        missing = [key for key in (self.output, *self.keys) if key not in data]
        if missing:
            raise KeyError(
                f"AbsentAnnotatedd: the sample lacks {missing}, it has {sorted(map(str, data))}; put the transforms"
                " that make them before"
            )
        if all(bool((data[key][..., 1] <= 0).all()) for key in self.keys):
            return {**data, self.output: torch.zeros_like(data[self.output])}
        return dict(data)
