"""Augmentation of whole batches where they lie, bounds included."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from ...constraints import Statistic
from ...constraints.plain import plain
from ...keys import bounds_key
from .moved_boxes import moved_boxes

__all__ = ["BatchGamma", "BatchIntensity", "BatchSimilarity"]


class BatchSimilarity:
    """Turns, scales and mirrors each 2D sample of a batch about its centre, and its bounds along with it.

    One random similarity a sample: c -> centre + s R (c - centre), R a rotation by `rotation` and any number of quarter
    turns, mirrored in half of the cases. A size is multiplied by s^2, a length by s, and a position mapped, so bounds
    stay right for any rule, also where somebody measured them and there is no label. What leaves the image makes the
    size bounds too large: pad the images so that structures stay inside.

    A whole batch takes few operations on its device, and numbers come from that device's generator, which `EpochSeed`
    seeds: MONAI's RandAffined works sample by sample, with bookkeeping for an inversion that training does not need.

    Args:
        images: keys of what is interpolated linearly; zero comes in from outside. The first has to be there, others
            that a batch lacks are no error: a loss that does not need them does not take them along.
        distances: keys of signed distance maps, which may be missing likewise. They are multiplied by s, so that they
            are the distances of the scaled structure, and what comes in from outside is the nearest pixel's.
        labels: keys of what keeps its values (nearest neighbour) to the value that comes in from outside:
            {"weak": 255, "label": 0}.
        bounds: the statistic of each constraint by its name, whose `<name>_bounds` move along; they may be missing in a
            batch. A size grows with the area, its root with the lengths, a position is mapped (the new box holds the
            turned one).
        boxes: keys of boxes (B, K, J, 2, 2), which may be missing likewise. Mirrors and quarter turns move them
            exactly, scales round them outward: a side is then less than a pixel further from its object than before.
        rotation: largest angle, in degrees.
        scale: smallest and largest s, log-uniform.
        dihedral: quarter turns and mirrors too; needs square images.

    Shapes: images and distances (B, C, H, W), labels (B, 1, H, W), bounds (B, K, M, 2).

    Raises:
        ValueError: for images that are not 2D, not square with `dihedral`, an impossible scale, or boxes and rotation.
        KeyError: a batch lacks one of the labels.
    """

    def __init__(
        self,
        *,
        images: Sequence[str] = ("image",),
        distances: Sequence[str] = (),
        labels: Mapping[str, int] | None = None,
        bounds: Mapping[str, Statistic] | None = None,
        boxes: Sequence[str] = (),
        rotation: float = 0.0,
        scale: Sequence[float] = (1.0, 1.0),
        dihedral: bool = False,
    ) -> None:
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise ValueError(f"BatchSimilarity: scale={list(scale)}; give the smallest and the largest, both above 0")
        if boxes and rotation:
            raise ValueError(
                f"BatchSimilarity: rotation={rotation} with boxes={list(boxes)}; the box around a turned box is larger "
                "than that of its object, so it is no longer tight. Leave rotation out: mirrors, quarter turns and "
                "scales keep boxes"
            )
        self.boxes = tuple(boxes)
        self.images, self.distances, self.labels = tuple(images), tuple(distances), dict(labels or {})
        self.bounds = {bounds_key(name): statistic for name, statistic in (bounds or {}).items()}
        self.rotation, self.scale, self.dihedral = math.radians(rotation), tuple(scale), dihedral

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        image: Tensor = batch[self.images[0]]
        if image.ndim != 4 or (self.dihedral and image.shape[2] != image.shape[3]):
            raise ValueError(
                f"BatchSimilarity: {self.images[0]!r} is {tuple(image.shape)}; expected (B, C, H, W), with H = W for "
                "dihedral=True"
            )
        missing = [key for key in self.labels if key not in batch]
        if missing:
            raise KeyError(
                f"BatchSimilarity: the batch has no {missing} of labels={self.labels}, it has {sorted(batch)}; name "
                "those that some term of the loss reads, since no others are in a batch"
            )
        matrix, area = self._draw(len(image), image.device)
        grid = self._grid(matrix.mT / area[:, None, None], image)  # the inverse of s R
        out = dict(batch)
        for key in (self.images[0], *(key for key in self.images[1:] if key in out)):
            out[key] = grid_sample(plain(out[key]), grid, mode="bilinear", align_corners=False)
        for key in (key for key in self.distances if key in out):
            moved = grid_sample(plain(out[key]), grid, mode="bilinear", padding_mode="border", align_corners=False)
            out[key] = moved * area.sqrt()[:, None, None, None]
        for key, fill in self.labels.items():
            label = plain(out[key])
            # Zero comes in from outside, so the fill has to be zero meanwhile; float32 holds every class exactly.
            moved = grid_sample(label.float() - fill, grid, mode="nearest", align_corners=False)
            out[key] = (moved + fill).to(label.dtype)
        for key, statistic in self.bounds.items():
            if key in out:
                out[key] = statistic.moved(plain(out[key]), matrix, image.shape[2:])
        for key in (key for key in self.boxes if key in out):
            out[key] = moved_boxes(plain(out[key]), matrix, image.shape[2:])
        return out

    def _draw(self, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The matrices s R (B, 2, 2), in (row, column), and s^2."""
        uniform = torch.rand(4, count, device=device)
        angle = (2 * uniform[0] - 1) * self.rotation
        low, high = math.log(self.scale[0]), math.log(self.scale[1])
        scale = torch.exp(low + uniform[1] * (high - low))
        mirror = torch.ones_like(scale)
        if self.dihedral:
            angle = angle + (4 * uniform[2]).floor() * (math.pi / 2)
            mirror = mirror - 2 * (uniform[3] < 0.5)
        cosine, sine = scale * angle.cos(), scale * angle.sin()
        rows = torch.stack([torch.stack([cosine, -sine * mirror], 1), torch.stack([sine, cosine * mirror], 1)], 1)
        return rows, scale**2

    @staticmethod
    def _grid(back: Tensor, image: Tensor) -> Tensor:
        """Where each voxel of the result comes from, as `grid_sample` wants it: (x, y) from -1 to 1."""
        height, width = image.shape[2:]
        half = torch.tensor([width, height], dtype=torch.float32, device=image.device)
        theta = back.flip(1, 2) * half / half[:, None]
        return affine_grid(torch.cat([theta, torch.zeros_like(theta[..., :1])], 2), list(image.shape), False)


