"""Consistency: what the network is sure of, it has to find again in a harder view of the same image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..constraints.plain import plain
from ..keys import IMAGE
from .activation import Activation
from .base import PROBABILITY_FLOOR, LossOnProbabilities

__all__ = ["ConsistencyLoss"]


class ConsistencyLoss(LossOnProbabilities):
    r"""-1/|Omega| sum_p [max_k s_pk >= threshold] log s'_{p, y_p}, with y_p = argmax_k s_pk: FixMatch for pixels.

    s are the probabilities of the image, held fixed, and s' those of a view of it: other intensities (`view`), and in
    some samples a box that is cut from another image of the batch, with its y and max s (CutMix). A regularizer R(s)
    of thesis 1.4.2 for all that is not labelled: constraints and labels of a few say what is right, and this carries it
    to images that look different. It doubles the time of a step.

    Args:
        network: the one that is trained; its parameters stay its own.
        inferer: called as inferer(image, network), for mixed precision; None: the network itself.
        view: batch transform of {"image": image}, such as a Compose of `BatchGamma` and `BatchIntensity`; None: only
            boxes are cut.
        threshold: how sure, from 0 to 1. Under a temperature it is met sooner.
        cut: the share of samples with a box; each of its sides is a fifth to seven tenths of the image's.
        softmax: of the input, which holds probabilities by default.
        temperature: of the softmax of the view's logits, and of the input's with `softmax`. As a term of `WeightedSum`
            it needs the temperature of that.

    Shapes: input (B, C, *S) with C >= 2, image (B, C', *S); result a scalar.

    Raises:
        ValueError: for a single channel, an image that does not fit the input, or a setting out of range.

    Source: Sohn et al., FixMatch, NeurIPS 2020; for segmentation, French et al., Semi-supervised semantic segmentation
    needs strong, varied perturbations, BMVC 2020.

    Example:
        >>> loss = ConsistencyLoss(network, softmax=True)
        >>> loss(network(batch["image"]), batch["image"])
    """

    target_key = IMAGE
    local = True
    reductions = ("mean",)

    def __init__(
        self,
        network: nn.Module,
        *,
        inferer: Callable[[Tensor, nn.Module], Tensor] | None = None,
        view: Callable[[dict[str, Any]], Any] | None = None,
        threshold: float = 0.95,
        cut: float = 0.5,
        softmax: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(softmax=softmax, temperature=temperature)
        if not 0 <= threshold <= 1 or not 0 <= cut <= 1:
            raise ValueError(f"ConsistencyLoss: threshold={threshold} and cut={cut} must be from 0 to 1")
        # In a tuple it is no submodule, whose weights a checkpoint of the loss would hold a second time. Without its
        # wrapper the second forward of a step does not exchange buffers again; the gradients are averaged over
        # processes all the same, by hooks on the parameters.
        self._network = (network.module if isinstance(network, DistributedDataParallel) else network,)
        self.inferer, self.view, self.threshold, self.cut = inferer, view, threshold, cut
        self.view_activation = Activation("ConsistencyLoss", softmax=True, temperature=temperature)

    def forward(self, input: Tensor, image: Tensor) -> Tensor:
        image = plain(image)
        if input.shape[1] < 2 or input.shape[0] != image.shape[0] or input.shape[2:] != image.shape[2:]:
            raise ValueError(
                f"ConsistencyLoss: input {tuple(input.shape)} and image {tuple(image.shape)}; expected (B, C, *S) with "
                "C >= 2 and (B, C', *S), augmented together"
            )
        sure, label = self.activation(input).detach().max(1, keepdim=True)
        view = image if self.view is None else self.view({"image": image})["image"]
        box = self._boxes(image)
        view, sure, label = (torch.where(box, x.roll(1, 0), x) for x in (view, sure, label))
        (network,) = self._network
        p = self.view_activation(network(view) if self.inferer is None else self.inferer(view, network))
        loss = -torch.log(p.gather(1, label) + PROBABILITY_FLOOR)
        return torch.where(sure >= self.threshold, loss, 0.0).mean()

    def _boxes(self, image: Tensor) -> Tensor:
        """Where each sample shows another one: (B, 1, *S).

        MONAI's CutMix draws on the CPU, from a generator that `EpochSeed` does not seed, starts all boxes of a batch at
        one place, and has to know the batch size before.
        """
        count, _, *shape = image.shape
        inside = (torch.rand(count, device=image.device) < self.cut).reshape(-1, *[1] * (image.ndim - 1))
        for axis, size in enumerate(shape, start=2):
            side, place = torch.rand(2, *inside.shape[:1], *[1] * (image.ndim - 1), device=image.device)
            side = (0.2 + 0.5 * side) * size
            start = place * (size - side)
            along = [-1 if d == axis else 1 for d in range(image.ndim)]
            position = torch.arange(size, device=image.device).reshape(along)
            inside = inside & (position >= start) & (position < start + side)
        return inside
