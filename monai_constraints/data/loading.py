"""Reading the files of one case, and saying what is wrong with them, in one pass."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_constraints.arrays import native
from monai_constraints.data.volume_file import (
    FILE_SHAPE,
    CaseError,
    check_affine,
    read_volume,
    slice_across,
    spacing_of,
)
from monai_constraints.keys import CASE, IMAGE, SCRIBBLE, SPACING, UNKNOWN

__all__ = ["FILE_SHAPE", "CaseError", "LoadCased", "case_name", "without_nulls"]

AFFINE_TOLERANCE = 1e-3


class LoadCased(MapTransform):
    """Paths to volumes (C, X, Y, Z), each file read once and checked while it is in memory.

    NIfTI and MetaImage; a list of paths gives one channel a file. An image of two axes becomes a volume of one slice;
    a fourth axis of length 1 is dropped. What is a tensor already stays, so images in memory go the same way. Metadata:
    `affine`, `original_affine`, `filename_or_obj`, and the shape of the file, so that a prediction can be written on
    its grid without reading it again. The sample gets `case`, from the name of its first file where it has none, and
    the `spacing` [dx, dy, dz] in mm of the header likewise. An entry that is None is an entry that it does not have.

    Args:
        keys: what is read; images float32, all others as integers if they are whole.
        channels: how many the image has to have; None: not checked.
        classes: number of classes of labels, 0 .. classes - 1; None: not checked.
        unknown: the value of a scribble map where nothing is annotated.
        axis: along which volumes are cut in slices. A volume of one slice has it across this axis then, whichever it is
            in the file; None: it stays.
        allow_missing_keys: a sample need not have all keys, but for the image.

    Raises:
        CaseError: everything wrong with the case: missing or damaged files, shapes or affines that differ, an affine
            without volume, slices of one row, intensities that are not finite, label values that are no classes, a
            `spacing` that is not three lengths above 0 or not that of the header. A header of 1 mm along all axes says
            nothing, as nobody may have set it: then the sample's spacing counts.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        channels: int | None = None,
        classes: int | None = None,
        unknown: int = UNKNOWN,
        axis: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.channels, self.classes, self.unknown = channels, classes, unknown
        self.axis = None if axis is None else axis % 3

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample, problems, case = without_nulls(data), [], case_name(data)
        read: dict[Hashable, MetaTensor] = {}
        for key in self.keys:
            if key not in sample:
                if not self.allow_missing_keys or key == IMAGE:
                    problems.append(f"case {case}, {key}: missing, the case has {sorted(map(str, sample))}")
                continue
            try:
                read[key] = self._volume(sample[key], key, f"case {case}, {key}")
            except CaseError as error:
                problems += error.problems
        first = next(iter(read), None)
        for key in list(read)[1:]:
            assert first is not None
            problems += _differences(case, (first, read[first]), (key, read[key]))
        if first is not None:
            try:
                where = f"case {case}, {SPACING}"
                sample[SPACING] = spacing_of(sample.get(SPACING), read[first].meta, where)
            except CaseError as error:
                problems += error.problems
        if problems:
            raise CaseError(problems)
        return {**sample, **read, CASE: case}

    def _volume(self, value: Any, key: Hashable, where: str) -> MetaTensor:
        if isinstance(value, (torch.Tensor, np.ndarray)):
            return self._in_memory(value, key, where)
        paths = value if isinstance(value, (list, tuple)) else [value]
        if not paths or not all(isinstance(path, (str, os.PathLike)) for path in paths):
            raise CaseError([f"{where}: {value!r}, expected a path, or a list of one a channel; correct the datalist"])
        channels = [read_volume(path, where) for path in paths]
        problems = [
            f"{where}, {path}: shape or affine is not that of {value[0]}; resample one onto the other's grid"
            for path, (data, meta) in zip(list(value)[1:] if len(channels) > 1 else [], channels[1:])
            if data.shape != channels[0][0].shape or not _close(meta["affine"], channels[0][1]["affine"])
        ]
        if problems:
            raise CaseError(problems)
        volume = np.stack([data for data, _ in channels])
        where = f"{where}, {channels[0][1]['filename_or_obj']}"
        return self._checked(volume, channels[0][1], key, where)

    def _in_memory(self, value: Any, key: Hashable, where: str) -> MetaTensor:
        tensor = torch.as_tensor(native(value) if isinstance(value, np.ndarray) else value)
        meta = dict(tensor.meta) if isinstance(tensor, MetaTensor) else {}
        if tensor.ndim not in (3, 4):
            raise CaseError([f"{where}: {tuple(tensor.shape)} in memory, expected channels first, (C, X, Y[, Z])"])
        affine = np.asarray(tensor.affine if isinstance(tensor, MetaTensor) else np.eye(4), float)
        array = np.asarray(tensor.as_subclass(torch.Tensor).cpu())
        shape = array.shape[1:]
        meta = {"filename_or_obj": "", **meta, "original_affine": torch.as_tensor(affine, dtype=torch.float64)}
        array = array[..., None] if array.ndim == 3 else array
        spacing = [float(x) for x in np.linalg.norm(affine[:3, :3], axis=0)]
        meta |= {"affine": affine, FILE_SHAPE: meta.get(FILE_SHAPE, shape)}
        return self._checked(array, {**meta, SPACING: spacing}, key, where)

    def _checked(self, volume: np.ndarray, meta: dict[str, Any], key: Hashable, where: str) -> MetaTensor:
        if np.iscomplexobj(volume):
            raise CaseError([f"{where}: voxels of type {volume.dtype}, expected one number a voxel; convert the image"])
        check_affine(meta["affine"], where)
        volume, meta = slice_across(volume, meta, self.axis, where)
        if key == IMAGE:
            if self.channels not in (None, len(volume)):
                raise CaseError([
                    f"{where}: {len(volume)} channel(s), the network takes {self.channels}; give a list of one file a "
                    "channel in their order, in a datalist"
                ])  # fmt: skip
            volume = volume.astype(np.float32)
            bad = int(volume.size - np.isfinite(volume).sum())
            if bad:
                raise CaseError([f"{where}: {bad} voxels are NaN or infinite; replace them or leave the case out"])
        elif self.classes is not None:
            volume = self._classes(volume, key, where)
        affine = torch.as_tensor(np.asarray(meta["affine"]), dtype=torch.float64)
        return MetaTensor(torch.from_numpy(native(volume)), affine=affine, meta={
            **{name: value for name, value in meta.items() if name != "affine"}, "original_channel_dim": 0,
        })  # fmt: skip

    def _classes(self, volume: np.ndarray, key: Hashable, where: str) -> np.ndarray:
        assert self.classes is not None
        allowed = [*range(self.classes), *([self.unknown] if key == SCRIBBLE else [])]
        values = np.unique(volume)
        wrong = [f"{value:g}" for value in values if value not in allowed]
        if wrong:
            listed = ", ".join(wrong[:5]) + (", ..." if len(wrong) > 5 else "")
            remedy = "or pass its value of unannotated voxels as unknown" if key == SCRIBBLE else "or map the labels"
            raise CaseError([
                f"{where}: expected integers 0..{self.classes - 1}"
                + (f" or {self.unknown}" if key == SCRIBBLE else "")
                + f", found {listed}; correct the number of classes (label_classes) {remedy}"
            ])  # fmt: skip
        return volume.astype(np.uint8 if max(allowed) < 256 else np.int32)


