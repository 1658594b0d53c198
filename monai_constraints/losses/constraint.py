"""The constraint loss: statistic x bounds x penalty x pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..constraints import Groups, Patch, Penalty, Pooling, PoolingName, Statistic, get_pooling, sides
from .base import LossOnProbabilities

__all__ = ["ConstraintLoss"]


class ConstraintLoss(LossOnProbabilities):
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

    Shapes: input (B, C, *S); bounds (B, K, M, 2); image (B, C', *S), for statistics of intensities; boxes
    (B, K, J, D, 2), for those of boxes; group: B names; index: (B,) integers, the samples' places in the training set,
    for explicit multipliers.

    Raises:
        ValueError: where the bounds do not fit the statistic's classes and values, or something that statistic,
            pooling or penalty needs is missing.

    Example:
        >>> loss = ConstraintLoss(Size(classes=[1]), LogBarrier(t=5), softmax=True)
        >>> loss(logits, batch["size_bounds"])
    """

    target_key = None
    reductions = ("batchmean", "mean", "sum", "none")

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
        super().__init__(softmax=softmax, sigmoid=sigmoid, temperature=temperature, reduction=reduction)
        self.statistic, self.penalty, self.pooling = statistic, penalty, get_pooling(pooling)
        self.divide_by_voxels = divide_by_voxels
        asked = {
            "image": statistic.needs_image,
            "boxes": statistic.needs_boxes,
            "group": self.pooling.needs_group,
            "index": penalty.needs_index,
        }
        self.needs = tuple(name for name, needed in asked.items() if needed)

    def forward(
        self,
        input: Tensor,
        bounds: Tensor,
        *,
        image: Tensor | None = None,
        boxes: Tensor | None = None,
        group: Groups | None = None,
        index: Tensor | None = None,
    ) -> Tensor:
        sums = self.sums(input, bounds, image=image, boxes=boxes)
        return self.of_sums(sums, bounds, shape=input.shape[2:], group=group, index=index)

    def sums(
        self,
        input: Tensor,
        bounds: Tensor | None = None,
        *,
        image: Tensor | None = None,
        boxes: Tensor | None = None,
        patch: Patch | None = None,
    ) -> Tensor:
        """The statistic's sums (B, K, F), which add over the patches of an image; bounds say nothing of them."""
        with self.probabilities(input) as p:
            return self.statistic.measure(p, image=image, boxes=boxes, patch=patch)

    def residuals(
        self, sums: Tensor, bounds: Tensor, *, shape: Sequence[int] | Tensor, group: Groups | None = None
    ) -> tuple[Tensor, Tensor]:
        """z (G, K, M, 2) of whole images, and the sign with which its sides contain f: 0 where they bound nothing."""
        if bounds.ndim != 4 or len(bounds) != len(sums):
            raise ValueError(
                f"ConstraintLoss: bounds {tuple(bounds.shape)} for B={len(sums)} samples and classes="
                f"{self.statistic.classes}; make them (B, K, M, 2), with the same statistic"
            )
        pooled, bounds = self.pooling(sums, bounds, group)
        where = Patch(shape, shape) if isinstance(shape, Tensor) else shape
        return sides(self.statistic.value(pooled, self.statistic.centre(where, sums.device)), bounds)

    def of_sums(
        self,
        sums: Tensor,
        bounds: Tensor,
        *,
        shape: Sequence[int] | Tensor,
        group: Groups | None = None,
        index: Tensor | None = None,
    ) -> Tensor:
        """The loss of whole images from their sums; shape is theirs, (*S) or (B, D) where they differ."""
        with torch.autocast(sums.device.type, enabled=False):
            if isinstance(shape, Tensor):  # a group goes by its first sample
                shape = self.pooling.representatives(shape.to(sums.device), group)
            z, sign = self.residuals(sums, bounds, shape=shape, group=group)
            psi = self.penalty(z, None if index is None else self.pooling.representatives(index, group))
            parts = {"batchmean": len(psi), "mean": psi.numel() // 2}.get(self.reduction, 1)
            if not self.divide_by_voxels:
                weight = sign.abs() / parts
            elif isinstance(shape, Tensor):
                weight = sign.abs() / (parts * shape.prod(1).reshape(-1, 1, 1, 1))
            else:
                weight = sign.abs() / (parts * math.prod(shape))
            return psi * weight if self.reduction == "none" else torch.dot(psi.flatten(), weight.flatten())
