"""Soft Dice of the labelled voxels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..keys import UNKNOWN
from .labelled import LossOnLabelled

__all__ = ["PartialDice"]


class PartialDice(LossOnLabelled):
    r"""1 - 2 sum_{p in Omega_L} s_pk y_pk / (sum_{p in Omega_L} s_pk + y_pk), the mean over classes k.

    Omega_L are the labelled voxels; what the network says elsewhere does not count. The numbers are those of MONAI's
    `MaskedDiceLoss`, which has no form that adds over patches.

    Args:
        classes: labels that count, all by default. A labelled voxel of another class still says that it is none of
            these, so keep the background's labels in the map.
        unknown, softmax, sigmoid, temperature: as in `PartialCrossEntropy`.
        batch: one Dice for each class over all samples of the batch. False: one for each sample, in which a class
            without a labelled voxel costs 1 if anything is predicted on the labels of the others, however little.
        reduction: "mean" over classes (and samples, with batch=False); "sum"; "none" for (K,) or (B, K).
        smooth: added to numerator and denominator, so that nothing labelled is 0, with zero gradient.

    Shapes: input (B, C, *S), target (B, 1, *S) integer.

    Raises:
        ValueError: where the shapes differ, the target is not integer, or a class is no channel of the input.

    Source: Milletari et al., V-Net, 3DV 2016, for the soft Dice; restricted to what is labelled.
    """

    def __init__(
        self,
        *,
        classes: Sequence[int] | None = None,
        unknown: int = UNKNOWN,
        softmax: bool = False,
        sigmoid: bool = False,
        temperature: float = 1.0,
        batch: bool = True,
        reduction: Literal["mean", "sum", "none"] = "mean",
        smooth: float = 1e-5,
    ) -> None:
        super().__init__(
            classes=classes, unknown=unknown, softmax=softmax, sigmoid=sigmoid, temperature=temperature,
            reduction=reduction,
        )  # fmt: skip
        self.batch, self.smooth = batch, smooth

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return self.of_sums(self.sums(input, target), shape=input.shape[2:])

    def sums(self, input: Tensor, target: Tensor) -> Tensor:
        """sum s y and sum s + y over the labelled voxels of each sample and class, (B, K, 2)."""
        target = self.labels(target, input)
        with self.probabilities(input) as p:
            p, classes = self.channels(p)
            truth = torch.cat([target == k for k in classes], dim=1).to(p.dtype)
            p = p * (target != self.unknown)
            both = [(p * truth).flatten(2).sum(2), p.flatten(2).sum(2) + truth.flatten(2).sum(2)]
            return torch.stack(both, dim=2)

    def of_sums(self, sums: Tensor, *, shape: Sequence[int]) -> Tensor:
        """The loss of whole images, from their sums."""
        overlap, total = (sums.sum(0) if self.batch else sums).unbind(-1)
        return self.reduce(1 - (2 * overlap + self.smooth) / (total + self.smooth))
