"""What the commands that write a datalist share: finding files, reading their spacing, the command line."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib

from monai_constraints.data.datalist import write_datalist

__all__ = [
    "Datalist",
    "checked_root",
    "common_spacing",
    "find_volume",
    "is_below",
    "no_cases",
    "prepare_command",
    "read_spacing",
]

Datalist = dict[str, list[dict[str, Any]]]

_NIFTI = (".nii.gz", ".nii")
_SPACING_TOLERANCE = 1e-3  # mm; headers keep single precision


def checked_root(root: str | os.PathLike[str], *, data: str, caller: str) -> Path:
    """The absolute path of the folder of a data set.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    root = Path(root).expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"{caller}: no folder {root}; pass the folder that {data} was unpacked in")
    return root


def is_below(path: Path, folder: str | os.PathLike[str]) -> bool:
    """Whether a path is in this folder; "" is none."""
    return bool(folder) and path.is_relative_to(Path(folder).absolute())


def no_cases(caller: str, root: Path, layout: str, channels: Sequence[str]) -> str:
    """The error for a folder without cases, such as a plain folder of images: what to pass where a case has many."""
    listed = ", ".join(f'"my_{channel}.nii.gz"' for channel in channels)
    return (
        f"{caller}: no {layout} in {root} or below. The network takes {len(channels)} channels "
        f"({', '.join(channels)}), a file each, so a plain folder of images is not enough: pass a folder in that "
        f'layout, or --datalist_file cases.json with {{"testing": [{{"case": "a", "image": [{listed}]}}, ...]}}'
    )


def find_volume(folder: Path, stem: str) -> Path | None:
    """`stem`.nii.gz, or else `stem`.nii, where there is one."""
    return next((path for suffix in _NIFTI if (path := folder / (stem + suffix)).is_file()), None)


def read_spacing(image: Path, *, caller: str) -> list[float]:
    """The voxel sizes [dx, dy, dz] in mm from the header of a NIfTI file.

    Raises:
        ValueError: the header has no three positive sizes.
    """
    try:
        file: Any = nib.load(image)
    except Exception as error:  # nibabel, gzip and zlib raise many types
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise ValueError(
            f"{caller}: {image} is truncated or not NIfTI ({reason}); copy or download the file again"
        ) from error
    spacing = [float(size) for size in file.header.get_zooms()[:3]]
    if len(spacing) != 3 or min(spacing) <= 0:
        raise ValueError(f"{caller}: {image} has voxel sizes {spacing}, expected three in mm; unpack it again")
    return spacing


def common_spacing(files: Sequence[Path], *, caller: str) -> list[float]:
    """The voxel sizes [dx, dy, dz] in mm that the modalities and the label of a case share.

    Reads headers alone. Affines and voxels are left to `check_cases`, which reads the whole files.

    Raises:
        ValueError: the shape or the voxel sizes of a file are not those of the first, or it has no voxel sizes.
    """
    spacing, shape = read_spacing(files[0], caller=caller), _shape(files[0])
    for file in files[1:]:
        other = read_spacing(file, caller=caller)
        if _shape(file) != shape or max(abs(a - b) for a, b in zip(spacing, other)) > _SPACING_TOLERANCE:
            raise ValueError(
                f"{caller}: {file} has shape {_shape(file)} and voxel sizes {other}, but {files[0]} has {shape} and"
                f" {spacing}; resample one onto the other's grid, or unpack both again"
            )
    return spacing


def _shape(file: Path) -> tuple[int, ...]:
    image: Any = nib.load(file)
    return tuple(image.shape[:3])


def prepare_command(prepare: Callable[[str], Datalist], *, module: str, data: str, root_help: str) -> None:
    """`python -m monai_constraints.data.<module> ROOT OUT.json`: write what `prepare` makes of ROOT."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        prog=f"python -m monai_constraints.data.{module}", description=f"Write the {data} datalist as JSON."
    )
    parser.add_argument("root", help=root_help)
    parser.add_argument("out", help="JSON file to write")
    arguments = parser.parse_args()
    datalist = prepare(arguments.root)
    write_datalist(datalist, arguments.out)
    counts = ", ".join(f"{len(items)} {key}" for key, items in datalist.items())
    logging.info("%s: %s volumes", arguments.out, counts)
