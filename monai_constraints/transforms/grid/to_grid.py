"""From the grid of the file to that of the network, within the planes of the slices or in whole volumes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Compose, Resized, ResizeWithPadOrCropd

from ...keys import CASE, IMAGE, SCRIBBLE, UNKNOWN

__all__ = ["ToGridd"]

logger = logging.getLogger(__name__)


class ToGridd(Compose):
    """Crops or pads volumes to `padded_size`, and resamples them to `spatial_size`; with two sizes slices stay.

    Images by area, everything else by the nearest voxel, in the type that it had. Padding is the image's 0, so scale
    intensities to [0, 1] before; it is background in labels, and not annotated (255) in scribbles. `Invertd` brings
    predictions back to the file's grid. Where the crop cuts a part of the structures off, a warning names the case.

    Args:
        keys: volumes (C, X, Y, Z), or what there is of them.
        padded_size: voxels of the file: two numbers for the planes of the slices, or three for volumes.
        spatial_size: voxels that the network sees, as many numbers.
        axis: of the slices, 0 .. 2, or from the end; of volumes it says nothing.

    Attributes:
        zoom: voxels of the file per voxel of the network's grid, along each axis of the volume.

    Raises:
        ValueError: for sizes that are not both of two or both of three axes.
    """

    def __init__(
        self, keys: Sequence[str], *, padded_size: Sequence[int], spatial_size: Sequence[int], axis: int = -1
    ) -> None:
        if len(padded_size) != len(spatial_size) or len(spatial_size) not in (2, 3):
            raise ValueError(
                f"ToGridd: padded_size={list(padded_size)} and spatial_size={list(spatial_size)}; expected two numbers "
                "each for slices, or three for volumes"
            )
        keys = [keys] if isinstance(keys, str) else list(keys)
        across = [-1] if len(spatial_size) == 2 else []
        place = axis % 3
        padded, size = ([*sizes[:place], *across, *sizes[place:]] for sizes in (padded_size, spatial_size))
        self.zoom = [1.0 if n < 0 else m / n for m, n in zip(padded, size)]
        modes = ["area" if key == IMAGE else "nearest-exact" for key in keys]
        pads = [
            ResizeWithPadOrCropd([key], padded, value=UNKNOWN if key == SCRIBBLE else 0, allow_missing_keys=True)
            for key in keys
        ]
        super().__init__([*pads, Resized(keys, size, mode=modes, allow_missing_keys=True)])
        self._others = {key: pad for key, pad in zip(keys, pads) if key != IMAGE}
        self._padded = padded

    def __call__(
        self,
        input_: Mapping[str, Any],
        start: int = 0,
        end: int | None = None,
        threading: bool = False,
        lazy: bool | None = None,
    ) -> dict[str, Any]:
        """MONAI's Resized makes floats of integer labels, which losses refuse and which take four times the memory."""
        for key in (key for key in self._others if key in input_):
            self._warn_of_crop(input_, key)
        sample = super().__call__(input_, start, end, threading, lazy)
        return {**sample, **{k: sample[k].to(input_[k].dtype) for k in self._others if k in sample}}

    def _warn_of_crop(self, sample: Mapping[str, Any], key: str) -> None:
        label = sample[key]
        if all(size <= most or most < 0 for size, most in zip(label.shape[1:], self._padded)):
            return
        there, left = (_marked(one) for one in (label, self._others[key]({key: label})[key]))
        if left < there:
            logger.warning(
                "ToGridd: case %s, %s: %.2g %% of the structures are cut off by padded_size; choose a larger one",
                sample.get(CASE, "(not named)"), key, 100 * (1 - left / there),
            )  # fmt: skip


def _marked(label: Any) -> int:
    values = torch.as_tensor(label).as_subclass(torch.Tensor)
    return int(((values != 0) & (values != UNKNOWN)).sum())
