"""The square root of a statistic: small structures count like large ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .patch import Patch
from .statistic import Feature, Statistic

__all__ = ["Root"]

ROOT_FLOOR = 1e-10  # the square root's slope is infinite at 0


class Root(Statistic):
    r"""f = sqrt(g) of a statistic g that is never negative, such as a size: the same constraint, another penalty.

    In the size itself, twice what a small structure has costs as little as a few per cent too many of a large one, and
    a few false voxels of an absent one cost next to nothing. In its root, (sqrt g - sqrt b)^2 is about (g - b)^2 / 4b:
    a voxel feels how far off the size is relative to what is asked for; without anything asked for (b = 0) it is g.
    Not in the thesis.

    Bounds of this statistic are roots too. Rules speak of g: `Root(Size(classes=[1]))` with `Individual(relative=0.1)`
    has the bounds [sqrt(0.9 V), sqrt(1.1 V)].

    Args:
        statistic: g, with its classes.

    Raises:
        ValueError: for a statistic that may be negative.
    """

    def __init__(self, statistic: Statistic) -> None:
        if statistic.minimum < 0:
            raise ValueError(f"Root: {type(statistic).__name__} may be negative and has no root; constrain it as it is")
        super().__init__(classes=statistic.classes)
        self.statistic = statistic
        self.minimum = statistic.minimum**0.5
        absent: list[float] = self.link(torch.tensor(statistic.absent)).tolist()
        self.absent = (absent[0], absent[1])
        self.needs_image, self.needs_boxes = statistic.needs_image, statistic.needs_boxes
        self.reach = statistic.reach

    def features(
        self, coordinates: Sequence[Tensor], image: Tensor | None, boxes: Tensor | None
    ) -> Sequence[Feature]:
        return self.statistic.features(coordinates, image, boxes)

    def lift(self, region: Tensor) -> Tensor:
        return self.statistic.lift(region)

    def sums(self, region: Tensor, *, image: Tensor | None, boxes: Tensor | None, patch: Patch | None) -> Tensor:
        return self.statistic.sums(region, image=image, boxes=boxes, patch=patch)

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        g = self.statistic.value(sums, centre)
        return torch.where(g > ROOT_FLOOR, g.clamp_min(ROOT_FLOOR).sqrt(), 0.0)

    @property
    def ruled(self) -> Statistic:
        return self.statistic.ruled

    def link(self, bounds: Tensor) -> Tensor:
        """The root of each finite side; infinite ones stay as they are."""
        bounds = self.statistic.link(bounds)
        return torch.where(bounds.abs() < float("inf"), bounds.clamp_min(0).sqrt(), bounds)

    def unlink(self, bounds: Tensor) -> Tensor:
        return self.statistic.unlink(torch.where(bounds.abs() < float("inf"), bounds.square(), bounds))

    def moved(self, bounds: Tensor, matrix: Tensor, shape: Sequence[int]) -> Tensor:
        moved = self.statistic.moved(bounds.square(), matrix, shape)
        return torch.where(bounds.abs() < float("inf"), moved.clamp_min(0).sqrt(), bounds)
