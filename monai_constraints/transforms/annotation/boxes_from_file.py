"""Annotated boxes on the grid of the network: from voxels of the file or from mm, through the affine."""

from __future__ import annotations

import os
import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import Transform

from ...constraints.plain import plain
from ...keys import BOXES, CASE, IMAGE, SLICE, VOLUME_BOXES
from .box_files import FileBox, read_boxes
from .boxes import Box, padded_boxes

__all__ = ["BoxesFromFiled", "BoxesOfSliced"]

PARALLEL = 0.02  # how much of a side may lie along another axis: a header's rounding, not a gantry's tilt
ROUNDING = 0.02  # voxels


class BoxesFromFiled(Transform):
    """Annotated boxes of a volume as voxel indices on the grid that its image has now.

    A voxel is in a box if its centre is, and at a border the one that `ToGridd` takes labels from. So a tight box stays
    tight on a coarser grid; rounded outward, it would ask for the structure in lines that have none of it there.

    Put it after the transforms that change the grid. The image's affine tells where its voxels are in mm, and its
    `original_affine` where those of the file were, so cropping and resampling in between do not matter.

    Writes `volume_boxes` (K, J, 3, 2), which `BoxesOfSliced` cuts; with `volume` also `boxes` and `loose`, for networks
    in 3D.

    Args:
        file: CSV, JSON, Slicer markup or folder of markups, as in `read_boxes`. A sample with an entry `boxes` that is
            a path has a file of its own.
        classes: K.
        class_names: for the names of ROIs.
        coordinates: "voxel", or mm "LPS" or "RAS". Markups know their own.
        volume: the number of boxes J of a class that a 3D network gets; 0 for slices.
        image_key: whose grid it is.

    Raises:
        FileNotFoundError, ValueError: when it is made, for all that is wrong with the file.
        KeyError: a case has no entry in the file; ValueError: a box that is not parallel to the voxels, or that lies
            outside of its image.

    Warns:
        UserWarning: for a box that is cut at the image's border.
    """

    def __init__(
        self,
        file: str | os.PathLike[str] = "",
        *,
        classes: int,
        class_names: Sequence[str] = (),
        coordinates: str = "voxel",
        volume: int = 0,
        image_key: str = IMAGE,
    ) -> None:
        self.classes, self.class_names, self.coordinates = classes, tuple(class_names), coordinates
        self.volume, self.image_key, self.file = volume, image_key, str(file)
        self.found = self._read(file) if file else {}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        image, case = data[self.image_key], str(data.get(CASE))
        own = data.get(BOXES)
        found = self._read(own) if isinstance(own, (str, os.PathLike)) else self.found
        boxes = next(iter(found.values())) if found is not self.found and len(found) == 1 else found.get(case)
        if boxes is None:
            raise KeyError(
                f"BoxesFromFiled: case {case} has no boxes in {own or self.file}, which has {sorted(found)[:5]}; "
                "annotate it, say that it has no object (an empty class in a CSV, [] in a JSON), or leave the case out"
            )
        if not isinstance(image, MetaTensor):
            raise ValueError(f"BoxesFromFiled: {self.image_key!r} has no affine; load it with LoadCased")
        now = np.asarray(image.affine, float)
        first = np.asarray(image.meta.get("original_affine", now), float)
        spatial = tuple(image.shape[1:])
        of_classes: list[list[Box]] = [[] for _ in range(self.classes)]
        for box in boxes:
            sides = _on_grid(box, now, first, spatial, f"BoxesFromFiled: case {case}, {box.where}")
            of_classes[box.of_class - 1].append(Box(sides, float((sides[:, 1] - sides[:, 0]).prod())))
        most = max(1, *(len(of_class) for of_class in of_classes))
        whole = padded_boxes(of_classes, spatial, most, case)[BOXES]
        sample = {**data, VOLUME_BOXES: whole}
        if self.volume:
            return {**sample, **padded_boxes(of_classes, spatial, self.volume, case)}
        return {key: value for key, value in sample.items() if key != BOXES}

    def _read(self, file: str | os.PathLike[str]) -> dict[str, list[FileBox]]:
        return read_boxes(
            file, classes=self.classes, class_names=self.class_names, coordinates=self.coordinates
        )


class BoxesOfSliced(Transform):
    """The boxes of a slice, `boxes` (K, J, 2, 2) and `loose` (K, J), from those of its volume.

    A box of one slice is that slice's own, and tight. A box of several is in each only an outer bound: the object need
    not touch it, so it is loose.

    Args:
        max_boxes: J, as in `BoxesFromLabeld`.
        axis: of the slices, 0 .. 2 or from the end.
        image_key: for the shape.
    """

    def __init__(self, *, max_boxes: int = 1, axis: int = -1, image_key: str = IMAGE) -> None:
        self.max_boxes, self.axis, self.image_key = max_boxes, axis % 3, image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        volume, number = plain(data[VOLUME_BOXES]).numpy(), int(data[SLICE])
        found: list[list[Box]] = []
        for of_class in volume:
            low, high = of_class[:, self.axis, 0], of_class[:, self.axis, 1]
            here = of_class[(low <= number) & (number < high)]
            plane = np.delete(here, self.axis, axis=1)
            thick = (here[:, self.axis, 1] - here[:, self.axis, 0]) > 1
            weights = (plane[..., 1] - plane[..., 0]).prod(1)
            found.append([Box(sides, float(w), bool(t)) for sides, w, t in zip(plane, weights, thick)])
        where = f"case {data.get(CASE)}, slice {number}"
        return {**data, **padded_boxes(found, tuple(data[self.image_key].shape[1:]), self.max_boxes, where)}


def _on_grid(
    box: FileBox, now: np.ndarray, first: np.ndarray, spatial: tuple[int, ...], where: str
) -> np.ndarray:
    """Sides (3, 2) in voxels of the image as it is now."""
    flip = np.diag([-1.0, -1.0, 1.0]) if box.world == "LPS" else np.eye(3)  # affines are in RAS
    centre, halves = flip @ box.centre, box.halves @ flip
    if not box.world:
        centre, halves = first[:3, :3] @ box.centre + first[:3, 3], box.halves @ first[:3, :3].T
    back = np.linalg.inv(now)
    centre, halves = back[:3, :3] @ centre + back[:3, 3], np.abs(halves @ back[:3, :3].T)
    half = halves.max(0)
    beside = halves.sum(0) - half
    if (beside > np.maximum(PARALLEL * half, ROUNDING)).any():
        raise ValueError(
            f"{where}: its sides are not parallel to the voxels (an oblique or sheared affine, or a turned ROI), so it "
            "is no box of voxels; give voxel coordinates, or resample the image to the axes of the box"
        )
    ends = np.stack([centre - half, centre + half], 1)
    sides = np.ceil(ends - ROUNDING).astype(int)
    thin = sides[:, 1] <= sides[:, 0]  # it holds no centre: the voxel that its middle is in
    sides[thin] = np.floor(centre[thin] + 0.5).astype(int)[:, None] + [0, 1]
    cut = np.clip(sides, 0, np.asarray(spatial)[:, None])
    if (cut[:, 1] <= cut[:, 0]).any():
        raise ValueError(
            f"{where}: voxels {sides.tolist()} are outside of the image, which has {list(spatial)}; correct its "
            "coordinates (voxel, LPS or RAS), or a padded_size that cuts it off"
        )
    if (cut != sides).any():
        message = f"{where}: voxels {sides.tolist()} are cut at the border of the image {list(spatial)}"
        warnings.warn(message, stacklevel=2)
    return cut
