"""Labels as they come from anywhere, as tensors that PyTorch computes with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["native", "of_classes"]

# PyTorch compares no wide unsigned integers, and for an int8 of -1 says that it is 255.
SIGNED = {
    torch.bool: torch.uint8,
    torch.int8: torch.int16,
    torch.uint16: torch.int32,
    torch.uint32: torch.int64,
    torch.uint64: torch.int64,
}


def native(array: np.ndarray) -> np.ndarray:
    """The same array in this machine's byte order and in a row in memory, without which PyTorch takes none."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def of_classes(value: Any) -> Tensor:
    """A map of classes as a tensor, MetaTensors included, in a type in which values can be compared with 255.

    Args:
        value: a tensor or an array of any integer type, strides and byte order; floats stay floats.
    """
    tensor = torch.as_tensor(native(value) if isinstance(value, np.ndarray) else value)
    return tensor.to(SIGNED[tensor.dtype]) if tensor.dtype in SIGNED else tensor
