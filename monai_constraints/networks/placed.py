"""A network where it computes, with its weights in the order that is fast there."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["placed"]


def placed(network: nn.Module, device: torch.device | str) -> nn.Module:
    """The network itself on this device, with the channels of its convolutions last, in 2D or in 3D.

    PyTorch has another memory format for each, and refuses that of 2D for weights of 3D.

    Args:
        network: convolutions of two or of three dimensions.
        device: where it goes.
    """
    volumes = any(parameter.ndim == 5 for parameter in network.parameters())
    memory_format = torch.channels_last_3d if volumes else torch.channels_last
    return network.to(device, memory_format=memory_format)  # type: ignore[call-overload,no-any-return]
