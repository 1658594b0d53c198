"""Cross-entropy of the labelled voxels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from .activation import Activation
from .weak_target import checked_target, listed_classes

__all__ = ["PartialCrossEntropy"]

# The published code adds 1e-10, under which a confident mistake has no gradient; this is still a normal float32.
PROBABILITY_FLOOR = 1e-30


class PartialCrossEntropy(nn.Module):
    r"""H(s) = -sum_{p in Omega_L} log s_{p, y_p}, over the labelled voxels Omega_L (thesis 2.4.3).

    Args:
        classes: labels that count; a label of another class is ignored like an unknown one. All by default. The weak
            recipes of the thesis list the foreground alone.
        ignore: the value of unknown voxels.
        softmax, sigmoid, temperature: what turns the input into probabilities; one sigmoid channel is the foreground.
        reduction: "mean" over the labelled voxels of the whole batch, 0 (with zero gradient) where there are none;
            "voxel", the sum over all voxels of the batch, labelled or not, so that a labelled voxel weighs the same
            wherever it is (hybrid training: elsewhere the few points of one sample outweigh the full label of
            another, and the structure comes out too large); "sample", the mean of the samples' own means, as batches
            of one image in the thesis; "sum"; "none" for (B, 1, *S).

    Shapes: input (B, C, *S), target (B, 1, *S) integer.

    Raises:
        ValueError: where the shapes differ or the target is not integer.
    """

    def __init__(
        self,
        *,
        classes: Sequence[int] | None = None,
        ignore: int = 255,
        softmax: bool = False,
        sigmoid: bool = False,
        temperature: float = 1.0,
        reduction: Literal["mean", "voxel", "sample", "sum", "none"] = "mean",
    ) -> None:
        super().__init__()
        if reduction not in ("mean", "voxel", "sample", "sum", "none"):
            raise ValueError(f"PartialCrossEntropy: reduction={reduction!r}; choose mean, voxel, sample, sum or none")
        self.activation = Activation("PartialCrossEntropy", softmax=softmax, sigmoid=sigmoid, temperature=temperature)
        self.classes = listed_classes(classes, ignore, "PartialCrossEntropy")
        self.ignore, self.reduction = ignore, reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        target = checked_target(target, input, self.ignore, "PartialCrossEntropy")
        with torch.autocast(input.device.type, enabled=False):
            p = self.activation(input)
            if p.shape[1] == 1:
                # 1 - p is exactly 0 from a logit of 17 on, without gradient; sigmoid(-x) is not.
                p = torch.cat([self.activation(-input) if self.activation.sigmoid else 1 - p, p], dim=1)
            target = target.long()
            known = target != self.ignore
            if self.classes is not None:
                known = known & torch.isin(target, torch.tensor(self.classes, device=target.device))
            chosen = p.gather(1, torch.where(known, target, 0))
            loss = torch.where(known, -torch.log(chosen + PROBABILITY_FLOOR), 0.0)
            if self.reduction == "none":
                return loss
            if self.reduction == "sample":
                counts = known.flatten(1).sum(1)
                return (loss.flatten(1).sum(1) / counts.clamp_min(1)).sum() / (counts > 0).sum().clamp_min(1)
            if self.reduction == "voxel":
                return loss.mean()
            return loss.sum() / known.sum().clamp_min(1) if self.reduction == "mean" else loss.sum()
