"""The slices beside each slice as further channels, so that a 2D network sees what comes before and after."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

__all__ = ["NeighbourSlicesd", "neighbour_channels"]


def neighbour_channels(count: int, *, channels: int = 1) -> int:
    """Input channels that a network needs for `NeighbourSlicesd`: channels (1 + 2 count).

    Raises:
        ValueError: unless count is a whole number from 0 on.
    """
    if not isinstance(count, int) or count < 0:
        raise ValueError(f"neighbours={count!r} must be a whole number of slices on each side, 0 or more")
    return channels * (1 + 2 * count)


class NeighbourSlicesd(MapTransform):
    """Give each slice of a volume its neighbours as channels: itself, then those at -1, +1, -2, +2, ...

    A slice alone often does not say whether a structure has ended; the next one does. Labels and bounds stay those of
    the slice itself, so any loss goes with it, and the network needs C (1 + 2 count) input channels
    (`neighbour_channels`). Beyond the ends the last slice stands in. Put it after all resampling and scaling of the
    volume, before `SliceDataset`; pictures show channel 0, the slice itself. A loss that reads the image (`CRFLoss`)
    sees the neighbours too.

    Args:
        keys: images (C, *S) with three axes.
        count: how many slices on each side; 0 leaves the image as it is.
        axis: of the slices, 0 .. 2, or from the end: -1 is Z.

    Raises:
        ValueError: count no whole number from 0 on; an image without three axes; an axis out of range.
    """

    def __init__(self, keys: KeysCollection, *, count: int = 1, axis: int = -1) -> None:
        super().__init__(keys)
        neighbour_channels(count)
        if not -3 <= axis <= 2:
            raise ValueError(f"NeighbourSlicesd: axis={axis} must be from -3 to 2")
        self.axis = axis if axis < 0 else axis - 3
        self.shifts = [shift for k in range(1, count + 1) for shift in (-k, k)]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        for key in self.keys:
            volume = sample[key]
            if volume.ndim != 4:
                raise ValueError(f"NeighbourSlicesd: {key!r} is {tuple(volume.shape)}; expected a volume (C, X, Y, Z)")
            if self.shifts:
                last = volume.shape[self.axis] - 1
                here = torch.arange(last + 1, device=volume.device)
                beside = [volume.index_select(self.axis, (here + s).clamp(0, last)) for s in self.shifts]
                sample[key] = torch.cat([volume, *beside])
        return sample
