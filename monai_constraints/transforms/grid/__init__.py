"""The voxel grid: one voxel size for all images, and back."""

from __future__ import annotations

from .common_voxel import CommonVoxeld
from .to_grid import ToGridd

__all__ = [
    "ToGridd",
    "CommonVoxeld",
]
