"""Tensors without what MONAI keeps beside them."""

from __future__ import annotations

from torch import Tensor

__all__ = ["plain"]


def plain(x: Tensor) -> Tensor:
    """The tensor itself: a MetaTensor's bookkeeping costs ten times the operation."""
    return x.as_subclass(Tensor) if type(x) is not Tensor else x
