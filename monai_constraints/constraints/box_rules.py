"""What boxes say of a region, as bounds: tight bands (6.2), emptiness outside (6.1), size (6.3)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from .intervals import clipped
from .slabs import SlabSums
from .smooth_maximum import SmoothMaximum
from .statistic import Statistic

__all__ = ["BoxRule", "BoxSize", "Empty", "Tight"]


class BoxRule(ABC):
    """Turns boxes into bounds of a statistic."""

    @abstractmethod
    def __call__(self, statistic: Statistic, boxes: Tensor, spatial: Sequence[int], loose: Tensor) -> Tensor:
        """Bounds (B, K, M, 2) float32.

        Args:
            statistic: what is bounded, without a root.
            boxes: (B, K, J, D, 2) voxel indices, first and one past the last; empty where there is none.
            spatial: shape *S of the image.
            loose: (B, K, J) bool, boxes that hold an object and need not touch it.
        """


class Tight(BoxRule):
    """Every band of a box crosses the object (thesis 6.2): bounds of `SlabSums` or `SmoothMaximum`.

    Args:
        fill: which part of a band is object at least (`SlabSums`), None: a voxel a line; or the smallest maximum of a
            line (`SmoothMaximum`), None: 0.5. A number, or one for each class.
        margin: how many voxels the object may be away from a side of its box; the lines in between are not bounded.

    Raises:
        ValueError: for a negative margin; for a statistic that has no bands.
    """

    def __init__(self, *, fill: float | Sequence[float] | None = None, margin: int | Sequence[int] = 0) -> None:
        if min([margin] if isinstance(margin, int) else margin) < 0:
            raise ValueError(f"Tight: margin={margin}; give the voxels between object and box, 0 or more")
        self.fill, self.margin = fill, margin

    def scaled(self, scale: Sequence[float]) -> Tight:
        """The rule for boxes that `BatchSimilarity` scaled by scale[0] to scale[1], and so rounded outward.

        The margin grows with the image, by up to a voxel because of the rounding: the outermost line of the scaled box
        may hold less than half of a line of the object. Scales of 1 change nothing.
        """
        if min(scale) == max(scale) == 1:
            return self
        margins = [self.margin] if isinstance(self.margin, int) else self.margin
        grown = [math.ceil(margin * max(scale)) + 1 for margin in margins]
        return Tight(fill=self.fill, margin=grown[0] if isinstance(self.margin, int) else grown)

    def __call__(self, statistic: Statistic, boxes: Tensor, spatial: Sequence[int], loose: Tensor) -> Tensor:
        if not isinstance(statistic, (SlabSums, SmoothMaximum)):
            raise ValueError(f"Tight: {type(statistic).__name__} has no bands; use SlabSums or SmoothMaximum")
        shown = boxes.masked_fill(loose[..., None, None], 0)
        return statistic.tight(shown, spatial, fill=self.fill, margin=self.margin)


class Empty(BoxRule):
    """Nothing of a class is outside of its boxes (thesis 6.1): [-inf, allowed], for `Outside`.

    Args:
        allowed: voxels that may be outside, where boxes are drawn too small.
    """

    def __init__(self, *, allowed: float = 0.0) -> None:
        self.allowed = float(allowed)

    def __call__(self, statistic: Statistic, boxes: Tensor, spatial: Sequence[int], loose: Tensor) -> Tensor:
        bounds = torch.tensor([-float("inf"), self.allowed], device=boxes.device)
        return bounds.expand(*boxes.shape[:2], 1, 2).clone()


class BoxSize(BoxRule):
    r"""The size that boxes of this area hold (thesis 6.3), in voxels, for `Size`:

        lo prod_a (side_a - 2 (margin + jitter))  <=  V  <=  hi prod_a (side_a - 2 (margin - jitter)),

    added over the boxes of the class. Without a jitter both are parts of the box that touches the object.

    As published, [lo, hi] is [0.5, 0.9] of the box whatever its margin, which the truth violates where boxes are loose
    or objects are not round. A class without a box has [0, 0]; a loose box bounds from above alone. In a box with a
    side below `small`, whose fill is anything, the object has a voxel a line at least and the whole box at most.

    Args:
        fill: (lo, hi); None: (0.4, 0.95) in 2D and (0.1, 0.7) in 3D. Each may be one number for each class.
        margin: voxels between object and box on every side, of all axes or of each.
        jitter: by how many voxels that differs from side to side.
        small: in voxels.

    Raises:
        ValueError: for a fill that is not 0 <= lo <= hi <= 1, or a negative margin or jitter.
    """

    DEFAULT = {2: (0.4, 0.95), 3: (0.1, 0.7)}

    def __init__(
        self,
        *,
        fill: tuple[float | Sequence[float], float | Sequence[float]] | None = None,
        margin: int | Sequence[int] = 0,
        jitter: int = 0,
        small: int = 5,
    ) -> None:
        if fill is not None:
            low, high = (torch.as_tensor(side, dtype=torch.float32) for side in fill)
            if not bool(((low >= 0) & (low <= high) & (high <= 1)).all()):
                raise ValueError(f"BoxSize: fill={fill}; expected (lo, hi) with 0 <= lo <= hi <= 1")
        if min([margin] if isinstance(margin, int) else margin) < 0:
            raise ValueError(f"BoxSize: margin={margin}; give the voxels between object and box, 0 or more")
        if jitter < 0:
            raise ValueError(f"BoxSize: jitter={jitter}; give the voxels by which margins differ, 0 or more")
        self.fill, self.margin, self.jitter, self.small = fill, margin, jitter, small

    def __call__(self, statistic: Statistic, boxes: Tensor, spatial: Sequence[int], loose: Tensor) -> Tensor:
        boxes = clipped(boxes, spatial)
        side = (boxes[..., 1] - boxes[..., 0]).clamp_min(0).float()
        there = side.amin(-1) > 0
        margin = torch.as_tensor(self.margin, device=boxes.device)
        core = (side - 2 * (margin + self.jitter)).clamp_min(1)
        # At a border of the image the box may have been cut, and its margin with it: there nothing is taken off.
        cut = torch.stack([boxes[..., 0] <= 0, boxes[..., 1] >= torch.tensor(spatial, device=boxes.device)], -1)
        widest = (side - ((~cut).sum(-1) * (margin - self.jitter))).clamp_min(1)
        low, high = (
            torch.as_tensor(part, dtype=torch.float32, device=boxes.device).reshape(-1, 1)
            for part in self.fill or self.DEFAULT[len(spatial)]
        )
        small = core.amin(-1) < self.small
        least = torch.where(small, core.amax(-1), low * core.prod(-1))
        most = widest.prod(-1) * torch.where(small, 1.0, high)
        least = torch.where(there & ~loose, least, 0.0)
        most = torch.where(there, torch.where(loose, side.prod(-1), most), 0.0)
        return torch.stack([least.sum(-1), torch.maximum(most, least).sum(-1)], -1).unsqueeze(-2)
