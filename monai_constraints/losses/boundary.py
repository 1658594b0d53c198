"""The boundary loss, on a signed distance map that was made beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..constraints.plain import plain
from ..keys import DISTANCE
from .base import LossOnProbabilities

__all__ = ["BoundaryMapLoss"]


class BoundaryMapLoss(LossOnProbabilities):
    r"""sum_q phi_G(q) s(q), averaged over voxels, classes and batch (thesis 4.5).

    phi_G is negative inside the class, so the loss is lowest, and negative, where the prediction is the class itself.
    It is linear in s: patches, slices of a map measured in 3D, and several classes need nothing special.

    On a binary task it needs a regional loss beside it: alone it collapses to an empty prediction (4.2). `WeightedSum`
    warns of that.

    Args:
        classes: the input's channels that the map's K channels belong to; all by default.
        softmax, sigmoid, temperature: what turns the input into probabilities; nothing by default.
        reduction: "mean"; "sum"; "none" for (B, K, *S).
        offset: sum_q phi_G(q) (s(q) - g(q)) instead, with g the mask: the same gradient, never negative, 0 at the
            mask itself. Easier to read in a log.

    Shapes: input (B, C, *S); distance (B, K, *S) float, from `SignedDistanceMapd`; voxels: a number, or one a sample.

    Raises:
        ValueError: for a map of integers, or of another shape than the chosen channels.

    Example:
        >>> loss = BoundaryMapLoss(classes=[1], softmax=True)
        >>> loss(logits, batch["distance"])
    """

    collapses_alone = True
    target_key = DISTANCE

    def __init__(
        self,
        *,
        classes: Sequence[int] | None = None,
        softmax: bool = False,
        sigmoid: bool = False,
        temperature: float = 1.0,
        reduction: Literal["mean", "sum", "none"] = "mean",
        offset: bool = False,
    ) -> None:
        super().__init__(
            classes=classes, softmax=softmax, sigmoid=sigmoid, temperature=temperature, reduction=reduction
        )
        self.offset, self.local = offset, reduction == "mean"

    def forward(self, input: Tensor, distance: Tensor, *, voxels: Tensor | int | None = None) -> Tensor:
        """The loss.

        Args:
            input, distance: see the class.
            voxels: of the whole volume that each patch of the batch was cut from, with `reduction="sum"`: each sample
                is divided by K * voxels. Added over all patches of a volume, that is the volume's mean.
        """
        distance = plain(distance)
        if not distance.is_floating_point():
            raise ValueError(
                f"BoundaryMapLoss: the map is {distance.dtype}, expected floating point; make it with "
                "SignedDistanceMapd, which keeps its fractions"
            )
        if voxels is not None and self.reduction != "sum":
            raise ValueError(f"BoundaryMapLoss: voxels goes with reduction='sum', not {self.reduction!r}")
        with self.probabilities(input) as p:
            p = self.select(p)
            if p.shape != distance.shape:
                raise ValueError(
                    f"BoundaryMapLoss: the map is {tuple(distance.shape)}, the chosen probabilities {tuple(p.shape)} "
                    f"of an input {tuple(input.shape)}; give the loss and SignedDistanceMapd the same classes=[...], "
                    "and crop image, label and map together"
                )
            distance = distance.float()
            loss = p * distance
            if self.offset:
                # phi * g: where phi is 0 the mask does not matter.
                loss = loss - distance.clamp_max(0)
            if voxels is None:
                return self.reduce(loss)
            whole = torch.as_tensor(voxels, dtype=torch.float32, device=loss.device) * loss.shape[1]
            return (loss.flatten(1).sum(1) / whole).sum()
