"""The statistics of the thesis: size, centroid, spread, mean intensity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .moments import Moments
from .statistic import Feature, Statistic

__all__ = ["Centroid", "MeanIntensity", "Size", "Spread"]

NORMALISER_FLOOR = 1e-10  # keeps an empty region's quotient finite (REFERENCE: the published centroid's epsilon)


def _quotient(sums: Tensor) -> Tensor:
    size, moments = sums.split([1, sums.shape[-1] - 1], dim=-1)  # one operation on the way back too, unlike two slices
    return moments / (size + NORMALISER_FLOOR)


def _moved_positions(bounds: Tensor, matrix: Tensor, shape: Sequence[int]) -> Tensor:
    """The smallest box that holds the moved box (B, K, D, 2).

    Interval arithmetic: a side that was infinite stays so where the matrix mixes it in.

    Args:
        bounds: in voxel indices.
        matrix: (B, D, D).
        shape: of the image.
    """
    centre = ((torch.tensor(tuple(shape), dtype=torch.float32) - 1) / 2).to(bounds.device)
    sides = (bounds - centre[:, None])[:, :, None]  # (B, K, 1, D, 2)
    weight = matrix[:, None, :, :, None]
    # A quarter turn has 1e-8 where it should have 0, and neither may touch an infinite side.
    weight = torch.where(weight.abs() < 1e-6, 0.0, weight)
    moved = torch.where(weight == 0, 0.0, weight * sides)
    return torch.stack([moved.amin(-1).sum(-1), moved.amax(-1).sum(-1)], -1) + centre[:, None]


class Size(Moments):
    """Size of the region, V_k = sum_p s_kp (thesis 3.11), in voxels. M = 1; an absent class has size 0."""

    order = 0
    absent = (0.0, 0.0)
    minimum = 0.0
    linear = True

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        return sums

    def range_in(self, spatial: Sequence[int]) -> tuple[Tensor, Tensor]:
        return torch.tensor(0.0), torch.tensor(float(math.prod(spatial)))

    def moved(self, bounds: Tensor, matrix: Tensor, shape: Sequence[int]) -> Tensor:
        return bounds * torch.linalg.det(matrix).abs().reshape(-1, 1, 1, 1)


class Centroid(Moments):
    """Centroid of the region, C_k = sum_p s_kp c_p / sum_p s_kp (thesis 3.12), in voxel indices. M = D.

    The centroid of an empty region is the image's centre.
    """

    order = 1

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        return _quotient(sums) + centre

    def range_in(self, spatial: Sequence[int]) -> tuple[Tensor, Tensor]:
        last = torch.tensor([size - 1.0 for size in spatial])
        return torch.zeros_like(last), last

    def moved(self, bounds: Tensor, matrix: Tensor, shape: Sequence[int]) -> Tensor:
        return _moved_positions(bounds, matrix, shape)


class Spread(Moments):
    """Second central moment along each axis, sum_p s_p (c_p - C)^2 / sum_p s_p (thesis 2.8), in voxels squared. M = D.

    The variance of where the region is: a disc of radius r has r^2 / 4, a box of side a has a^2 / 12.
    Rounding: about 1e-7 of the squared distance from the image's centre, 0.007 in the corner of 512 x 512.
    """

    order = 2
    minimum = 0.0

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        mean, square = _quotient(sums).chunk(2, dim=-1)
        return square - mean * mean

    def moved(self, bounds: Tensor, matrix: Tensor, shape: Sequence[int]) -> Tensor:
        """Axes are exchanged and scaled; between them there is the covariance, which the spread does not have.

        Raises:
            NotImplementedError: where an axis is turned by other than quarter turns.
        """
        weight = torch.where(matrix.abs() < 1e-6 * matrix.abs().amax((1, 2), keepdim=True), 0.0, matrix.square())
        if bool((weight.count_nonzero(-1) > 1).any()):
            raise NotImplementedError(
                "Spread: how its bounds move with turns other than quarter turns is not known; augment with rotation=0"
            )
        sides = weight[:, None, :, :, None] * bounds[:, :, None]  # (B, K, D, D, 2)
        return torch.where(weight[:, None, :, :, None] == 0, 0.0, sides).sum(-2)


class MeanIntensity(Statistic):
    """Mean of each image channel in the region, sum_p s_p I_p / sum_p s_p (thesis 2.8), in the image's units. M = C."""

    needs_image = True

    def features(
        self, coordinates: Sequence[Tensor], image: Tensor | None, boxes: Tensor | None
    ) -> Sequence[Feature]:
        assert image is not None  # `measure` has checked
        return [1.0, *image.unbind(1)]

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        return _quotient(sums)

    def moved(self, bounds: Tensor, matrix: Tensor, shape: Sequence[int]) -> Tensor:
        return bounds
