"""Soft Dice of the labelled voxels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from monai.losses import MaskedDiceLoss
from torch import Tensor, nn

from .activation import Activation
from .weak_target import checked_target, class_channels, listed_classes

__all__ = ["PartialDice"]


class PartialDice(nn.Module):
    r"""1 - 2 sum_{p in Omega_L} s_pk y_pk / (sum_{p in Omega_L} s_pk + y_pk), the mean over classes k.

    Omega_L are the labelled voxels; what the network says elsewhere does not count. MONAI's `MaskedDiceLoss` on the
    form of target that our losses share: one integer map in which a value means "unknown".

    Args:
        classes: labels that count, all by default. A labelled voxel of another class still says that it is none of
            these, so keep the background's labels in the map.
        ignore: the value of unknown voxels.
        softmax, sigmoid, temperature: what turns the input into probabilities; one sigmoid channel is the foreground.
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
        ignore: int = 255,
        softmax: bool = False,
        sigmoid: bool = False,
        temperature: float = 1.0,
        batch: bool = True,
        reduction: Literal["mean", "sum", "none"] = "mean",
        smooth: float = 1e-5,
    ) -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"PartialDice: reduction={reduction!r}; choose mean, sum or none")
        self.activation = Activation("PartialDice", softmax=softmax, sigmoid=sigmoid, temperature=temperature)
        self.classes = listed_classes(classes, ignore, "PartialDice")
        self.ignore, self.reduction = ignore, reduction
        self.dice = MaskedDiceLoss(batch=batch, reduction=reduction, smooth_nr=smooth, smooth_dr=smooth)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        target = checked_target(target, input, self.ignore, "PartialDice")
        with torch.autocast(input.device.type, enabled=False):
            p, classes = class_channels(self.activation(input), self.classes, "PartialDice")
            truth = torch.cat([target == k for k in classes], dim=1).to(p.dtype)
            loss = self.dice(p, truth, (target != self.ignore).to(p.dtype))
        return loss.reshape(loss.shape[: loss.ndim - input.ndim + 2]) if self.reduction == "none" else loss
