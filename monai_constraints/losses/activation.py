"""Logits to probabilities, once, in float32."""

from __future__ import annotations

import torch
from torch import Tensor

from ..constraints.plain import plain

__all__ = ["Activation"]


class Activation:
    """MONAI's loss convention: logits with `softmax=True` or `sigmoid=True`, probabilities otherwise.

    Args:
        softmax: over channels, softmax(temperature * logits).
        sigmoid: each channel, sigmoid(temperature * logits).
        temperature: multiplies the logits; 5 in the thesis's toy study sharpens the soft sizes.
        owner: name for errors.

    Raises:
        ValueError: for softmax and sigmoid together, or temperature <= 0.
    """

    def __init__(self, owner: str, *, softmax: bool = False, sigmoid: bool = False, temperature: float = 1.0) -> None:
        if softmax and sigmoid:
            raise ValueError(f"{owner}: softmax=True and sigmoid=True exclude each other; set one")
        if not temperature > 0:
            raise ValueError(f"{owner}: temperature must be > 0, got {temperature}")
        self.owner, self.softmax, self.sigmoid, self.temperature = owner, softmax, sigmoid, temperature

    def __call__(self, input: Tensor) -> Tensor:
        if input.ndim not in (4, 5):
            raise ValueError(
                f"{self.owner}: expected an input of (B, C, H, W) or (B, C, H, W, D), got {tuple(input.shape)}"
            )
        x = plain(input).float()
        if self.softmax:
            if x.shape[1] == 1:
                raise ValueError(f"{self.owner}: softmax=True on one channel is 1 everywhere; use sigmoid=True")
            return torch.softmax(x * self.temperature if self.temperature != 1 else x, dim=1)
        if self.sigmoid:
            return torch.sigmoid(x * self.temperature if self.temperature != 1 else x)
        return x
