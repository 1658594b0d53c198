"""A box of one image of the batch on another, with what is then known: the labels of either, and exact bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...constraints import Size, Statistic
from ...constraints.plain import plain
from ...keys import IMAGE, UNKNOWN, WEAK, bounds_key

__all__ = ["BatchCopyPaste"]


class BatchCopyPaste:
    r"""x_i = x_i outside of a box B, x_j inside of it: labelled images on others and others on labelled ones.

    Sample j is the one before i in the batch, so where every second sample is annotated (`MixedSlices` with a share of
    1/2) each pair is one of either kind, in both directions. The weak label is cut like the image. The size V_k of
    class k in the mixed image is the sum over its two parts P, and of a part of an image with bounds [a, b] is known

        max(n_k(P), a - N_k(P')) <= V_k(P) <= min(N_k(P), b - n_k(P')),

    with P' the rest of that image, n_k the pixels known to be of class k, and N_k those that may be. A part without any
    label thus has 0 .. its area within the image's own bounds, one that is labelled the size that it has. A mixed image
    of which every pixel is known has no bounds, like a labelled one.

    Args:
        bounds: the statistic of each constraint by its name, a Size or the Root of one; may be missing in a batch.
        probability: of a sample to get a box.
        sides: smallest and largest side of the box, as a share of the image's.
        image_key, weak_key: images (B, C, *S); labels (B, 1, *S), `unknown` where nothing is known.
        unknown: that value.

    Raises:
        ValueError: for another statistic than a size, or a setting out of range.

    Source: Bai et al., Bidirectional copy-paste for semi-supervised medical image segmentation, CVPR 2023, for the
    pasting in both directions; there pseudo-labels stand where here bounds do.
    """

    def __init__(
        self,
        *,
        bounds: Mapping[str, Statistic],
        probability: float = 0.5,
        sides: tuple[float, float] = (0.2, 0.7),
        image_key: str = IMAGE,
        weak_key: str = WEAK,
        unknown: int = UNKNOWN,
    ) -> None:
        if not 0 <= probability <= 1 or len(sides) != 2 or not 0 < sides[0] <= sides[1] <= 1:
            raise ValueError(f"BatchCopyPaste: probability={probability} and sides={list(sides)} must be from 0 to 1")
        for name, statistic in bounds.items():
            if not isinstance(statistic.ruled, Size) or statistic.classes is None:
                raise ValueError(
                    f"BatchCopyPaste: {name} is {type(statistic.ruled).__name__}, classes={statistic.classes}; what a "
                    "part of an image has is known of a Size with classes=[...]"
                )
        self.bounds = {bounds_key(name): statistic for name, statistic in bounds.items()}
        self.probability, self.sides = probability, tuple(sides)
        self.image_key, self.weak_key, self.unknown = image_key, weak_key, unknown

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        image, weak = plain(batch[self.image_key]), plain(batch[self.weak_key])
        box = self.boxes(image)
        out = {**batch, self.image_key: torch.where(box, image.roll(1, 0), image)}
        out[self.weak_key] = torch.where(box, weak.roll(1, 0), weak)
        boxed, whole = box.flatten(1).any(1), (out[self.weak_key] != self.unknown).flatten(1).all(1)
        for key, statistic in self.bounds.items():
            if key in batch:
                given = plain(batch[key])
                own = self._part(weak, statistic, given, ~box)
                pasted = self._part(weak.roll(1, 0), statistic, given.roll(1, 0), box)
                mixed = statistic.link(own + pasted)
                mixed[whole] = torch.tensor([-float("inf"), float("inf")], device=mixed.device)
                out[key] = torch.where(boxed[:, None, None, None], mixed, given)
        return out

    def boxes(self, image: Tensor) -> Tensor:
        """Where each sample is another one, (B, 1, *S)."""
        count, _, *shape = image.shape
        ones = [1] * (image.ndim - 1)
        inside = (torch.rand(count, device=image.device) < self.probability).reshape(-1, *ones)
        low, high = self.sides
        for axis, size in enumerate(shape, start=2):
            side, place = torch.rand(2, count, *ones, device=image.device)
            side = (low + (high - low) * side) * size
            start = place * (size - side)
            along = [-1 if d == axis else 1 for d in range(image.ndim)]
            position = torch.arange(size, device=image.device).reshape(along)
            inside = inside & (position >= start) & (position < start + side)
        return inside

    def _part(self, weak: Tensor, statistic: Statistic, bounds: Tensor, part: Tensor) -> Tensor:
        """Bounds (B, K, 1, 2) of the size in the part (B, 1, *S) of images with these labels and bounds."""
        assert statistic.classes is not None  # since __init__
        lower, upper = statistic.unlink(bounds)[:, :, 0].unbind(-1)
        sure = torch.cat([weak == k for k in statistic.classes], 1)
        free = weak == self.unknown
        counts = [(region & where).flatten(2).sum(2).float() for where in (part, ~part) for region in (sure, free)]
        here, free_here, there, free_there = counts
        low = torch.maximum(here, lower - there - free_there)
        high = torch.minimum(here + free_here, upper - there)
        return torch.stack([torch.minimum(low, high), high], -1)[:, :, None]
