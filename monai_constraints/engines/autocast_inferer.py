"""Mixed precision on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SimpleInferer
from torch import Tensor

__all__ = ["AutocastInferer"]


class AutocastInferer(SimpleInferer):
    """Runs the network under bfloat16 autocast and returns float32 logits.

    MONAI's `amp` is for CUDA only and needs a gradient scaler; bfloat16 has float32's range, so it needs none, and
    CPUs with matrix instructions gain from it too.

    Args:
        enabled: off runs the network in float32.
    """

    def __init__(self, enabled: bool = True) -> None:
        super().__init__()
        self.enabled = enabled

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.enabled):
            return super().__call__(inputs, network, *args, **kwargs).float()
