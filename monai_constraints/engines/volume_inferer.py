"""The inferer for whole volumes, of a network of slices or of one of volumes."""

from __future__ import annotations

from collections.abc import Sequence

from monai.inferers import Inferer, SlidingWindowInferer
from monai.inferers.inferer import SliceInferer

__all__ = ["volume_inferer"]


def volume_inferer(roi_size: Sequence[int], axis: int = -1, *, batch_size: int = 16) -> Inferer:
    """MONAI's `SliceInferer` for a `roi_size` of two numbers, and its `SlidingWindowInferer` for one of three.

    Args:
        roi_size: voxels that the network sees.
        axis: of the slices, 0 .. 2, or from the end; of a network of volumes it says nothing.
        batch_size: slices at once; of volumes there is one at a time.

    Raises:
        ValueError: for a `roi_size` of another number of axes.
    """
    if len(roi_size) == 2:
        return SliceInferer(roi_size=roi_size, spatial_dim=axis % 3, sw_batch_size=batch_size)
    if len(roi_size) == 3:
        return SlidingWindowInferer(roi_size=roi_size, sw_batch_size=1)
    raise ValueError(f"volume_inferer: roi_size={list(roi_size)}; expected two numbers for slices, three for volumes")
