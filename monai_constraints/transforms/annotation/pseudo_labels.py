"""What a trained network finds in cases without annotation, as if somebody had marked it (thesis 5.2)."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Transform
from torch import nn

from ...constraints.plain import plain
from ...keys import ANNOTATED, IMAGE, UNKNOWN, WEAK

__all__ = ["PseudoLabeld"]


class PseudoLabeld(Transform):
    """Proposals: `weak` = argmax_k S(x | theta) in cases that do not say `annotated` (thesis 5.2).

    As published, of the foreground alone: a pixel of the background is not known. Volumes on the network's grid, slice
    by slice, once. The weights are those of a finished training on the annotated cases, of its last epoch: the
    published ones were chosen by the Dice of the reported patients, and nothing of that kind is offered here.

    Args:
        network: of the same architecture, and nobody else's: it gets the weights.
        weights: `model.pt` of that training.
        axis: of the slices, from the end: -1 is Z.
        background: whether pixels without a structure become background instead of not known.

    Raises:
        FileNotFoundError: no such weights.
    """

    def __init__(
        self, network: nn.Module, weights: str | os.PathLike[str], *, axis: int = -1, background: bool = False
    ) -> None:
        if not os.path.isfile(weights):
            raise FileNotFoundError(
                f"PseudoLabeld: no {weights}; train the annotated cases alone first (row full_few), and name its "
                "model.pt"
            )
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.network, self.axis, self.background = network.eval(), axis, background

    @torch.inference_mode()
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if data.get(ANNOTATED):
            return dict(data)
        image = plain(torch.as_tensor(data[IMAGE]))
        axis = self.axis if self.axis < 0 else self.axis + 1
        slices = image.movedim(axis, 0)
        device = next(self.network.parameters()).device
        found = self.network(slices.to(device)).argmax(1, keepdim=True).to("cpu", torch.uint8)
        marked = found if self.background else torch.where(found > 0, found, UNKNOWN).to(torch.uint8)
        return {**data, WEAK: marked.movedim(0, axis).clone()}
