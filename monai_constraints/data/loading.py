"""Reading the files of one case, and saying what is wrong with them, in one pass."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_constraints.arrays import native
from monai_constraints.data.metaimage import SUFFIXES, read_metaimage
from monai_constraints.keys import CASE, IMAGE, SCRIBBLE, SPACING, UNKNOWN

__all__ = ["FILE_SHAPE", "CaseError", "LoadCased", "case_name"]

FILE_SHAPE = "file_shape"
"""Entry of an image's metadata: the shape that its file has, (X, Y), (X, Y, Z) or (X, Y, Z, 1)."""
AFFINE_TOLERANCE = 1e-3


class CaseError(ValueError):
    """What is wrong with the files of one case.

    Args:
        problems: one line each, with case, key, file and remedy.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class LoadCased(MapTransform):
    """Paths to volumes (C, X, Y, Z), each file read once and checked while it is in memory.

    NIfTI and MetaImage; a list of paths gives one channel a file. An image of two axes becomes a volume of one slice;
    a fourth axis of length 1 is dropped. What is a tensor already stays, so images in memory go the same way. Metadata:
    `affine`, `original_affine`, `filename_or_obj`, and the shape of the file, so that a prediction can be written on
    its grid without reading it again. The sample gets `case`, from the name of its first file where it has none, and
    the `spacing` [dx, dy, dz] in mm of the header likewise.

    Args:
        keys: what is read; images float32, all others as integers if they are whole.
        channels: how many the image has to have; None: not checked.
        classes: number of classes of labels, 0 .. classes - 1; None: not checked.
        unknown: the value of a scribble map where nothing is annotated.
        allow_missing_keys: a sample need not have all keys.

    Raises:
        CaseError: everything wrong with the case: missing or damaged files, shapes or affines that differ, intensities
            that are not finite, label values that are no classes.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        channels: int | None = None,
        classes: int | None = None,
        unknown: int = UNKNOWN,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.channels, self.classes, self.unknown = channels, classes, unknown

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample, problems, case = dict(data), [], case_name(data)
        read: dict[Hashable, MetaTensor] = {}
        for key in self.keys:
            if key not in sample:
                if not self.allow_missing_keys:
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
        if problems:
            raise CaseError(problems)
        sample |= {**read, CASE: case}
        if first is not None and sample.get(SPACING) is None:
            sample[SPACING] = read[first].meta[SPACING]
        return sample

    def _volume(self, value: Any, key: Hashable, where: str) -> MetaTensor:
        if isinstance(value, (str, os.PathLike)):
            channels = [_read(value, where)]
        elif isinstance(value, (list, tuple)):
            channels = [_read(one, where) for one in value]
        else:
            return self._in_memory(value, key, where)
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
        array = array[..., None] if array.ndim == 3 else array
        spacing = [float(x) for x in np.linalg.norm(affine[:3, :3], axis=0)]
        meta = {"filename_or_obj": "", **meta, "affine": affine, FILE_SHAPE: meta.get(FILE_SHAPE, shape)}
        return self._checked(array, {**meta, SPACING: spacing}, key, where)

    def _checked(self, volume: np.ndarray, meta: dict[str, Any], key: Hashable, where: str) -> MetaTensor:
        if np.iscomplexobj(volume) or volume.dtype.names:
            raise CaseError([f"{where}: voxels of type {volume.dtype}, expected one number a voxel; convert the file"])
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
            **{name: value for name, value in meta.items() if name != "affine"}, "original_affine": affine.clone(),
            "original_channel_dim": 0,
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


def case_name(item: Mapping[Any, Any]) -> str:
    """The item's `case`, or else the name of the first file that it has, without folder and suffix.

    Of several modalities, whose files are often called alike in every case, three folders stand before it.
    """
    if item.get(CASE) is not None:
        return str(item[CASE])
    for value in item.values():
        path = value[0] if isinstance(value, (list, tuple)) and value else value
        path = path.meta.get("filename_or_obj", "") if isinstance(path, MetaTensor) else path
        if isinstance(path, (str, os.PathLike)) and str(path):
            name = os.path.splitext(os.path.basename(path).removesuffix(".gz"))[0]
            folders = Path(path).absolute().parent.parts[1:][-3:] if isinstance(value, (list, tuple)) else ()
            return "_".join([*folders, name])
    return "(not named)"


def _read(path: str | os.PathLike[str], where: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Voxels (X, Y, Z) and metadata of one file."""
    where = f"{where}, {path}"
    if not os.path.isfile(path):
        raise CaseError([f"{where}: no such file; restore it, or correct the datalist"])
    try:
        with open(path, "rb"):
            pass
    except OSError as error:  # of which nibabel would say that the file is damaged
        raise CaseError([f"{where}: cannot be read ({error.strerror}); change its permissions"]) from error
    try:
        if str(path).endswith(SUFFIXES):
            data, affine = read_metaimage(path)
            spacing = [float(x) for x in np.linalg.norm(affine[:3, :3], axis=0)]
        else:
            file: Any = nib.load(path)
            data, affine = np.asanyarray(file.dataobj), file.affine
            spacing = [float(size) for size in file.header.get_zooms()[:3]]
    except ImportError:
        raise  # about the installation, not about this file
    except FileNotFoundError as error:
        raise CaseError([f"{where}: {error}; restore it, or unpack both again"]) from error
    except Exception as error:  # nibabel, gzip, zlib and ITK raise a dozen types for a damaged file
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        what = "MetaImage, or its file of voxels is" if str(path).endswith(SUFFIXES) else "NIfTI"
        remedy = "copy or download the file again"
        raise CaseError([f"{where}: truncated or not {what} ({reason}); {remedy}"]) from error
    shape = data.shape
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    data = data[..., None] if data.ndim == 2 else data
    if data.ndim != 3:
        raise CaseError([f"{where}: shape {shape}, expected one volume of two or three axes; save the volumes singly"])
    spacing += [1.0] * (3 - len(spacing))
    if min(spacing) <= 0 or not np.all(np.isfinite(spacing)):
        raise CaseError([f"{where}: voxel sizes {spacing} mm, expected three above 0; correct the header"])
    return data, {"affine": affine, "filename_or_obj": str(path), FILE_SHAPE: shape, SPACING: spacing}


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
