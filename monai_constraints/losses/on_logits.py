"""Losses that want logits, as terms of a sum that hands out probabilities."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..constraints.network_output import refuse_several_outputs
from .base import PROBABILITY_FLOOR

__all__ = ["OnLogits"]


class OnLogits(nn.Module):
    """loss(log s, target): softmax of log s is s again, and with one channel sigmoid of log s - log(1 - s) is.

    `WeightedSum` turns logits into probabilities once and hands these to every term. Most of MONAI's losses take them
    as they are, with labels of integers where `to_onehot_y=True`: `GeneralizedDiceLoss`, `HausdorffDTLoss`. Those that
    want logits go in here, with their `softmax=True` or `use_softmax=True`: `FocalLoss`, `DiceCELoss`.

    Args:
        loss: called as loss(logits, target).
        sigmoid: the channels are independent, or there is one.

    Shapes: probabilities (B, C, *S); target as the loss wants it.

    Example:
        >>> Term(OnLogits(FocalLoss(gamma=2, use_softmax=True, to_onehot_y=True)), "label")
    """

    def __init__(self, loss: nn.Module, *, sigmoid: bool = False) -> None:
        super().__init__()
        self.loss, self.sigmoid = loss, sigmoid
        self.register_forward_pre_hook(refuse_several_outputs, with_kwargs=True)

    def forward(self, probabilities: Tensor, target: Tensor) -> Tensor:
        logits = torch.log(probabilities.clamp_min(PROBABILITY_FLOOR))
        if self.sigmoid:
            logits = logits - torch.log((1 - probabilities).clamp_min(PROBABILITY_FLOOR))
        return self.loss(logits, target)
