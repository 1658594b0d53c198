"""What the transforms that measure distances share: reading the label and the voxel size, and the transform itself."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Union

import edt
import numpy as np
import torch
from monai.data import MetaTensor, affine_to_spacing
from monai.transforms import MapTransform
from monai.transforms.utils import distance_transform_edt
from monai.utils import convert_to_dst_type, convert_to_numpy, optional_import

from monai_constraints.arrays import of_classes

from ...keys import UNKNOWN

__all__ = ["Crossing", "SpacingName", "ToDistanced", "crossing_distance", "is_class"]

SpacingName = Union[Sequence[float], Literal["voxel"], None]
HAS_CUCIM = optional_import("cucim.core.operations.morphology")[1] and optional_import("cupy")[1]
cv2, HAS_OPENCV = optional_import("cv2")


def crossing_distance(
    mask: np.ndarray, spacing: Sequence[float], *, threads: int | None = None, device: torch.device | None = None
) -> np.ndarray | None:
    """Distance of each voxel to the nearest one on the other side of the boundary; None where there is no boundary.

    One pass over two labels, inside and outside, gives what two transforms of the mask and of its complement do. In a
    plane of square pixels OpenCV's exact transform, where it is installed, takes half the time; not in the processes
    of a DataLoader's workers, which it may block.

    Args:
        mask: bool (*S), 2 or 3 axes.
        spacing: of the voxels, one number an axis.
        threads: of the transform; by default PyTorch's number, which is one in a DataLoader's worker.
        device: a GPU, which does it where cuCIM is installed.

    Returns:
        (*S) float32.
    """
    if not 0 < np.count_nonzero(mask) < mask.size:
        return None
    if device is not None and device.type == "cuda" and HAS_CUCIM:
        both = torch.from_numpy(np.stack([mask, ~mask])).to(device)
        return torch.as_tensor(distance_transform_edt(both, sampling=list(spacing))).sum(0).float().cpu().numpy()
    threads = threads or torch.get_num_threads()
    # In a forked worker OpenCV can wait for ever for threads that only its parent has.
    alone = multiprocessing.parent_process() is None
    if HAS_OPENCV and alone and mask.ndim == 2 and math.isclose(*spacing, rel_tol=1e-6):
        return _square_pixels(mask, spacing[0], threads)
    labels = np.add(mask.view(np.uint8), np.uint8(1), order="C")
    return edt.edt(labels, anisotropy=tuple(spacing), parallel=threads)


def _square_pixels(mask: np.ndarray, size: float, threads: int) -> np.ndarray:
    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        larger = np.ascontiguousarray(mask).view(np.uint8)
        smaller = 1 - larger
        if 2 * np.count_nonzero(mask) < mask.size:
            smaller, larger = larger, smaller
        distance = cv2.distanceTransform(larger, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        # From within the smaller side, the margin of one pixel around its bounding box is nearer than all beyond.
        column, row, width, height = cv2.boundingRect(smaller)
        box = slice(max(row - 1, 0), row + height + 1), slice(max(column - 1, 0), column + width + 1)
        distance[box] += cv2.distanceTransform(smaller[box], cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    finally:
        cv2.setNumThreads(before)
    return distance if size == 1 else distance * np.float32(size)


def is_class(value: float) -> bool:
    """Whether a voxel's value can be a class: 0, 1, ..., but not 255, which is "not annotated" or a mask's white."""
    return float(value).is_integer() and 0 <= value < UNKNOWN


class Crossing(NamedTuple):
    """A mask, its crossing distance (None without a boundary), and the smallest size of its voxels."""

    inside: np.ndarray
    distance: np.ndarray | None
    smallest: float


class ToDistanced(MapTransform):
    """Reads a label and the voxel size, writes a map of float32 with the label's metadata and device.

    See `SignedDistanceMapd` for the arguments.
    """

    def __init__(
        self,
        *,
        key: str,
        output: str,
        classes: Sequence[int],
        spacing: SpacingName,
        spacing_key: str | None,
        slice_axis: int | None,
        allow_others: bool,
        threads: int | None,
    ) -> None:
        super().__init__(keys=key)
        self.name = type(self).__name__
        if len(classes) == 0 or len(set(classes)) < len(classes) or min(classes) < 0:
            raise ValueError(f"{self.name}: classes={list(classes)}; expected one or more different classes >= 0")
        if isinstance(spacing, str) and spacing != "voxel":
            raise ValueError(f"{self.name}: spacing={spacing!r}; give one number an axis, or 'voxel'")
        if spacing is not None and spacing_key is not None:
            raise ValueError(f"{self.name}: spacing={spacing} and spacing_key={spacing_key!r}; give one of them")
        self.key, self.output, self.classes = key, output, tuple(classes)
        self.spacing, self.spacing_key = spacing, spacing_key
        self.slice_axis, self.allow_others, self.threads = slice_axis, allow_others, threads

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        if self.key not in sample:
            raise KeyError(f"{self.name}: the sample has no '{self.key}'; its keys are {sorted(map(str, sample))}")
        source = of_classes(sample[self.key])
        # NumPy rather than PyTorch: several threads wait for each other longer than such small arrays take.
        written = self.written(convert_to_numpy(source), sample, source.device)
        sample[self.output], *_ = convert_to_dst_type(written, dst=source, dtype=torch.float32)
        return sample

    def written(self, label: np.ndarray, sample: Mapping[Hashable, Any], device: torch.device) -> np.ndarray:
        """The map (N, *S) of a label (C, *S)."""
        masks = self._masks(label, sample)
        return self.measure(masks, self._spacing(sample, masks[0].ndim), device)

    def measure(self, masks: list[np.ndarray], spacing: tuple[float, ...], device: torch.device) -> np.ndarray:
        """The map (N, *S) of the K masks (*S)."""
        raise NotImplementedError

    def crossings(self, mask: np.ndarray, spacing: tuple[float, ...], device: torch.device) -> list[Crossing]:
        """The whole mask, or its slices: each with its crossing distance and its smallest voxel size."""
        parts, kept = self.parts(mask, spacing)
        # Across an axis of one voxel nothing has a neighbour.
        smallest = min([size for size, n in zip(kept, parts[0].shape) if n > 1], default=1.0)
        found = [crossing_distance(part, kept, threads=self.threads, device=device) for part in parts]
        return [Crossing(part, distance, smallest) for part, distance in zip(parts, found)]

    def parts(self, mask: np.ndarray, spacing: tuple[float, ...]) -> tuple[list[np.ndarray], list[float]]:
        """The whole mask, or its slices, and the spacing along their axes."""
        kept = list(spacing)
        if self.slice_axis is None:
            return [mask], kept
        del kept[self.slice_axis]
        return list(np.moveaxis(mask, self.slice_axis, 0)), kept

    def joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The inverse of the cutting in `parts`."""
        return parts[0] if self.slice_axis is None else np.stack(parts, self.slice_axis)

    def _masks(self, label: np.ndarray, sample: Mapping[Hashable, Any]) -> list[np.ndarray]:
        where = f"{self.name}: '{self.key}' of case {sample.get('case', '(not named)')!r}"
        if label.ndim not in (3, 4):
            raise ValueError(f"{where} has shape {label.shape}; expected (1, *S) classes or (C, *S) masks")
        if self.slice_axis is not None and label.ndim != 4:
            raise ValueError(f"{where} has shape {label.shape}; slice_axis={self.slice_axis} is for volumes")
        channels = label.shape[0]
        if channels == 1:
            masks = [label[0] == k for k in self.classes]
            allowed = sorted({0, *self.classes})
            outside = self._other_values(label[0], allowed)
            if self.allow_others:
                outside = [value for value in outside if not is_class(value)]
            remedy = "threshold soft masks, map other values with MapLabelValued, list the class, or allow_others=True"
        elif max(self.classes) < channels:
            masks, allowed = [label[k] == 1 for k in self.classes], [0, 1]
            outside = [value for k in self.classes for value in self._other_values(label[k], allowed)]
            remedy = "threshold soft masks first (AsDiscreted)"
        else:
            raise ValueError(
                f"{where} has {channels} channels; classes={list(self.classes)} need {max(self.classes) + 1} binary "
                "channels, or one channel of integer classes"
            )
        if outside:
            values = [f"{value:g}" for value in sorted(set(outside))]
            more = " and more" if len(values) > 5 else ""
            raise ValueError(f"{where} holds {', '.join(values[:5])}{more}; expected {allowed}: {remedy}")
        return masks

    @staticmethod
    def _other_values(label: np.ndarray, allowed: Sequence[int]) -> list[float]:
        """Empty for a proper label, which costs a count for each class and no more."""
        if sum(int(np.count_nonzero(label == k)) for k in allowed) == label.size:
            return []
        return np.unique(label[~np.isin(label, allowed)]).tolist()

    def _spacing(self, sample: Mapping[Hashable, Any], axes: int) -> tuple[float, ...]:
        if self.spacing == "voxel":
            return (1.0,) * axes
        where = f"{self.name}: the voxel size of case {sample.get('case', '(not named)')!r}"
        spacing, source = self.spacing, "spacing"
        if spacing is None:
            source = self.spacing_key or self.key
            if source not in sample:
                raise KeyError(f"{where}: the sample has no {source!r}; it has {sorted(map(str, sample))}")
            entry = sample[source]
            if isinstance(entry, MetaTensor):
                spacing = affine_to_spacing(torch.as_tensor(entry.affine), r=axes).tolist()
            elif self.spacing_key is not None and np.ndim(entry) == 1:
                spacing = [float(size) for size in entry]
            else:
                raise ValueError(
                    f"{where} is missing: {source!r} is a {type(entry).__name__} without affine; load it with "
                    "LoadImaged, name an entry that knows it (spacing_key), give spacing=[...] in mm, or ask for "
                    "distances in voxels with spacing='voxel'"
                )
        sizes = tuple(float(size) for size in spacing)
        if len(sizes) != axes or not all(np.isfinite(size) and size > 0 for size in sizes):
            raise ValueError(f"{where}, from {source!r}, is {list(sizes)}; expected {axes} numbers > 0")
        return sizes
