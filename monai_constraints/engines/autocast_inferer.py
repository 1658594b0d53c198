"""Mixed precision on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SimpleInferer
from torch import Tensor

__all__ = ["AutocastInferer", "fast_bfloat16"]


class AutocastInferer(SimpleInferer):
    """Runs the network under bfloat16 autocast and returns float32 logits.

    MONAI's `amp` is for CUDA only and needs a gradient scaler; bfloat16 has float32's range, so it needs none, and
    CPUs with instructions for it gain too.

    Args:
        enabled: off runs the network in float32; :func:`fast_bfloat16` says where on is faster.
    """

    def __init__(self, enabled: bool = True) -> None:
        super().__init__()
        self.enabled = enabled

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.enabled):
            return super().__call__(inputs, network, *args, **kwargs).float()


def fast_bfloat16(device: torch.device | str) -> bool:
    """Whether `device` computes convolutions in bfloat16 itself.

    A CPU that does not is an order of magnitude slower in bfloat16 than in float32, because PyTorch then leaves
    oneDNN. One with AVX-512 and no bfloat16 instructions counts as fast, since oneDNN takes it; we have not measured
    such a processor. Devices other than CUDA and CPU count as not.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # the very question that PyTorch asks before it hands bfloat16 to oneDNN
    return kind == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