class BatchGamma:
    """x -> x^gamma on each sample of a batch, log gamma uniform in [-log_gamma, log_gamma]: contrast, from 0 to 1.

    Args:
        key: images with intensities from 0 to 1; what lies outside is clamped.
        log_gamma: 0.4 is gamma from 0.67 to 1.49.

    Raises:
        ValueError: for a negative log_gamma.
    """

    def __init__(self, key: str = "image", *, log_gamma: float = 0.4) -> None:
        if log_gamma < 0:
            raise ValueError(f"BatchGamma: log_gamma must be >= 0, got {log_gamma}")
        self.key, self.log_gamma = key, log_gamma

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        image = plain(batch[self.key])
        draws = torch.rand(len(image), *[1] * (image.ndim - 1), device=image.device)
        return {**batch, self.key: image.clamp(0, 1) ** torch.exp((2 * draws - 1) * self.log_gamma)}


class BatchIntensity:
    """x -> (1 + c) (x - mean) + mean + b + noise on each sample of a batch: contrast, brightness and noise.

    Args:
        key: images (B, C, *S).
        contrast: c is uniform in [-contrast, contrast].
        brightness: b likewise, in the image's units.
        noise: standard deviation of the Gaussian noise, in the same.

    Raises:
        ValueError: for a negative setting.
    """

    def __init__(
        self, key: str = "image", *, contrast: float = 0.5, brightness: float = 0.25, noise: float = 0.05
    ) -> None:
        if min(contrast, brightness, noise) < 0:
            raise ValueError(
                f"BatchIntensity: contrast={contrast}, brightness={brightness} and noise={noise} must be >= 0"
            )
        self.key, self.contrast, self.brightness, self.noise = key, contrast, brightness, noise

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        image = plain(batch[self.key])
        draws = 2 * torch.rand(2, len(image), *[1] * (image.ndim - 1), device=image.device) - 1
        mean = image.flatten(1).mean(1).reshape(-1, *[1] * (image.ndim - 1))
        changed = (1 + self.contrast * draws[0]) * (image - mean) + mean + self.brightness * draws[1]
        return {**batch, self.key: changed + self.noise * torch.randn_like(image)}
