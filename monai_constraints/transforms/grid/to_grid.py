"""From the grid of the file to that of the network, within the planes of the slices."""

from __future__ import annotations

from collections.abc import Sequence

from monai.transforms import Compose, Resized, ResizeWithPadOrCropd

from ...keys import IMAGE, SCRIBBLE, UNKNOWN

__all__ = ["ToGridd"]


class ToGridd(Compose):
    """Crops or pads the planes of volumes to `padded_size`, and resamples them to `spatial_size`; slices stay.

    Images by area, everything else by the nearest voxel. Padding is the image's 0, so scale intensities to [0, 1]
    before; it is background in labels, and not annotated (255) in scribbles. `Invertd` brings predictions back to the
    file's grid.

    Args:
        keys: volumes (C, X, Y, Z), or what there is of them.
        padded_size: pixels of the file.
        spatial_size: pixels that the network sees.
        axis: of the slices, 0 .. 2, or from the end.

    Attributes:
        zoom: pixels of the file per pixel of the network's grid, along each axis of the volume.

    Raises:
        ValueError: for sizes that are not of two axes.
    """

    def __init__(
        self, keys: Sequence[str], *, padded_size: Sequence[int], spatial_size: Sequence[int], axis: int = -1
    ) -> None:
        if len(padded_size) != 2 or len(spatial_size) != 2:
            raise ValueError(
                f"ToGridd: padded_size={list(padded_size)} and spatial_size={list(spatial_size)}; expected two numbers"
            )
        keys = [keys] if isinstance(keys, str) else list(keys)
        place = axis % 3
        padded, size = ([*plane[:place], -1, *plane[place:]] for plane in (padded_size, spatial_size))
        self.zoom = [1.0 if n < 0 else m / n for m, n in zip(padded, size)]
        modes = ["area" if key == IMAGE else "nearest-exact" for key in keys]
        pads = [
            ResizeWithPadOrCropd([key], padded, value=UNKNOWN if key == SCRIBBLE else 0, allow_missing_keys=True)
            for key in keys
        ]
        super().__init__([*pads, Resized(keys, size, mode=modes, allow_missing_keys=True)])
