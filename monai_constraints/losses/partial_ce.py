"""Cross-entropy of the labelled voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..constraints.network_output import select_classes, with_background
from ..keys import UNKNOWN
from .base import PROBABILITY_FLOOR
from .labelled import LossOnLabelled

__all__ = ["PartialCrossEntropy"]


class PartialCrossEntropy(LossOnLabelled):
    r"""H(s) = -sum_{p in Omega_L} log s_{p, y_p}, over the labelled voxels Omega_L (thesis 2.4.3).

    Args:
        classes: labels that count; a label of another class is ignored like an unknown one. All by default. The weak
            recipes of the thesis list the foreground alone.
        unknown: the value of voxels without annotation.
        softmax, sigmoid, temperature: what turns the input into probabilities; one sigmoid channel is the foreground.
        reduction: "mean" over the labelled voxels of the whole batch, 0 (with zero gradient) where there are none;
            "voxel", the sum over all voxels of the batch, labelled or not, so that a labelled voxel weighs the same
            wherever it is (hybrid training: elsewhere the few points of one sample outweigh the full label of
            another, and the structure comes out too large); "sample", the mean of the samples' own means, as batches
            of one image in the thesis; "sum"; "none" for (B, 1, *S).

    Shapes: input (B, C, *S), target (B, 1, *S) integer.

    Raises:
        ValueError: where the shapes differ, the target is not integer, or holds a value that is no class.

    Source: Kervadec et al., Constrained-CNN losses for weakly supervised segmentation, 2019.
    """

    reductions = ("mean", "voxel", "sample", "sum", "none")

    def __init__(
        self,
        *,
        classes: Sequence[int] | None = None,
        unknown: int = UNKNOWN,
        softmax: bool = False,
        sigmoid: bool = False,
        temperature: float = 1.0,
        reduction: Literal["mean", "voxel", "sample", "sum", "none"] = "mean",
    ) -> None:
        super().__init__(
            classes=classes, unknown=unknown, softmax=softmax, sigmoid=sigmoid, temperature=temperature,
            reduction=reduction,
        )  # fmt: skip

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        loss, known = self._elements(input, target)
        if self.reduction == "none":
            return loss
        rows = len(loss) if self.reduction == "sample" else 1
        return self._finish(loss.reshape(rows, -1).sum(1), known.reshape(rows, -1).sum(1), loss.numel())

    def sums(self, input: Tensor, target: Tensor) -> Tensor:
        """The sum over the labelled voxels of each sample, and their number, (B, 2): those of patches add."""
        loss, known = self._elements(input, target)
        return torch.stack([loss.flatten(1).sum(1), known.flatten(1).sum(1)], dim=1)

    def of_sums(self, sums: Tensor, *, shape: Sequence[int]) -> Tensor:
        """The loss of whole images of this shape, from their sums."""
        total, count = sums.unbind(1)
        return self._finish(total, count, len(sums) * math.prod(shape))

    def _elements(self, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        target = self.labels(target, input)
        with self.probabilities(input) as p:
            if p.shape[1] == 1:
                # 1 - p is exactly 0 from a logit of 17 on, without gradient; sigmoid(-x) is not.
                p = torch.cat([self.activation(-input), p], dim=1) if self.activation.sigmoid else p
            p = with_background(p)
            if self.classes is not None:
                select_classes(p, self.classes, owner=self.name)  # whether they are there
            if self.classes is not None and len(self.classes) == 1:
                known = target == self.classes[0]
                chosen = p[:, self.classes]
            else:
                known = target != self.unknown
                if self.classes is not None:
                    known = torch.cat([target == k for k in self.classes], dim=1).any(1, keepdim=True)
                chosen = p.gather(1, torch.where(known, target.long(), 0))
            return torch.where(known, -torch.log(chosen + PROBABILITY_FLOOR), 0.0), known

    def _finish(self, total: Tensor, count: Tensor, voxels: int) -> Tensor:
        if self.reduction == "sample":
            return (total / count.clamp_min(1)).sum() / (count > 0).sum().clamp_min(1)
        if self.reduction == "voxel":
            return total.sum() / voxels
        return total.sum() / count.sum().clamp_min(1) if self.reduction == "mean" else total.sum()
