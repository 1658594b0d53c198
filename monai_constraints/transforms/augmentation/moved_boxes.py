"""Boxes after their image was moved by mirrors, quarter turns and scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...constraints.intervals import clipped

__all__ = ["moved_boxes"]

ROUNDING = 1e-3  # voxels by which float32 may miss a border between two voxels


def moved_boxes(boxes: Tensor, matrix: Tensor, shape: Sequence[int]) -> Tensor:
    """Boxes (B, K, J, D, 2) after c -> centre + matrix (c - centre), rounded outward and cut at the image's borders.

    Args:
        boxes: voxel indices, first and one past the last; an empty box stays empty.
        matrix: (B, D, D), of mirrors, quarter turns and a scale, which map axes to axes.
        shape: of the image, *S.
    """
    middle = (torch.tensor(tuple(shape), dtype=torch.float32, device=boxes.device) / 2)[:, None]
    borders = boxes.float() - middle  # voxel i reaches from i to i + 1, the image from 0 to S
    weight = matrix[:, None, None, :, :, None]
    weight = torch.where(weight.abs() < 1e-6, 0.0, weight)
    moved = weight * borders[..., None, :, :]  # (B, K, J, to, from, 2)
    low = (moved.amin(-1).sum(-1) + middle[:, 0] + ROUNDING).floor()
    high = (moved.amax(-1).sum(-1) + middle[:, 0] - ROUNDING).ceil()
    found = clipped(torch.stack([low, high], -1), shape)
    there = (boxes[..., 1] > boxes[..., 0]).all(-1) & (found[..., 1] > found[..., 0]).all(-1)
    return torch.where(there[..., None, None], found, 0)
