"""Moments of a region along its axes, from the sums over its rows, columns and slices: no dense map is read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from .patch import Patch
from .statistic import Feature, Statistic

__all__ = ["Moments"]


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # what a validation caches, a training must be able to differentiate with
def _weights(shape: tuple[int, ...], order: int, device: torch.device) -> Tensor:
    """(F, sum of S_a): what a voxel in each row, column and slice adds to the sums of 1, c and c^2."""
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in shape]
    maps = [torch.cat([torch.full((n,), float(axis == 0)) for axis, n in enumerate(shape)])]
    for power in range(1, order + 1):
        maps += [
            torch.cat([c**power if other == axis else torch.zeros_like(c) for other, c in enumerate(axes)])
            for axis in range(len(shape))
        ]
    return torch.stack(maps).to(device)


class Moments(Statistic):
    """Sums of s_p, s_p c_p and s_p c_p^2 along each axis, c from the image's centre, as far as `order` says.

    float32 adds the voxels of a line and the lines of an axis in pairs, so that 10^7 voxels lose no digits.
    """

    order: int

    def features(
        self, coordinates: Sequence[Tensor], image: Tensor | None, boxes: Tensor | None
    ) -> Sequence[Feature]:
        return [1.0, *(c**power for power in range(1, self.order + 1) for c in coordinates)]

    def sums(self, region: Tensor, *, image: Tensor | None, boxes: Tensor | None, patch: Patch | None) -> Tensor:
        if self.order == 0:
            return region.sum(tuple(range(2, region.ndim))).unsqueeze(-1)
        spatial = tuple(region.shape[2:])
        rest, lines = region, []
        for _ in spatial[1:]:
            lines.append(rest.sum(tuple(range(2, rest.ndim - 1))))
            rest = rest.sum(-1)
        profiles = torch.cat([rest, *reversed(lines)], dim=-1)
        # Not a matrix product, which adds one by one, and on some GPUs with 10 bits.
        sums = (profiles.unsqueeze(-2) * _weights(spatial, self.order, region.device)).sum(-1)
        return sums if patch is None else self._moved(sums, self.shift(spatial, patch)[:, None])

    def _moved(self, sums: Tensor, shift: Tensor) -> Tensor:
        """From moments about the centre of the patch to those about the centre of the whole image."""
        size, first, *second = sums.split([1, *[shift.shape[-1]] * self.order], dim=-1)
        moved = [size, first + size * shift]
        return torch.cat([*moved, *(s + (2 * first + size * shift) * shift for s in second)], dim=-1)
