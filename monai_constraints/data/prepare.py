"""What the commands that write a datalist share: finding files, reading their spacing, the command line."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib

from monai_constraints.data.datalist import write_datalist

__all__ = ["Datalist", "checked_root", "find_volume", "prepare_command", "read_spacing"]

Datalist = dict[str, list[dict[str, Any]]]

_NIFTI = (".nii.gz", ".nii")


def checked_root(root: str | os.PathLike[str], *, data: str, caller: str) -> Path:
    """The absolute path of the folder of a data set.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    root = Path(root).expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"{caller}: no folder {root}; pass the folder that {data} was unpacked in")
    return root


def find_volume(folder: Path, stem: str) -> Path | None:
    """`stem`.nii.gz, or else `stem`.nii, where there is one."""
    return next((path for suffix in _NIFTI if (path := folder / (stem + suffix)).is_file()), None)


def read_spacing(image: Path, *, caller: str) -> list[float]:
    """The voxel sizes [dx, dy, dz] in mm from the header of a NIfTI file.

    Raises:
        ValueError: the header has no three positive sizes.
    """
    file: Any = nib.load(image)
    spacing = [float(size) for size in file.header.get_zooms()[:3]]
    if len(spacing) != 3 or min(spacing) <= 0:
        raise ValueError(f"{caller}: {image} has voxel sizes {spacing}, expected three in mm; unpack it again")
    return spacing


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
