"""Two discs in noise, as a data set and as lists of cases without files (thesis 3.4.1)."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from monai_constraints.data.datalist import find_images

__all__ = ["TwoCircles", "circles_datalist", "circles_images"]

_DISTRACTOR, _TARGET = 255, 125


class TwoCircles(Dataset[dict[str, Any]]):
    """Two discs of one size and two intensities, in noise; the darker is the target (thesis 3.4.1, Fig. 3.1).

    Neither the size nor the centroid alone tells which disc is the target, both together do. The target is
    drawn last, so it is always whole; it may hide the distractor. Gaussian noise, with a standard deviation
    drawn for each image from 0, 1, ..., 99 and values clipped to +-255, is added to the intensities 0, 255
    (distractor) and 125 (target); the sum is divided by 255, so `image` lies in [-1, 2].

    A sample is `image` (1, size, size) float32, `label` (1, size, size) uint8 with the target 1, `case` such
    as "circles_00012" (`start` + position) and `index` (position). It is drawn on access and depends only on
    `seed`, `start` + position and the geometry. Sets of the published sizes: `TwoCircles(1000)` and
    `TwoCircles(100, start=1000)`.

    Args:
        count: number of images.
        size: side of the square image, pixels.
        radius: of both discs, pixels.
        margin: smallest distance from a centre to the edge of the image, pixels; at least `radius`.
        seed: 0 or more.
        start: number of the first image; sets whose numbers don't overlap share no image.

    Raises:
        ValueError: count or radius below 1, a negative seed or start, or no place for the discs.

    Source: LIVIAETS/extended_logbarrier, preprocess/gen_toy.py (where noise is also truncated to integers).
    """

    def __init__(
        self,
        count: int,
        *,
        size: int = 256,
        radius: int = 25,
        margin: int = 25,
        seed: int = 0,
        start: int = 0,
    ) -> None:
        if count < 1:
            raise ValueError(f"TwoCircles: count={count}; ask for at least 1 image.")
        if seed < 0 or start < 0:
            raise ValueError(f"TwoCircles: seed={seed}, start={start}; make both 0 or more.")
        if not 1 <= radius <= margin:
            raise ValueError(
                f"TwoCircles: radius={radius}, margin={margin}; the margin is counted from the centre, "
                "make it at least the radius, and the radius at least 1."
            )
        if size <= 2 * margin:
            raise ValueError(
                f"TwoCircles: size={size} leaves no place for discs with radius={radius}, margin={margin}; "
                f"make size at least {2 * margin + 1} or the margin smaller."
            )
        self.count = count
        self.size = size
        self.radius = radius
        self.margin = margin
        self.seed = seed
        self.start = start

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> dict[str, Any]:
        position = range(self.count)[position]  # IndexError past the end; negative positions count from it
        number = self.start + position
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(number,)))
        distractor, target = self._disc(rng), self._disc(rng)
        image = np.where(target, _TARGET, np.where(distractor, _DISTRACTOR, 0))
        noise = rng.normal(0, rng.integers(100), image.shape).clip(-255, 255)
        return {
            "image": torch.from_numpy(((image + noise) / 255).astype(np.float32))[None],
            "label": torch.from_numpy(target.astype(np.uint8))[None],
            "case": f"circles_{number:05d}",
            "index": position,
        }

    def _disc(self, rng: np.random.Generator) -> np.ndarray:
        row, column = rng.integers(self.margin, self.size - self.margin, size=2)
        y, x = np.ogrid[: self.size, : self.size]
        return (y - row) ** 2 + (x - column) ** 2 <= self.radius**2


def circles_datalist(
    root: str | os.PathLike[str] = "", *, count: int, validation_count: int, size: int, radius: int, seed: int = 0
) -> dict[str, list[dict[str, Any]]]:
    """Generated cases as {"training": [...], "validation": [...]}: their `image` and `label` are tensors, not paths.

    Args:
        root: not used; data sets with files have a folder here.
        count, validation_count: numbers of images.
        size, radius, seed: of `TwoCircles`; the discs keep their radius as margin.
    """
    parts = {"training": (count, 0), "validation": (validation_count, 100_000)}
    return {part: _cases(number, size, radius, seed, start) for part, (number, start) in parts.items()}


def circles_images(
    root: str | os.PathLike[str] = "",
    *,
    count: int,
    size: int,
    radius: int,
    seed: int = 0,
    leave_out: str | os.PathLike[str] = "",
) -> list[dict[str, Any]]:
    """Images to predict in: those of a folder, or new generated ones where none is given.

    Args:
        root, leave_out: of `find_images`.
        count, size, radius, seed: of the generated ones.
    """
    return find_images(root, leave_out=leave_out) if root else _cases(count, size, radius, seed, 200_000)


def _cases(count: int, size: int, radius: int, seed: int, start: int) -> list[dict[str, Any]]:
    images = TwoCircles(count, size=size, radius=radius, margin=radius, seed=seed, start=start)
    return [{key: item[key] for key in ("image", "label", "case")} for item in images]
