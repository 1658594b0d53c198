"""Tightness (6.2): the mass in the bands of each box, by projections, and the bounds that a tight box gives them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .intervals import box_mask, clipped, count_of, indicators
from .patch import Patch
from .statistic import Feature, Statistic

__all__ = ["SlabSums", "slab_bounds", "slab_sums"]


class SlabSums(Statistic):
    r"""Mass of the region in each band of each box, sum_{p in s_l} s_p for all s_l in S_L (thesis 6.2), in voxels.

    A band is `width` neighbouring lines of a box (rows, columns; planes in 3D), along every axis. The bands along an
    axis partition the box: band n of an interval [lo, hi) is [lo + n w, min(lo + (n + 1) w, hi)), so the last may be
    narrower. There are ceil(S_a / w) of them for an axis of S_a voxels, of which those beyond the box are empty, with
    infinite bounds. M = J sum_a ceil(S_a / w): the boxes of a class one after the other, of each box the axes, of each
    axis the bands.

    No band is ever a mask: the box projects the region on each axis, and a band is a sum over a part of that. Memory
    depends on the sides of the image and on J.

    Args:
        width: w, lines of a band.
        classes: as in `Statistic`; K has to be that of the boxes.

    Raises:
        ValueError: for a width below 1; for boxes of another number of classes than the region.

    Source: Kervadec et al., Bounding boxes for weakly supervised segmentation: global constraints get close to full
    supervision, MIDL 2020.
    """

    needs_boxes = True
    linear = True
    minimum = 0.0

    def __init__(self, *, width: int = 5, classes: Sequence[int] | None = None) -> None:
        super().__init__(classes=classes)
        if width < 1:
            raise ValueError(f"{type(self).__name__}: width={width}; a band has one line or more")
        self.width = int(width)

    def sums(self, region: Tensor, *, image: Tensor | None, boxes: Tensor | None, patch: Patch | None) -> Tensor:
        assert boxes is not None  # `measure` has checked
        check_classes(type(self).__name__, region, boxes)
        whole = region.shape[2:] if patch is None else patch.shape.amax(0).tolist()
        counts = count_of(whole, self.width)
        boxes = clipped(boxes, region.shape[2:]) if patch is None else _within(boxes, patch)
        offset = None if patch is None else patch.offset
        return slab_sums(region, boxes, width=self.width, counts=counts, offset=offset).flatten(2)

    def features(
        self, coordinates: Sequence[Tensor], image: Tensor | None, boxes: Tensor | None
    ) -> Sequence[Feature]:
        """One map a band, of whole images: what `sums` avoids, for those who need phi itself."""
        assert boxes is not None
        spatial = coordinates[0].shape[-len(coordinates) :]
        centre = (torch.tensor(spatial, device=boxes.device) - 1)[:, None] / 2
        boxes = clipped((boxes + centre).round(), spatial)
        begin, end, axis = bands(boxes, spatial, self.width)
        maps = []
        for j in range(boxes.shape[2]):
            for n, a in enumerate(axis.tolist()):
                part = boxes[:, :, j].clone()
                part[..., a, 0], part[..., a, 1] = begin[:, :, j, n], end[:, :, j, n]
                maps.append(box_mask(part.unsqueeze(2), spatial))
        return maps

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        return sums

    def tight(
        self,
        boxes: Tensor,
        spatial: Sequence[int],
        *,
        fill: float | Sequence[float] | None = None,
        margin: int | Sequence[int] = 0,
    ) -> Tensor:
        """The bounds of tight boxes, as in `slab_bounds`."""
        return slab_bounds(boxes, spatial, self.width, fill=fill, margin=margin)


def slab_bounds(
    boxes: Tensor,
    spatial: Sequence[int],
    width: int = 5,
    *,
    fill: float | Sequence[float] | None = None,
    margin: int | Sequence[int] = 0,
) -> Tensor:
    r"""Bounds of `SlabSums` for boxes that an object touches on every side: at least one voxel a line (thesis 6.2).

        sum_{p in s_l} s_p >= number of lines of s_l,    or    >= fill x number of voxels of s_l where that is more

    Args:
        boxes: (B, K, J, D, 2) or (K, J, D, 2) voxel indices, first and one past the last; an empty box bounds nothing.
        spatial: shape *S of the image.
        width: lines of a band, as in the statistic.
        fill: which part of a band is object at least, of all classes or of each; None: one voxel a line.
        margin: how many voxels a side of the box may be away from the object, of all axes or of each. Lines in the
            margin may be empty, so they are not counted; all others cross the object.

    Returns:
        (B, K, M, 2) or (K, M, 2) float32.
    """
    boxes = clipped(boxes, spatial)
    dims = len(spatial)
    begin, end, axis = bands(boxes, spatial, width)
    margins = torch.as_tensor(margin, device=boxes.device).expand(dims)
    core = torch.stack([boxes[..., 0] + margins, boxes[..., 1] - margins], -1)
    inner = core[..., axis, :]
    lines = (torch.minimum(end, inner[..., 1]) - torch.maximum(begin, inner[..., 0])).clamp_min(0).float()
    lower = lines
    if fill is not None:
        side = (core[..., 1] - core[..., 0]).clamp_min(1).float()
        across = side.prod(-1, keepdim=True) / side
        share = torch.as_tensor(fill, dtype=torch.float32, device=boxes.device).reshape(-1, 1, 1)
        lower = torch.maximum(lines, share * lines * across[..., axis])
    lower = torch.where(lines > 0, lower, -float("inf"))
    return torch.stack([lower, torch.full_like(lower, float("inf"))], -1).flatten(-3, -2)


def bands(boxes: Tensor, spatial: Sequence[int], width: int) -> tuple[Tensor, Tensor, Tensor]:
    """First and one past the last line of each band, (..., K, J, sum N_a), and the axis of each, (sum N_a,)."""
    axis, number = _numbers(tuple(count_of(spatial, width)), boxes.device)
    low, high = boxes[..., axis, 0], boxes[..., axis, 1]
    begin = torch.minimum(low + number * width, high)
    return begin, torch.minimum(begin + width, high), axis


def slab_sums(
    region: Tensor, boxes: Tensor, *, width: int, counts: Sequence[int], offset: Tensor | None = None
) -> Tensor:
    """The mass in `counts[a]` bands along each axis a of each box, (B, K, J, sum counts).

    Args:
        region: (B, K, *S) float32.
        boxes: (B, K, J, D, 2) int64, within the whole image.
        width: lines of a band.
        counts: bands along each axis; 0 leaves it out.
        offset: (B, D) of a patch in its image.
    """
    spatial = tuple(region.shape[2:])
    if offset is not None:
        boxes = boxes - offset[:, None, None, :, None]
    profiles = _profiles(region, indicators(boxes, spatial), [n > 0 for n in counts])
    # All axes one after the other in one vector, with a zero behind it for the lines that are in no band.
    axis, line = _numbers(tuple(n * width for n in counts), region.device)
    start = _starts(tuple(p.shape[-1] for p in profiles), region.device)
    profile = torch.nn.functional.pad(torch.cat(profiles, -1), (0, 1))
    low, high = boxes[..., axis, 0], boxes[..., axis, 1]
    place = low + line
    inside = place < high
    if offset is not None:
        inside &= (place >= 0) & (place < torch.tensor(spatial, device=region.device)[axis])
    place = torch.where(inside, place + start[axis], profile.shape[-1] - 1)
    return profile.gather(-1, place).unflatten(-1, (-1, width)).sum(-1)


def _profiles(region: Tensor, inside: list[Tensor], wanted: list[bool]) -> list[Tensor]:
    """sum of the region over the box's other axes, of each line of an axis: (B, K, J, S_a), or nothing (..., 0)."""
    none = region.new_zeros(*inside[0].shape[:-1], 0)
    if len(inside) == 2:
        x, y = inside
        if all(wanted):
            return list(_Projections.apply(region, x, y))
        return [y @ region.mT if wanted[0] else none, x @ region if wanted[1] else none]
    x, y, z = inside
    along_z = torch.einsum("bkxyz,bkjz->bkxyj", region, z)
    of_x = torch.einsum("bkxyj,bkjy->bkjx", along_z, y) if wanted[0] else none
    of_y = torch.einsum("bkxyj,bkjx->bkjy", along_z, x) if wanted[1] else none
    along_x = (x @ region.flatten(3)).unflatten(-1, region.shape[3:]) if wanted[2] else none
    return [of_x, of_y, torch.einsum("bkjyz,bkjy->bkjz", along_x, y) if wanted[2] else none]


