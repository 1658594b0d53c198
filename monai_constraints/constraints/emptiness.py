"""Emptiness (6.1): how much of the region is outside of its boxes, or inside."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .intervals import box_mask
from .patch import Patch
from .slabs import check_classes
from .statistic import Feature, Statistic

__all__ = ["Inside", "Outside"]


class Inside(Statistic):
    """Size of the region inside of the boxes of its class, sum_{p in Omega_I} s_p, in voxels. M = 1.

    Omega_I is the union of the J boxes of a class. A fill of a box is a bound on this; `Size` counts what is outside
    of it too.

    Raises:
        ValueError: for boxes of another number of classes than the region.
    """

    needs_boxes = True
    linear = True
    minimum = 0.0

    def sums(self, region: Tensor, *, image: Tensor | None, boxes: Tensor | None, patch: Patch | None) -> Tensor:
        assert boxes is not None  # `measure` has checked
        check_classes(type(self).__name__, region, boxes)
        if patch is not None:
            boxes = boxes - patch.offset[:, None, None, :, None]
        # `sum` adds pairwise, so float32 bears it; for a single map a product is faster than `block_sums`.
        return (region * self.of_mask(box_mask(boxes, region.shape[2:]))).flatten(2).sum(-1, keepdim=True)

    def features(
        self, coordinates: Sequence[Tensor], image: Tensor | None, boxes: Tensor | None
    ) -> Sequence[Feature]:
        assert boxes is not None
        spatial = coordinates[0].shape[-len(coordinates) :]
        first = torch.stack([c.flatten(-len(spatial))[..., 0] for c in coordinates], -1)
        return [self.of_mask(box_mask(boxes - first.reshape(-1, 1, 1, len(spatial), 1), spatial))]

    def of_mask(self, mask: Tensor) -> Tensor:
        """phi from the boxes' mask (B, K, *S)."""
        return mask

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        return sums

    def moved(self, bounds: Tensor, matrix: Tensor, shape: Sequence[int]) -> Tensor:
        return bounds * torch.linalg.det(matrix).abs().reshape(-1, 1, 1, 1)


class Outside(Inside):
    """Size of the region outside of the boxes of its class, sum_{p in Omega_O} s_p (thesis 6.1), in voxels. M = 1.

    Emptiness is the bound [-inf, 0], or [-inf, a few] where boxes may cut their object; without a box the class is
    absent, and everything is outside. Under overlapping boxes each class has its own outside.

    Raises:
        ValueError: for boxes of another number of classes than the region.
    """

    def of_mask(self, mask: Tensor) -> Tensor:
        return 1 - mask
