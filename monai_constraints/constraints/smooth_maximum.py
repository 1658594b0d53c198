"""The largest probability along each line of a box, smoothly: tightness as in multiple instance learning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .intervals import clipped
from .patch import Patch
from .slabs import check_classes, slab_bounds, slab_sums
from .statistic import Feature, Statistic

__all__ = ["SmoothMaximum"]

TINY = 1e-30


class SmoothMaximum(Statistic):
    r"""A smooth maximum of the region over each line of each box; a line that crosses the object has one near 1.

        softmax:   sum_p s_p e^(a s_p) / sum_p e^(a s_p)
        quasimax:  log(sum_p e^(a s_p)) / a - log(n) / a,   n the voxels of the line

    Both are functions of two sums along the line, of lifted maps, so they are those of `SlabSums` of one line, and add
    over patches. Other than the sum of a line, a maximum is not met by many voxels of low probability. In 3D a line is
    a plane.

    With `angles`, oblique lines too, in 2D: those that enter a box through one side and leave it through the opposite
    one, of which each crosses a connected object. Pixels are taken as they are, one a column (or row), along the line.
    M = J (sum_a S_a + 2 sum S_a for each angle, both signs).

    Args:
        kind: which of the two; both are at most the maximum.
        alpha: a; larger is nearer to the maximum, with gradient on fewer voxels.
        angles: in degrees from the axis, above 0 and up to 45.
        classes: as in `Statistic`.

    Raises:
        ValueError: for an unknown kind, alpha <= 0, or an angle that is out of range.

    Source: Wang and Xia, Bounding box tightness prior for weakly supervised image segmentation, MICCAI 2021.
    """

    needs_boxes = True
    minimum = 0.0

    def __init__(
        self,
        *,
        kind: Literal["softmax", "quasimax"] = "softmax",
        alpha: float = 4.0,
        angles: Sequence[float] = (),
        classes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(classes=classes)
        if kind not in ("softmax", "quasimax"):
            raise ValueError(f"SmoothMaximum: kind={kind!r}; choose softmax or quasimax")
        if not 0 < alpha <= 60:
            raise ValueError(f"SmoothMaximum: alpha={alpha}; choose it above 0 and up to 60, where float32 ends")
        if any(not 0 < angle <= 45 for angle in angles):
            raise ValueError(f"SmoothMaximum: angles={list(angles)}; give degrees above 0 and up to 45")
        self.kind, self.alpha = kind, float(alpha)
        self.slopes = [sign * math.tan(math.radians(angle)) for angle in angles for sign in (1, -1)]
        self.reach = None if self.slopes else 0  # an oblique line of a patch is none of the image

    def lift(self, region: Tensor) -> Tensor:
        weight = torch.exp(self.alpha * (region - 1))  # at most 1, in any precision
        pair = (region * weight, weight) if self.kind == "softmax" else (weight, torch.ones_like(region))
        return torch.cat(pair, 1)

    def sums(self, region: Tensor, *, image: Tensor | None, boxes: Tensor | None, patch: Patch | None) -> Tensor:
        assert boxes is not None  # `measure` has checked
        top, bottom = region.chunk(2, 1)
        check_classes(type(self).__name__, top, boxes)
        spatial = tuple(region.shape[2:]) if patch is None else tuple(patch.shape.amax(0).tolist())
        boxes = clipped(boxes, spatial)
        twice = torch.cat([boxes, boxes], 1)
        offset = None if patch is None else patch.offset
        found = [slab_sums(region, twice, width=1, counts=spatial, offset=offset)]
        for slope in self.slopes:
            for axis in range(2):
                part = _sheared_boxes(twice, slope, axis, spatial[1 - axis])
                counts = [spatial[a] if a == axis else 0 for a in range(2)]
                found.append(slab_sums(_sheared(region, slope, axis), part, width=1, counts=counts))
        return torch.cat([part.flatten(2) for part in torch.cat(found, -1).chunk(2, 1)], -1)

    def features(
        self, coordinates: Sequence[Tensor], image: Tensor | None, boxes: Tensor | None
    ) -> Sequence[Feature]:
        raise NotImplementedError("SmoothMaximum: its features are those of SlabSums(width=1) on its lift")

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        top, bottom = sums.chunk(2, -1)
        there = bottom > 0
        mean = torch.where(there, top, 1.0) / torch.where(there, bottom, 1.0)
        found = mean if self.kind == "softmax" else 1 + torch.log(mean.clamp_min(TINY)) / self.alpha
        return torch.where(there, found, 0.0)

    def tight(
        self,
        boxes: Tensor,
        spatial: Sequence[int],
        *,
        fill: float | Sequence[float] | None = None,
        margin: int | Sequence[int] = 0,
    ) -> Tensor:
        """The bounds of tight boxes, (B, K, M, 2) or (K, M, 2): each line's smooth maximum is `fill` (0.5) at least.

        Args:
            boxes: (B, K, J, D, 2) or (K, J, D, 2).
            spatial: shape *S of the image.
            fill: of all classes, or of each.
            margin: as in `slab_bounds`.
        """
        boxes = clipped(boxes, spatial)
        straight = slab_bounds(boxes, spatial, 1, margin=margin)[..., 0].isfinite()
        asked = [straight.unflatten(-1, (boxes.shape[-3], -1))]
        margins = torch.as_tensor(margin, device=boxes.device).expand(len(spatial))
        for slope in self.slopes:
            for axis in range(2):
                part = _sheared_boxes(boxes, slope, axis, spatial[1 - axis])[..., axis, :]
                number = torch.arange(spatial[axis], device=boxes.device)
                line = part[..., :1] + number
                inside = (number >= margins[axis]) & (line < part[..., 1:] - margins[axis])
                asked.append(inside)
        level = torch.as_tensor(0.5 if fill is None else fill, dtype=torch.float32, device=boxes.device).reshape(-1, 1)
        lower = torch.where(torch.cat(asked, -1).flatten(-2), level, -float("inf"))
        return torch.stack([lower, torch.full_like(lower, float("inf"))], -1)


def _sheared(region: Tensor, slope: float, axis: int) -> Tensor:
    """The region with its oblique lines as lines along the other axis."""
    size, other = region.shape[2 + axis], region.shape[3 - axis]
    reach = _reach(slope, other)
    lines = torch.arange(-reach, size + reach, device=region.device)
    index = (lines[:, None] + _shift(slope, other, region.device)).clamp(0, size - 1)
    index = index if axis == 0 else index.mT
    return region.gather(2 + axis, index.expand(*region.shape[:2], *index.shape))


def _shift(slope: float, side: int, device: torch.device) -> Tensor:
    places = torch.arange(side, device=device, dtype=torch.float32)
    return (slope * (places - (side - 1) / 2)).round().long()


def _reach(slope: float, side: int) -> int:
    return math.ceil(abs(slope) * (side - 1) / 2) + 1


def _sheared_boxes(boxes: Tensor, slope: float, axis: int, side: int) -> Tensor:
    """The boxes whose lines, in the sheared region, are those that stay in the box from side to side."""
    shift, other = _shift(slope, side, boxes.device), boxes[..., 1 - axis, :]
    ends = torch.stack([shift[other[..., 0].clamp(0, len(shift) - 1)], shift[(other[..., 1] - 1).clamp_min(0)]], -1)
    moved = boxes.clone()
    moved[..., axis, 0] = boxes[..., axis, 0] - ends.amin(-1)
    moved[..., axis, 1] = torch.maximum(boxes[..., axis, 1] - ends.amax(-1), moved[..., axis, 0])
    moved[..., axis, :] += _reach(slope, side)
    return moved