class _Projections(torch.autograd.Function):
    """Both projections in 2D, y region^T and x region, whose gradients together are one product of matrices.

    Autograd would make a map of the image's size for each, and add them: for three classes, thrice the time or more.
    """

    @staticmethod
    def forward(ctx: Any, region: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, y)
        flat = region.reshape(-1, *region.shape[2:])  # one copy, where the classes are a part of the channels
        rows = torch.bmm(y.flatten(0, 1), flat.mT).unflatten(0, region.shape[:2])
        return rows, torch.bmm(x.flatten(0, 1), flat).unflatten(0, region.shape[:2])

    @staticmethod
    def backward(ctx: Any, of_rows: Tensor, of_columns: Tensor) -> tuple[Tensor, None, None]:
        x, y = ctx.saved_tensors
        left, right = torch.cat([of_rows, x], -2), torch.cat([y, of_columns], -2)
        gradient = torch.bmm(left.flatten(0, 1).mT, right.flatten(0, 1))
        return gradient.unflatten(0, x.shape[:2]), None, None


def check_classes(name: str, region: Tensor, boxes: Tensor) -> None:
    """Raise ValueError where the boxes are of another number of classes than the region (B, K, *S)."""
    if boxes.shape[1] != region.shape[1]:
        raise ValueError(
            f"{name}: boxes {tuple(boxes.shape)} have K={boxes.shape[1]} classes, the region has K={region.shape[1]}; "
            "make the boxes with the statistic's classes=[...]"
        )


def _within(boxes: Tensor, patch: Patch) -> Tensor:
    """Boxes cut at the borders of the images, each of its own shape."""
    return torch.minimum(boxes.long().clamp_min(0), patch.shape[:, None, None, :, None].long())


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _numbers(counts: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """The axis of each of sum(counts) bands or lines, and its number along it."""
    axis = torch.cat([torch.full((n,), a) for a, n in enumerate(counts)]).to(device)
    return axis, torch.cat([torch.arange(n) for n in counts]).to(device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _starts(sides: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor([sum(sides[:a]) for a in range(len(sides))], device=device)
