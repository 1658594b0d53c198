"""Coordinates of voxels, kept for the shapes that come again."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["CACHED_SHAPES", "centre_of", "centred_axes"]

CACHED_SHAPES = 4  # feature maps are as large as the image: validation on native shapes must not pile them up


@lru_cache(maxsize=CACHED_SHAPES)
@torch.inference_mode(False)  # what a validation caches, a training must be able to differentiate with
def centre_of(shape: tuple[int, ...], device: torch.device) -> Tensor:
    return (torch.tensor(shape, dtype=torch.float32) - 1).div(2).to(device)


@lru_cache(maxsize=CACHED_SHAPES)
def centred_axes(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, ...]:
    # Centred, because squares of coordinates of several hundreds cost float32 its last digits.
    axes = [torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2 for n in shape]
    return tuple(torch.meshgrid(*axes, indexing="ij"))
