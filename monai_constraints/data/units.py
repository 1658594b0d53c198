"""Values of statistics from voxels of the network's grid to mm and back to nothing that depends on a grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from monai_constraints.constraints import Centroid, MeanIntensity, Size, Spread, Statistic

__all__ = ["PhysicalUnits"]

UNITS = {Size: "mm2", Spread: "mm2", Centroid: "mm from the image's centre", MeanIntensity: "of the scaled image"}


class PhysicalUnits:
    """Values of a statistic of slices, in voxels of the network's grid, as values in mm or mm2.

    A size is multiplied by the area of a pixel, a spread by the square of its side. A centroid is counted from the
    centre of the image, which cropping, padding and resampling keep. A mean intensity has no length in it.

    Args:
        statistic: or the root of one; its values are brought back (`Statistic.unlink`) first.
        zoom: pixels of the file per pixel of the network's grid along each axis of the volume (`ToGridd.zoom`).
        spatial_size: of the network's grid.
        voxel_size: mm in the plane to which the images were brought before; 0: those of the file.
        axis: of the slices.

    Attributes:
        unit: its name.

    Raises:
        ValueError: for a statistic whose unit nobody has said.
    """

    def __init__(
        self,
        statistic: Statistic,
        *,
        zoom: Sequence[float],
        spatial_size: Sequence[int],
        voxel_size: float = 0.0,
        axis: int = -1,
    ) -> None:
        self.statistic, self.voxel_size, self.axis = statistic, voxel_size, axis
        kind = type(statistic.ruled)
        if kind not in UNITS:
            raise ValueError(f"PhysicalUnits: the unit of {kind.__name__} is not known; predict one of {_names()}")
        self.unit = UNITS[kind]
        self.zoom = torch.tensor([size for place, size in enumerate(zoom) if place != axis % 3])
        self.centre = (torch.tensor(list(spatial_size), dtype=torch.float32) - 1) / 2

    def __call__(self, values: Tensor, spacing: Tensor) -> Tensor:
        """Values (N, K, M) of slices of volumes of this spacing, (N, 3) in mm as their files say; NaN stays NaN."""
        values = values.cpu().float()
        f, bounded = self.statistic.ruled, values.clamp_min(self.statistic.minimum)
        natural = self.statistic.unlink(bounded.unsqueeze(-1)).squeeze(-1)
        plane = [place for place in range(3) if place != self.axis % 3]
        size = torch.full((len(values), 2), self.voxel_size) if self.voxel_size else spacing.cpu()[:, plane]
        pixel = size * self.zoom
        if isinstance(f, Size):
            return natural * pixel.prod(1).reshape(-1, 1, 1)
        if isinstance(f, Spread):
            return natural * pixel.square()[:, None]
        return (natural - self.centre) * pixel[:, None] if isinstance(f, Centroid) else natural


def _names() -> str:
    return ", ".join(kind.__name__ for kind in UNITS)
