"""Weak labels made from full ground truth (thesis 2.4.2, figure 2.2): a few voxels keep their class.

Nothing is random from call to call: a case has the same weak labels in every epoch, process and cache. Put
these transforms before the random augmentations.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from monai_constraints.keys import CASE, LABEL, SLICE, UNKNOWN, WEAK
from monai_constraints.transforms.annotation.to_weak import Sample, ToWeakd

__all__ = ["ErodedLabeld", "PointLabeld"]


class _MarkRegiond(ToWeakd):
    """Marks each class's region, or each of its connected components, by a part of itself."""

    def __init__(
        self,
        *,
        classes: Sequence[int],
        key: str,
        output: str,
        connected_components: bool,
        unknown: int,
    ) -> None:
        super().__init__(key=key, output=output, unknown=unknown)
        self.classes = tuple(classes)
        wrong = [k for k in self.classes if not 0 <= k <= 255 or k == unknown]
        if wrong or not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError(
                f"{self.name}: classes={list(classes)}, expected one or more different classes from 0 to "
                f"255, none of them unknown={unknown}."
            )
        self.connected_components = connected_components

    @abstractmethod
    def mark(self, mask: np.ndarray, sample: Sample, *, of_class: int, component: int) -> np.ndarray:
        """The voxels to annotate, a non-empty part of `mask` (the region, cut to its bounding box)."""

    def annotate(self, values: np.ndarray, sample: Sample) -> np.ndarray:
        self.check_classes(values, sample)
        weak = np.full(values.shape, self.unknown, dtype=np.uint8)
        for k in self.classes:
            for component, (box, mask) in enumerate(self._regions(values == k)):
                weak[box][self.mark(mask, sample, of_class=k, component=component)] = k
        return weak

    def _regions(self, mask: np.ndarray) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
        full = np.ones((3,) * mask.ndim)
        components = ndimage.label(mask, full)[0] if self.connected_components else mask.view(np.uint8)
        for number, box in enumerate(ndimage.find_objects(components), start=1):
            yield box, components[box] == number


class ErodedLabeld(_MarkRegiond):
    """Each class eroded by a square (cubic) kernel, smaller if nothing is left (thesis 2.4.2, "Erosion").

    After a side of n voxels comes 7n/10 rounded down: 10, 7, 4, 2, 1, the last being the mask itself. Outside
    the image counts as background. The kernel is a cube of voxels: in an anisotropic volume erode the slices.

    The reference code tries 10 down to 0 iterations of the 3 x 3 structure instead, that is, sides of 21, 19,
    ... 1: ``size=range(21, 0, -2)``. On the left ventricle of ACDC this annotates 0.09 % of the pixels (the
    thesis says 0.1 %), and the 10 x 10 kernel of the text 0.5 %.

    Args:
        classes: classes to annotate; one that the sample lacks leaves nothing.
        key: full label (1, *S), 2D or 3D, integer classes.
        output: key to write, (1, *S) uint8 tensor with the metadata of `key`.
        size: side of the first kernel in voxels, or the sides to try in turn.
        connected_components: erode each fully connected component by itself, so that none disappears.
        unknown: value of the voxels without annotation.

    Raises:
        KeyError: the sample has no `key`.
        ValueError: wrong `classes` or `size`, or a label as in :class:`FullLabeld`.
    """

    def __init__(
        self,
        *,
        classes: Sequence[int],
        key: str = LABEL,
        output: str = WEAK,
        size: int | Sequence[int] = 10,
        connected_components: bool = False,
        unknown: int = UNKNOWN,
    ) -> None:
        super().__init__(
            classes=classes,
            key=key,
            output=output,
            connected_components=connected_components,
            unknown=unknown,
        )
        self.sizes = _shrinking(size) if isinstance(size, int) else list(size)
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError(f"ErodedLabeld: size={size}, expected kernel sides of 1 voxel or more.")

    def mark(self, mask: np.ndarray, sample: Sample, *, of_class: int, component: int) -> np.ndarray:
        for size in self.sizes:
            # The minimum over a cube is the erosion by it, and separable. Padding by 0 is exact although the
            # mask is cut to its bounding box: all outside the box is background.
            eroded = ndimage.minimum_filter(mask.view(np.uint8), size=size, mode="constant", cval=0)
            if eroded.any():
                return eroded.view(bool)
        return mask


def _shrinking(size: int) -> list[int]:
    sizes = [size]
    while size > 1:
        size = size * 7 // 10
        sizes.append(size)
    return sizes


class PointLabeld(_MarkRegiond):
    """A disc around one random voxel of each class, without overlap with the others (2.4.2, "Random point").

    The voxel is a hash of (seed, case, slice, class, component) and depends on nothing else: not on the order
    of the samples or of `classes`, nor on the versions of NumPy and Python. A sample without `slice` is a volume
    or a lone image: there the case alone decides.

    The reference code has discs of width 4, about ``radius=2``. On the left ventricle of ACDC these annotate
    0.02 % of the pixels (the thesis says 0.02 %, of other data), and the radius of 4 of the text 0.08 %.

    Args:
        classes: classes to annotate (list 0 for a mark in the background); one that the sample lacks leaves
            nothing.
        key: full label (1, *S), 2D or 3D, integer classes.
        output: key to write, (1, *S) uint8 tensor with the metadata of `key`.
        radius: radius of the disc (ball in 3D) in voxels; 0 marks one voxel.
        seed: another seed draws other voxels.
        connected_components: one disc for each fully connected component, clipped to it.
        unknown: value of the voxels without annotation.

    Raises:
        KeyError: the sample has no `key` or no `case`.
        ValueError: wrong `classes` or `radius`, or a label as in :class:`FullLabeld`.
    """

    def __init__(
        self,
        *,
        classes: Sequence[int],
        key: str = LABEL,
        output: str = WEAK,
        radius: float = 4,
        seed: int = 0,
        connected_components: bool = False,
        unknown: int = UNKNOWN,
    ) -> None:
        super().__init__(
            classes=classes,
            key=key,
            output=output,
            connected_components=connected_components,
            unknown=unknown,
        )
        if not radius >= 0:
            raise ValueError(f"PointLabeld: radius={radius}, expected 0 or more voxels.")
        self.radius = radius
        self.seed = int(seed)

    def annotate(self, values: np.ndarray, sample: Sample) -> np.ndarray:
        if CASE not in sample:
            raise KeyError(
                f"PointLabeld: the sample has no '{CASE}', which its points are drawn from; add a `{CASE}` entry, "
                "the name of the volume, to the datalist."
            )
        return super().annotate(values, sample)

    def mark(self, mask: np.ndarray, sample: Sample, *, of_class: int, component: int) -> np.ndarray:
        slice_index = int(sample[SLICE]) if SLICE in sample else None
        identity = repr((self.seed, str(sample[CASE]), slice_index, int(of_class), component))
        drawn = int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "big")
        voxels = np.flatnonzero(mask)
        centre = np.unravel_index(voxels[drawn % len(voxels)], mask.shape)
        return _clipped_disc(mask, centre, self.radius)


def _clipped_disc(mask: np.ndarray, centre: Sequence[int] | np.ndarray, radius: float) -> np.ndarray:
    grid = np.ogrid[tuple(slice(side) for side in mask.shape)]
    return mask & (sum((axis - c) ** 2 for axis, c in zip(grid, centre)) <= radius**2)
