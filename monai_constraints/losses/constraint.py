"""The constraint loss: statistic x bounds x penalty x pooling."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ..constraints import (
    Groups,
    Multipliers,
    Penalty,
    Pooling,
    PoolingName,
    Statistic,
    get_pooling,
    sides,
)
from .activation import Activation

__all__ = ["ConstraintLoss"]


class ConstraintLoss(nn.Module):
    r"""psi(a - f(s)) + psi(f(s) - b), the soft form of a <= f(s) <= b (thesis 2.2, 3.8).

    The terms of all classes, values and sides are added, those of the batch averaged (`reduction="batchmean"`), and
    the sum divided by the number of voxels of one sample, as the published weights (1e-2) expect.

    Args:
        statistic: f, with its list of classes.
        penalty: psi, or explicit `Multipliers`, which need the samples' `index` too.
        softmax, sigmoid, temperature: what turns the input into probabilities; nothing by default.
        pooling: who shares one constraint: "image", "group" (the slices of a volume), or a `Pooling`.
        divide_by_voxels: divide by |Omega| of one sample (one slice where slices are grouped).
        reduction: "batchmean" as above (the published log-barrier code up to the batch, which is 1 there); "mean" over
            samples, classes and values (the published size loss); "sum"; "none" for (G, K, M, 2).

    Shapes: input (B, C, *S); bounds (B, K, M, 2); image (B, C', *S), for statistics of intensities; group: B names;
    index: (B,) integers, the samples' places in the training set, for explicit multipliers.

    Raises:
        ValueError: where the bounds do not fit the statistic's classes and values, or multipliers lack the index.

    Example:
        >>> loss = ConstraintLoss(Size(classes=[1]), LogBarrier(t=5), softmax=True)
        >>> loss(logits, batch["size_bounds"])
    """

    def __init__(
        self,
        statistic: Statistic,
        penalty: Penalty,
        *,
        softmax: bool = False,
        sigmoid: bool = False,
        temperature: float = 1.0,
        pooling: PoolingName | Pooling = "image",
        divide_by_voxels: bool = True,
        reduction: Literal["batchmean", "mean", "sum", "none"] = "batchmean",
    ) -> None:
        super().__init__()
        if reduction not in ("batchmean", "mean", "sum", "none"):
            raise ValueError(f"ConstraintLoss: reduction={reduction!r}; choose batchmean, mean, sum or none")
        self.statistic, self.penalty = statistic, penalty
        self.activation = Activation("ConstraintLoss", softmax=softmax, sigmoid=sigmoid, temperature=temperature)
        self.pooling = get_pooling(pooling)
        self.divide_by_voxels, self.reduction = divide_by_voxels, reduction

    def residuals(
        self, probabilities: Tensor, bounds: Tensor, *, image: Tensor | None = None, group: Groups | None = None
    ) -> tuple[Tensor, Tensor]:
        """z (G, K, M, 2), and the sign with which its sides contain f: 0 where they constrain nothing."""
        sums = self.statistic.measure(probabilities, image=image)
        pooled, bounds = self.pooling(sums, bounds, group)
        centre = self.statistic.centre(probabilities.shape[2:], sums.device)
        value = self.statistic.value(pooled, centre)
        return sides(value, bounds)

    def forward(
        self,
        input: Tensor,
        bounds: Tensor,
        *,
        image: Tensor | None = None,
        group: Groups | None = None,
        index: Tensor | None = None,
    ) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            probabilities = self.activation(input)
            z, sign = self.residuals(probabilities, bounds, image=image, group=group)
            psi = self._penalised(z, group, index)
            parts = math.prod(probabilities.shape[2:]) if self.divide_by_voxels else 1
            if self.reduction == "batchmean":
                parts *= len(psi)
            elif self.reduction == "mean":
                parts *= psi.numel() // 2
            weight = sign.abs() / parts
            return psi * weight if self.reduction == "none" else torch.dot(psi.flatten(), weight.flatten())

    def _penalised(self, z: Tensor, group: Groups | None, index: Tensor | None) -> Tensor:
        if not isinstance(self.penalty, Multipliers):
            return self.penalty(z)
        if index is None:
            raise ValueError(
                f"ConstraintLoss: {type(self.penalty).__name__} keeps a multiplier for each sample and needs to know "
                "which these are; pass index=batch['index'], in a Term arguments={'index': 'index'}"
            )
        return self.penalty(z, self.pooling.representatives(index, group))