def without_nulls(item: Mapping[Any, Any]) -> dict[Any, Any]:
    """The item without its entries that are None: in a datalist, null means that nobody knows."""
    return {key: value for key, value in item.items() if value is not None}


def case_name(item: Mapping[Any, Any]) -> str:
    """The item's `case`, or else the name of the first file that it has, without folder and suffix.

    Of several modalities, whose files are often called alike in every case, three folders stand before it.
    """
    if item.get(CASE) not in (None, ""):
        return str(item[CASE])
    for value in item.values():
        path = value[0] if isinstance(value, (list, tuple)) and value else value
        path = path.meta.get("filename_or_obj", "") if isinstance(path, MetaTensor) else path
        if isinstance(path, (str, os.PathLike)) and str(path):
            name = os.path.splitext(os.path.basename(path).removesuffix(".gz"))[0]
            folders = Path(path).absolute().parent.parts[1:][-3:] if isinstance(value, (list, tuple)) else ()
            return "_".join([*folders, name])
    return "(not named)"


def _close(a: Any, b: Any) -> bool:
    return float(np.abs(np.asarray(a) - np.asarray(b)).max()) <= AFFINE_TOLERANCE


def _differences(case: str, one: tuple[Hashable, MetaTensor], other: tuple[Hashable, MetaTensor]) -> list[str]:
    (key, a), (also, b) = one, other
    where = f"case {case}, {also}, {b.meta['filename_or_obj']}"
    first = f"{key}, {a.meta['filename_or_obj']}"
    if a.shape[1:] != b.shape[1:]:
        return [
            f"{where}: shape {tuple(b.shape[1:])}, but {first} has {tuple(a.shape[1:])}; resample one onto the"
            " other's grid"
        ]
    if not _close(a.affine, b.affine):
        return [f"{where}: affine is not that of {first}; resample one onto the other's grid, or correct the header"]
    return []
