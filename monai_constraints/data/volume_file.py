"""One file as a volume with its metadata, and what may be wrong with its header."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch

from monai_constraints.data.metaimage import SUFFIXES, read_metaimage
from monai_constraints.keys import SPACING

__all__ = ["FILE_SHAPE", "CaseError", "check_affine", "read_volume", "slice_across", "spacing_of"]

FILE_SHAPE = "file_shape"
"""Entry of an image's metadata: the shape that its file has, (X, Y), (X, Y, Z) or (X, Y, Z, 1)."""
ORDER = "axes_of_file"  # likewise: which axis of the file each axis is, where a slice lay across another one
SPACING_TOLERANCE = 0.01  # of a voxel size: those of a datalist are often rounded


class CaseError(ValueError):
    """What is wrong with the files of one case.

    Args:
        problems: one line each, with case, key, file and remedy.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def read_volume(path: str | os.PathLike[str], where: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Voxels (X, Y, Z) and metadata of one file; an image of two axes gets a third one."""
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
    if np.iscomplexobj(data) or data.dtype.names:
        raise CaseError([f"{where}: voxels of type {data.dtype}, expected one number a voxel; convert the file"])
    shape = data.shape
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim not in (2, 3) or not data.size:
        raise CaseError([f"{where}: shape {shape}, expected one volume of two or three axes; save the volumes singly"])
    meta = {"original_affine": torch.as_tensor(affine, dtype=torch.float64), "filename_or_obj": str(path)}
    data = data[..., None] if data.ndim == 2 else data
    spacing += [1.0] * (3 - len(spacing))
    if not _are_lengths(spacing):
        raise CaseError([f"{where}: voxel sizes {spacing} mm, expected three above 0; correct the header"])
    return data, {**meta, "affine": affine, FILE_SHAPE: shape, SPACING: spacing}


def slice_across(
    volume: np.ndarray, meta: dict[str, Any], axis: int | None, where: str
) -> tuple[np.ndarray, dict[str, Any]]:
    """A volume (C, X, Y, Z) of one slice with that slice across this axis, 0 .. 2, however the file has it.

    Raises:
        CaseError: slices of one row of voxels.
    """
    single = [place for place, size in enumerate(volume.shape[1:]) if size == 1]
    if axis is None or not single or single == [axis]:
        return volume, meta
    if len(single) > 1:
        raise CaseError([f"{where}: shape {tuple(meta[FILE_SHAPE])}, expected slices of two axes; correct the file"])
    order = [place for place in range(3) if place != single[0]]
    order.insert(axis, single[0])
    moved = {
        "affine": np.asarray(meta["affine"])[:, [*order, 3]], SPACING: [meta[SPACING][i] for i in order], ORDER: order,
    }  # fmt: skip
    return volume.transpose(0, *(1 + place for place in order)), {**meta, **moved}


def check_affine(affine: Any, where: str) -> None:
    """Refuse an affine that maps different voxels to one place, or to none."""
    axes = np.asarray(affine, float)
    lengths = np.linalg.norm(axes[:3, :3], axis=0)
    # Of the volume of a voxel with right angles, a shear of healthy headers takes little.
    if not np.isfinite(axes).all() or abs(np.linalg.det(axes[:3, :3])) <= 1e-6 * lengths.prod():
        shown = axes[:3].round(4).tolist()
        raise CaseError([
            f"{where}: affine {shown}, expected finite numbers and three axes, none of them 0; correct the header"
        ])  # fmt: skip


def _are_lengths(sizes: Sequence[float]) -> bool:
    return bool(np.isfinite(sizes).all()) and min(sizes) > 0


def spacing_of(given: Any, meta: Mapping[str, Any], where: str) -> list[float]:
    """The voxel size of a case: that of its datalist, which has to be the header's, or else the header's.

    Args:
        given: of the datalist, in the order of the file; two numbers will do for an image of two axes.
        meta: of the case's first file.
        where: for the message.
    """
    header, name = meta[SPACING], meta["filename_or_obj"]
    if given is None:
        return list(header)
    try:
        sizes = [float(size) for size in given]
    except (TypeError, ValueError):
        sizes = []
    if len(sizes) == len(meta[FILE_SHAPE]) == 2:
        sizes.append(1.0)
    if len(sizes) != 3 or not _are_lengths(sizes):
        raise CaseError([f"{where}: {given!r}, expected three numbers above 0, in mm; correct the datalist"])
    sizes = [sizes[place] for place in meta.get(ORDER, range(3))]
    unset = all(abs(size - 1) < 1e-6 for size in header)
    if not unset and any(abs(a - b) > SPACING_TOLERANCE * b for a, b in zip(sizes, header)):
        raise CaseError([
            f"{where}: {sizes} mm in the datalist, but the header of {name} says {[round(x, 4) for x in header]}; "
            "correct the one that is wrong, or leave it out of the datalist"
        ])  # fmt: skip
    return sizes
