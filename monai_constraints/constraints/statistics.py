"""Statistics f(s) of a soft region: functions of sums over voxels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Union

import torch
from torch import Tensor

from .block_sums import block_sums

__all__ = ["Centroid", "MeanIntensity", "Size", "Spread", "Statistic"]

Feature = Union[float, Tensor]
CACHED_SHAPES = 4  # feature maps are as large as the image: validation on native shapes must not pile them up
NORMALISER_FLOOR = 1e-10  # keeps an empty region's quotient finite (REFERENCE: the published centroid's epsilon)


@lru_cache(maxsize=CACHED_SHAPES)
@torch.inference_mode(False)  # what a validation caches, a training must be able to differentiate with
def _centre(shape: tuple[int, ...], device: torch.device) -> Tensor:
    return (torch.tensor(shape, dtype=torch.float32) - 1).div(2).to(device)


@lru_cache(maxsize=CACHED_SHAPES)
def _centred_axes(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, ...]:
    # Centred, because squares of coordinates of several hundreds cost float32 its last digits.
    axes = [torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2 for n in shape]
    return tuple(torch.meshgrid(*axes, indexing="ij"))


class Statistic(ABC):
    r"""A quantity of the soft region of each class, f(s) = g(sum_p s_p phi(p)).

    A subclass writes `features` (phi) and `value` (g). The sum in between is written here, once, in float32 and
    outside autocast; it adds over patches of an image, slices of a volume, and ranks.

    Args:
        classes: the channels to constrain; all by default. The only place where classes are selected: bounds made
            with this statistic and losses that use it have K = len(classes).

    Shapes: probabilities or a hard mask (B, C, *S), S of 2 or 3 axes; sums (B, K, F); values (B, K, M).
    Units: coordinates are voxel indices of the whole image.
    """

    absent: tuple[float, float] = (-float("inf"), float("inf"))
    """The bounds of a class that is not there: nothing to say, unless the statistic is a size."""

    minimum: float = -float("inf")
    """The smallest value the statistic can take; lower bounds are clamped to it."""

    needs_image: bool = False

    linear: bool = False
    """Whether `value` returns the sums as they are, which Lagrangian proposals (1.24) need."""

    def __init__(self, *, classes: Sequence[int] | None = None) -> None:
        if classes is not None and (len(classes) == 0 or len(set(classes)) != len(classes) or min(classes) < 0):
            raise ValueError(f"{type(self).__name__}: classes={list(classes)} must be distinct channels >= 0")
        self.classes = None if classes is None else tuple(classes)
        self._cache: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}

    @abstractmethod
    def features(self, coordinates: Sequence[Tensor], image: Tensor | None) -> Sequence[Feature]:
        """phi: F maps, each a number, (*S) or (B, *S).

        Args:
            coordinates: one map an axis, in voxels from the centre of the whole image.
            image: (B, C, *S) float32, for statistics with `needs_image`.
        """

    @abstractmethod
    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        """g: sums (..., F) to values (..., M).

        Args:
            sums: sums over voxels of s_p phi(p).
            centre: (D,) index coordinates of the image's centre, to turn centred coordinates into indices.
        """

    def sums(
        self,
        region: Tensor,
        *,
        image: Tensor | None = None,
        offset: Tensor | None = None,
        shape: Sequence[int] | None = None,
    ) -> Tensor:
        """sum_p s_p phi(p), (B, K, F) float32: add those of disjoint patches to have the whole's.

        Args:
            region: probabilities or mask (B, C, *S).
            image: (B, C', *S) for statistics with `needs_image`.
            offset: (B, D) index of the patch's first voxel in the whole image; 0 by default.
            shape: of the whole image; of `region` by default.

        Raises:
            ValueError: where shapes do not fit, or the image is missing.
        """
        region = _plain(self._select(region))
        spatial = tuple(region.shape[2:])
        if (offset is None) != (shape is None):
            raise ValueError(f"{type(self).__name__}: a patch needs both its offset and the whole image's shape")
        if self.needs_image and image is None:
            raise ValueError(f"{type(self).__name__}: needs the image; pass image=(B, C, *S)")
        if self.needs_image and image is not None and (image.shape[0], *image.shape[2:]) != (len(region), *spatial):
            raise ValueError(
                f"{type(self).__name__}: image {tuple(image.shape)} does not fit the region {tuple(region.shape)}; "
                f"expected (B, C, *S) = ({len(region)}, C, {', '.join(map(str, spatial))})"
            )
        if offset is not None and tuple(offset.shape) != (len(region), len(spatial)):
            raise ValueError(
                f"{type(self).__name__}: offset {tuple(offset.shape)}; expected (B, D) = {(len(region), len(spatial))}"
            )
        with torch.autocast(region.device.type, enabled=False):
            phi = self.feature_maps(spatial, region.device, image, offset, shape)
            return block_sums(region.float(), phi)

    def __call__(
        self,
        region: Tensor,
        *,
        image: Tensor | None = None,
        offset: Tensor | None = None,
        shape: Sequence[int] | None = None,
    ) -> Tensor:
        """f(s) of each sample and class, (B, K, M); arguments as in `sums`."""
        sums = self.sums(region, image=image, offset=offset, shape=shape)
        return self.value(sums, self.centre(shape or region.shape[2:], sums.device))

    def centre(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Index coordinates of the centre of an image of this shape, (D,)."""
        return _centre(tuple(shape), device)

    def _select(self, region: Tensor) -> Tensor:
        if region.ndim not in (4, 5):
            raise ValueError(
                f"{type(self).__name__}: expected (B, C, H, W) or (B, C, H, W, D), got {tuple(region.shape)}"
            )
        if self.classes is None:
            return region
        if max(self.classes) >= region.shape[1]:
            raise ValueError(
                f"{type(self).__name__}: classes={list(self.classes)} but the region has {region.shape[1]} channels; "
                "choose classes among the network's outputs"
            )
        first, last = self.classes[0], self.classes[-1]
        if self.classes == tuple(range(first, last + 1)):
            return region[:, first : last + 1]  # a view: no copy on the way there, none on the way back
        return region[:, list(self.classes)]

    @torch.inference_mode(False)  # what a validation caches, a training must be able to differentiate with
    def feature_maps(
        self,
        spatial: tuple[int, ...],
        device: torch.device,
        image: Tensor | None,
        offset: Tensor | None = None,
        shape: Sequence[int] | None = None,
    ) -> Tensor:
        """phi as (F, P), or (B, F, P) where samples differ; arguments as in `sums`."""
        key = (spatial, device)
        fixed = offset is None and not self.needs_image
        if fixed and key in self._cache:
            return self._cache[key]
        coordinates: Sequence[Tensor] = _centred_axes(spatial, device)
        if offset is not None and shape is not None:
            # From the centre of the patch to the centre of the whole image.
            shift = offset.to(device).float() + _centre(spatial, device) - _centre(tuple(shape), device)
            coordinates = [c + shift[:, axis].reshape(-1, *[1] * len(spatial)) for axis, c in enumerate(coordinates)]
        image = _plain(image).float() if self.needs_image and image is not None else image
        maps = [torch.as_tensor(f, dtype=torch.float32, device=device) for f in self.features(coordinates, image)]
        ndim = max([len(spatial), *[m.ndim for m in maps]])
        batch = max([m.shape[0] for m in maps if m.ndim == len(spatial) + 1], default=1)
        full = (batch, *spatial) if ndim == len(spatial) + 1 else spatial
        phi = torch.stack([m.expand(full) for m in maps], dim=-len(spatial) - 1).flatten(-len(spatial))
        if fixed:
            if len(self._cache) >= CACHED_SHAPES:
                self._cache.clear()
            self._cache[key] = phi
        return phi


def _quotient(sums: Tensor) -> Tensor:
    size, moments = sums.split([1, sums.shape[-1] - 1], dim=-1)  # one operation on the way back too, unlike two slices
    return moments / (size + NORMALISER_FLOOR)


def _plain(x: Tensor) -> Tensor:
    # MetaTensor's bookkeeping costs ten times the operation itself.
    return x.as_subclass(Tensor) if type(x) is not Tensor else x


class Size(Statistic):
    """Size of the region, V_k = sum_p s_kp (thesis 3.11), in voxels. M = 1; an absent class has size 0."""

    absent = (0.0, 0.0)
    minimum = 0.0
    linear = True

    def features(self, coordinates: Sequence[Tensor], image: Tensor | None) -> Sequence[Feature]:
        return [1.0]

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        return sums


class Centroid(Statistic):
    """Centroid of the region, C_k = sum_p s_kp c_p / sum_p s_kp (thesis 3.12), in voxel indices. M = D.

    The centroid of an empty region is the image's centre.
    """

    def features(self, coordinates: Sequence[Tensor], image: Tensor | None) -> Sequence[Feature]:
        return [1.0, *coordinates]

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        return _quotient(sums) + centre


class Spread(Statistic):
    """Second central moment along each axis, sum_p s_p (c_p - C)^2 / sum_p s_p (thesis 2.8), in voxels squared. M = D.

    The variance of where the region is: a disc of radius r has r^2 / 4, a box of side a has a^2 / 12.
    Rounding: about 1e-7 of the squared distance from the image's centre, 0.007 in the corner of 512 x 512.
    """

    minimum = 0.0

    def features(self, coordinates: Sequence[Tensor], image: Tensor | None) -> Sequence[Feature]:
        return [1.0, *coordinates, *[c * c for c in coordinates]]

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        mean, square = _quotient(sums).chunk(2, dim=-1)
        return square - mean * mean


class MeanIntensity(Statistic):
    """Mean of each image channel in the region, sum_p s_p I_p / sum_p s_p (thesis 2.8), in the image's units. M = C."""

    needs_image = True

    def features(self, coordinates: Sequence[Tensor], image: Tensor | None) -> Sequence[Feature]:
        assert image is not None  # `sums` has checked
        return [1.0, *image.unbind(1)]

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        return _quotient(sums)
