"""The voxel grid: one voxel size for all images, and back."""

from __future__ import annotations

from .common_voxel import CommonVoxeld

__all__ = [
    "CommonVoxeld",
]
