"""Stroke lesions on FLAIR to datalist JSON: `python -m monai_constraints.data.stroke_flair ROOT OUT.json`."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import Any

import nibabel as nib

from monai_constraints.data.datalist import write_datalist

__all__ = ["stroke_flair_datalist"]

EVERY = 5  # subjects from one that validates to the next


def stroke_flair_datalist(root: str | os.PathLike[str]) -> dict[str, list[dict[str, Any]]]:
    """One FLAIR slice a subject and its stroke lesion as {"training": [...], "validation": [...]}.

    An item has `image` and `label` (absolute paths; 0 background, 1 lesion), `case` and `patient` (both "sub-1000")
    and `spacing` ([dx, dy, dz] in mm). The files are volumes of one slice; about a third show no lesion.

    The split: of the sorted ids, the first of every five validates.

    Args:
        root: the folder of the `sub-ID_flair.nii.gz` and `sub-ID_lesion.nii.gz`; `.nii` too.

    Raises:
        FileNotFoundError: no root, no subjects, or an image without its lesion.
        ValueError: the header of an image has no spacing.

    Source: Absher et al., The Stroke Outcome Optimization Project, Scientific Data 2024 (OpenNeuro ds004889).
    """
    root = Path(root).expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"stroke_flair_datalist: no folder {root}; pass the folder of the sub-ID_flair.nii.gz")
    images = {path.name.split("_flair.nii")[0]: path for path in root.glob("sub-*_flair.nii*")}
    if not images:
        raise FileNotFoundError(f"stroke_flair_datalist: no sub-ID_flair.nii.gz in {root}; pass their folder")
    datalist: dict[str, list[dict[str, Any]]] = {"training": [], "validation": []}
    for number, (case, image) in enumerate(sorted(images.items())):
        label = image.with_name(image.name.replace("_flair.nii", "_lesion.nii"))
        if not label.is_file():
            raise FileNotFoundError(
                f"stroke_flair_datalist: {image} has no lesion {label.name} beside it; restore it, or remove the image"
            )
        item = {"image": str(image), "label": str(label), "case": case, "patient": case, "spacing": _spacing(image)}
        datalist["training" if number % EVERY else "validation"].append(item)
    return datalist


def _spacing(image: Path) -> list[float]:
    file: Any = nib.load(image)
    spacing = [float(size) for size in file.header.get_zooms()[:3]]
    if len(spacing) != 3 or min(spacing) <= 0:
        raise ValueError(
            f"stroke_flair_datalist: {image} has voxel sizes {spacing}, expected three in mm; copy it again"
        )
    return spacing


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        prog="python -m monai_constraints.data.stroke_flair", description="Write the datalist of the slices as JSON."
    )
    parser.add_argument("root", help="folder of the sub-ID_flair.nii.gz and sub-ID_lesion.nii.gz")
    parser.add_argument("out", help="JSON file to write")
    arguments = parser.parse_args()
    datalist = stroke_flair_datalist(arguments.root)
    write_datalist(datalist, arguments.out)
    counts = ", ".join(f"{len(items)} {key}" for key, items in datalist.items())
    logging.info("%s: %s slices", arguments.out, counts)


if __name__ == "__main__":
    main()
