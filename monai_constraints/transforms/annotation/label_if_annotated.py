"""The weak label where only some cases are annotated: the whole label, or nothing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Transform

from monai_constraints.keys import ANNOTATED, IMAGE, UNKNOWN, WEAK

from .scribbles import FullLabeld

__all__ = ["LabelIfAnnotatedd"]


class LabelIfAnnotatedd(Transform):
    """`weak` is the label of a case that says `annotated`, and not known anywhere in all others (thesis 5.1).

    A label that another case has is not looked at. For volumes or slices; the loss knows nothing of the difference.

    Args:
        output: the weak label (1, *S) uint8.

    Raises:
        KeyError: an annotated case without a label; a case without an image.
        ValueError: a label as in `FullLabeld`.
    """

    def __init__(self, *, output: str = WEAK) -> None:
        self.output, self.whole = output, FullLabeld(output=output)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if data.get(ANNOTATED):
            return self.whole(data)
        grid = torch.as_tensor(data[IMAGE]).shape[1:]
        return {**data, self.output: torch.full((1, *grid), UNKNOWN, dtype=torch.uint8)}
