"""Boxes as products of intervals of voxels: clipped, as indicators along each axis, and as a mask."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["box_mask", "clipped", "count_of", "indicators"]


def clipped(boxes: Tensor, spatial: Sequence[int]) -> Tensor:
    """Boxes (..., D, 2) cut at the borders of an image of this shape, int64."""
    return torch.minimum(boxes.long().clamp_min(0), _shape(tuple(spatial), boxes.device))


def count_of(spatial: Sequence[int], width: int) -> list[int]:
    """How many bands of this width a box may have along each axis of an image."""
    return [-(-int(side) // width) for side in spatial]


def indicators(boxes: Tensor, spatial: Sequence[int], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Of each axis, where the interval of each box is: (..., S_a) of boxes (..., D, 2)."""
    places = [_places(side, boxes.device) for side in spatial]
    ends = boxes.unsqueeze(-1)  # (..., D, 2, 1)
    return [
        ((p >= ends[..., axis, 0, :]) & (p < ends[..., axis, 1, :])).to(dtype) for axis, p in enumerate(places)
    ]


def box_mask(boxes: Tensor, spatial: Sequence[int]) -> Tensor:
    """1 in the union of the J boxes of each class and 0 outside: (..., K, *S) float32 of boxes (..., K, J, D, 2)."""
    first, *others = indicators(boxes, spatial)
    last = others.pop()
    for middle in others:
        first = (first[..., :, None] * middle[..., None, :]).flatten(-2)
    # The number of boxes over each voxel: one matrix product.
    return (first.mT @ last).clamp(max=1).unflatten(-2, tuple(spatial[:-1]))


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _shape(spatial: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(spatial, device=device)[:, None]


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _places(side: int, device: torch.device) -> Tensor:
    return torch.arange(side, device=device)
