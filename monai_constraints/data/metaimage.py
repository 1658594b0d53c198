"""MetaImage files (.mhd), the format of PROMISE12."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from monai.data import ITKReader
from monai.utils import optional_import

__all__ = ["SUFFIXES", "metaimage_reader", "read_metaimage"]

SUFFIXES = (".mhd", ".mha")

_itk, _has_itk = optional_import("itk", allow_namespace_pkg=True)


def metaimage_reader() -> ITKReader:
    """MONAI's ITKReader, for LoadImaged, that reads every voxel type as float32.

    ITK's Python package has no images of signed bytes, which the ground truth of PROMISE12 is, and ITKReader alone
    fails on them.

    Raises:
        ImportError: ITK is not installed.
    """
    if not _has_itk:
        raise ImportError("reading .mhd files needs ITK, which is not here: pip install 'monai-constraints[mhd]'")
    return ITKReader(pixel_type=_itk.F)


def read_metaimage(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """The voxels (X, Y, Z), float32, and the affine (4, 4) to RAS+ in mm of a MetaImage.

    Raises:
        ImportError: ITK is not installed.
        FileNotFoundError: the header, or the file of the voxels that it names, is missing.
        RuntimeError: ITK cannot read it, for example because the file of the voxels is too short.
    """
    reader = metaimage_reader()
    _check_voxels(Path(path))
    data, meta = reader.get_data(reader.read(path))
    return np.asarray(data), np.asarray(meta["affine"])


def _check_voxels(path: Path) -> None:
    # ITK says "No such file or directory" of the header, whichever file is missing or too short.
    with open(path, "rb") as file:
        header = file.read(4096).decode("latin-1")
    named = re.search(r"^ElementDataFile\s*=\s*(.*?)\s*$", header, re.MULTILINE)
    if named is None or named[1].split()[0] in ("LOCAL", "LIST") or "%" in named[1]:
        return
    voxels = path.parent / named[1]
    if not voxels.is_file():
        raise FileNotFoundError(f"{voxels.name}, the file of its voxels, is not beside it")
