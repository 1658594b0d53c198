"""What every statistic f(s) of a soft region shares: checks, the choice of classes, and the sum over voxels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Union

import torch
from torch import Tensor

from .block_sums import block_sums
from .coordinates import CACHED_SHAPES, centre_of, centred_axes
from .network_output import check_output, select_classes
from .patch import Patch
from .plain import plain

__all__ = ["Feature", "Statistic"]

Feature = Union[float, Tensor]


class Statistic(ABC):
    r"""A quantity of the soft region of each class, f(s) = g(sum_p tau(s)_p phi(p)).

    A subclass writes `features` (phi) and `value` (g), rarely `lift` (tau). The sum in between is written here, once,
    in float32 and outside autocast; it adds over patches of an image, slices of a volume, and ranks. Where there is a
    shorter way to it than a dense map of each feature (rows, columns, slabs), a subclass replaces `sums` alone.

    Args:
        classes: the classes to constrain; all channels by default. The only place where classes are selected: bounds
            made with this statistic and losses that use it have K = len(classes). Of a single channel see
            `network_output`.

    Shapes: probabilities or a hard mask (B, C, *S), S of 2 or 3 axes; sums (B, K, F); values (B, K', M), K' = K unless
        the statistic relates classes to each other.
    Units: coordinates are voxel indices of the whole image.
    """

    absent: tuple[float, float] = (-float("inf"), float("inf"))
    """The bounds of a class that is not there: nothing to say, unless the statistic is a size."""

    minimum: float = -float("inf")
    """The smallest value the statistic can take; lower bounds are clamped to it."""

    linear: bool = False
    """Whether `value` returns the sums as they are, which Lagrangian proposals (1.24) need."""

    needs_image: bool = False
    needs_boxes: bool = False

    reach: int | None = 0
    """How many voxels around a voxel `lift` looks at, and hence the halo of a patch; None: any number, no patches."""

    def __init__(self, *, classes: Sequence[int] | None = None) -> None:
        if classes is not None and (len(classes) == 0 or len(set(classes)) != len(classes) or min(classes) < 0):
            raise ValueError(f"{type(self).__name__}: classes={list(classes)} must be distinct channels >= 0")
        self.classes = None if classes is None else tuple(classes)
        self._cache: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}

    @abstractmethod
    def features(
        self, coordinates: Sequence[Tensor], image: Tensor | None, boxes: Tensor | None
    ) -> Sequence[Feature]:
        """phi: F maps, each a number, (*S), (B, *S) where samples differ, or (B, K, *S) where classes differ too.

        Args:
            coordinates: one map an axis, in voxels from the centre of the whole image.
            image: (B, C, *S) float32, for statistics with `needs_image`.
            boxes: (B, K, J, D, 2) in the same coordinates, for statistics with `needs_boxes`.
        """

    @abstractmethod
    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        """g: sums (..., K, F) to values (..., K', M).

        Args:
            sums: sums over voxels of s_p phi(p).
            centre: index coordinates of the image's centre, to turn centred coordinates into indices: (D,), or
                (B, 1, D) where samples are patches of images of their own.
        """

    def lift(self, region: Tensor) -> Tensor:
        """tau: a map of the chosen classes (B, K, *S), before the sum; the region itself by default.

        It may change the number of channels. Say in `reach` how far it looks.
        """
        return region

    def sums(self, region: Tensor, *, image: Tensor | None, boxes: Tensor | None, patch: Patch | None) -> Tensor:
        """sum_p s_p phi(p), (B, K, F), of what `measure` has checked and lifted: the step that a subclass may replace.

        Args:
            region: (B, K, *S) plain float32, outside autocast.
            image: (B, C, *S) float32 for statistics with `needs_image`, else None.
            boxes: (B, K, J, D, 2) voxel indices of the whole image for statistics with `needs_boxes`, else None.
            patch: where the samples lie; None for whole images.
        """
        return block_sums(region, self.feature_maps(tuple(region.shape[2:]), region.device, image, boxes, patch))

    def measure(
        self,
        region: Tensor,
        *,
        image: Tensor | None = None,
        boxes: Tensor | None = None,
        patch: Patch | None = None,
    ) -> Tensor:
        """The sums of a batch, (B, K, F) float32: add those of disjoint patches to have the whole image's.

        Args:
            region: probabilities or mask (B, C, *S).
            image: (B, C', *S) for statistics with `needs_image`.
            boxes: (B, K, J, D, 2) voxel indices, first and one past the last, for statistics with `needs_boxes`.
            patch: where in their whole images the samples lie; by default they are whole.

        Raises:
            ValueError: where shapes do not fit, the image or the boxes are missing, or a patch shows too little.
        """
        name = type(self).__name__
        check_output(region, image, owner=name)
        region = plain(region)
        shape = tuple(region.shape)
        if region.ndim not in (4, 5):
            raise ValueError(f"{name}: expected (B, C, H, W) or (B, C, H, W, D), got {shape}")
        size, spatial = len(region), shape[2:]
        if self.needs_image:
            if image is None:
                raise ValueError(f"{name}: needs the image; pass image=(B, C, *S)")
            image = plain(image)
            if (image.shape[0], *image.shape[2:]) != (size, *spatial):
                raise ValueError(
                    f"{name}: image {tuple(image.shape)} does not fit the region {shape}; "
                    f"expected (B, C, *S) = ({size}, C, {', '.join(map(str, spatial))})"
                )
            image = image.float()
        if self.needs_boxes:
            if boxes is None:
                raise ValueError(f"{name}: needs the boxes; pass boxes=(B, K, J, D, 2)")
            boxes = plain(boxes).to(region.device)
            if boxes.ndim != 5 or (boxes.shape[0], *boxes.shape[3:]) != (size, len(spatial), 2):
                raise ValueError(
                    f"{name}: boxes {tuple(boxes.shape)} do not fit the region {shape}; "
                    f"expected (B, K, J, D, 2) = ({size}, K, J, {len(spatial)}, 2)"
                )
        if patch is not None:
            if self.reach is None:
                raise ValueError(f"{name}: looks at the whole image and cannot be summed over patches; pass it whole")
            for what, given in zip(Patch._fields, patch):
                if tuple(given.shape) != (size, len(spatial)):
                    raise ValueError(
                        f"{name}: the patch's {what} is {tuple(given.shape)}; expected (B, D) = {(size, len(spatial))}"
                    )
            patch = Patch(*(given.to(region.device) for given in patch))
        with torch.autocast(region.device.type, enabled=False):
            return self.sums(
                self.lift(select_classes(region, self.classes, owner=name).float()),
                image=image if self.needs_image else None,
                boxes=boxes if self.needs_boxes else None,
                patch=patch,
            )

    def __call__(
        self,
        region: Tensor,
        *,
        image: Tensor | None = None,
        boxes: Tensor | None = None,
        patch: Patch | None = None,
    ) -> Tensor:
        """f(s) of each sample and class, (B, K', M); arguments as in `measure`."""
        sums = self.measure(region, image=image, boxes=boxes, patch=patch)
        return self.value(sums, self.centre(region.shape[2:] if patch is None else patch, sums.device))

    def centre(self, where: Sequence[int] | Patch, device: torch.device) -> Tensor:
        """Index coordinates of an image's centre: (D,) for a shape, (B, 1, D) for the images of patches."""
        if isinstance(where, Patch):
            return (where.shape.to(device, torch.float32) - 1).div(2)[:, None]
        return centre_of(tuple(where), device)

    @property
    def ruled(self) -> Statistic:
        """The statistic that a rule of bounds speaks of: itself, unless it is a function of another."""
        return self

    def link(self, bounds: Tensor) -> Tensor:
        """Bounds of `ruled` (..., 2) to bounds of this statistic."""
        return bounds

    def range_in(self, spatial: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        """The least and the largest value (M,) or () in an image of this shape; None: not known."""
        return None

    def unlink(self, bounds: Tensor) -> Tensor:
        """The other way."""
        return bounds

    def moved(self, bounds: Tensor, matrix: Tensor, shape: Sequence[int]) -> Tensor:
        """Bounds (B, K, M, 2) after each image was moved by a similarity c -> centre + matrix (c - centre).

        Args:
            bounds: of this statistic, before.
            matrix: (B, D, D), a rotation or mirror times a scale.
            shape: of the image, *S.

        Raises:
            NotImplementedError: where nobody has said how the statistic moves.
        """
        raise NotImplementedError(
            f"{type(self).__name__}: how its bounds move with the image is not known; make them after the augmentation,"
            " augment without what moves the image, or write `moved`"
        )

    def shift(self, spatial: Sequence[int], patch: Patch) -> Tensor:
        """From the centre of the whole image to the centre of each patch, (B, D) in voxels."""
        device = patch.offset.device
        return patch.offset + centre_of(tuple(spatial), device) - (patch.shape - 1) / 2

    @torch.inference_mode(False)  # what a validation caches, a training must be able to differentiate with
    def feature_maps(
        self,
        spatial: tuple[int, ...],
        device: torch.device,
        image: Tensor | None = None,
        boxes: Tensor | None = None,
        patch: Patch | None = None,
    ) -> Tensor:
        """phi as (F, P), (B, F, P) where samples differ, or (B, K, F, P) where classes do; arguments as in `sums`."""
        key = (spatial, device)
        fixed = patch is None and not self.needs_image and not self.needs_boxes
        if fixed and key in self._cache:
            return self._cache[key]
        coordinates: Sequence[Tensor] = centred_axes(spatial, device)
        if patch is not None:
            shift = self.shift(spatial, patch)
            coordinates = [c + shift[:, axis].reshape(-1, *[1] * len(spatial)) for axis, c in enumerate(coordinates)]
        image = plain(image).float() if image is not None else None
        if boxes is not None:
            centre = centre_of(spatial, device) if patch is None else self.centre(patch, device)[:, :, None]
            boxes = boxes - centre[..., None]
        made = self.features(coordinates, image, boxes)
        maps = [torch.as_tensor(f, dtype=torch.float32, device=device) for f in made]
        if max(m.ndim for m in maps) == len(spatial) + 2:
            maps = [m.unsqueeze(1) if m.ndim == len(spatial) + 1 else m for m in maps]
        full = torch.broadcast_shapes(spatial, *(m.shape for m in maps))
        phi = torch.stack([m.expand(full) for m in maps], dim=-len(spatial) - 1).flatten(-len(spatial))
        if fixed:
            if len(self._cache) >= CACHED_SHAPES:
                self._cache.clear()
            self._cache[key] = phi
        return phi
