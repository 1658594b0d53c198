"""Vertebral bodies to datalist JSON: `python -m monai_constraints.data.datasets.vertebral_bodies ROOT OUT.json`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import nibabel as nib

from monai_constraints.data.datasets.prepare import Datalist, checked_root, find_volume, prepare_command, read_spacing

__all__ = ["vertebral_bodies_datalist"]

VALIDATION = {5, 12, 18}
# Start of the name of an image, end of the name of its ground truth: Zenodo 22304, and copies of it.
LAYOUTS = (("Img_", "_Labels"), ("case", "_gt"))


def vertebral_bodies_datalist(root: str | os.PathLike[str]) -> Datalist:
    """The T2 MR volumes of the lower spine of Zenodo 22304 as {"training": [...], "validation": [...]}.

    An item has `image` and `label` (absolute paths; 0 background, 1 to 7 the bodies of T11 to L5, which are not
    always numbered in this order), `case` and `patient` ("case05" in either layout), and `spacing` ([dx, dy, dz] in
    mm, here 2 x 1.25 x 1.25).

    The trap: the affine calls the axes right, anterior, superior, but they run from one side to the other (the
    sagittal slices), from head to foot and from the belly to the back. So do not reorient these volumes by their
    affine: an array (39, 305, 305) is a stack of upright sagittal slices as it stands.

    The split is by patient: the cases 05, 12 and 18 validate.

    Args:
        root: the folder of `Img_NN.nii` and `Img_NN_Labels.nii` (official download), or of `caseNN.nii.gz` and
            `caseNN_gt.nii.gz`; each with either ending.

    Raises:
        FileNotFoundError: no root, no cases, or an image without ground truth.
        ValueError: the same case in both layouts, a header without spacing, or slices that lie along another
            axis than the first.

    Source: doi:10.5281/zenodo.22304; Chu et al. 2015, PLoS ONE 10(11).
    """
    root = checked_root(root, data="Zenodo 22304", caller="vertebral_bodies_datalist")
    datalist: Datalist = {"training": [], "validation": []}
    seen: dict[int, Path] = {}
    for prefix, end in LAYOUTS:
        for number, stem in _numbered(root, prefix):
            item = _item(root, number, stem, end)
            if number in seen:
                raise ValueError(
                    f"vertebral_bodies_datalist: {item['image']} and {seen[number]} are both case {number:02d};"
                    " keep one of them"
                )
            seen[number] = Path(item["image"])
            datalist["validation" if number in VALIDATION else "training"].append(item)
    if not seen:
        raise FileNotFoundError(
            f"vertebral_bodies_datalist: neither Img_NN.nii nor caseNN.nii.gz in {root}; pass the folder that"
            " holds them"
        )
    return datalist


def _numbered(root: Path, prefix: str) -> list[tuple[int, str]]:
    names = (re.fullmatch(rf"({prefix}(\d+))\.nii(\.gz)?", path.name) for path in root.iterdir())
    return sorted({(int(name[2]), name[1]) for name in names if name})


def _item(root: Path, number: int, stem: str, end: str) -> dict[str, Any]:
    image, label = find_volume(root, stem), find_volume(root, stem + end)
    assert image is not None  # it gave the case its number
    if label is None:
        raise FileNotFoundError(
            f"vertebral_bodies_datalist: {image} has no ground truth {stem}{end}.nii; unpack the data again, or"
            " remove the image"
        )
    file: Any = nib.load(image)
    if len(file.shape) != 3 or file.shape[0] >= min(file.shape[1:]):
        raise ValueError(
            f"vertebral_bodies_datalist: {image} has shape {file.shape}, expected few sagittal slices along the"
            " first axis, as (39, 305, 305); reorder the axes of the image and of its ground truth"
        )
    case = f"case{number:02d}"
    spacing = read_spacing(image, caller="vertebral_bodies_datalist")
    return {"image": str(image), "label": str(label), "case": case, "patient": case, "spacing": spacing}


if __name__ == "__main__":
    prepare_command(
        vertebral_bodies_datalist,
        module="vertebral_bodies",
        data="vertebral bodies",
        root_help="folder of Img_NN.nii and Img_NN_Labels.nii, or of caseNN.nii.gz and caseNN_gt.nii.gz",
    )
