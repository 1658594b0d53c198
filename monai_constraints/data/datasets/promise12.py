"""PROMISE12 to datalist JSON: `python -m monai_constraints.data.datasets.promise12 ROOT OUT.json`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from monai_constraints.data.datasets.prepare import Datalist, checked_root, prepare_command

__all__ = ["promise12_datalist"]


def promise12_datalist(root: str | os.PathLike[str]) -> Datalist:
    """The 50 training volumes of PROMISE12 as {"training": [...], "validation": [...]}, 40 and 10.

    An item has `image` and `label` (absolute paths; 0 background, 1 prostate), `case` and `patient` ("Case05"). There
    is no `spacing`, as the affine of these files is right. Reading them takes ITK: `pip install
    'monai-constraints[mhd]'`.

    The split is by patient: number n validates if n mod 5 = 0, so 00, 05, ..., 45. The thesis held out 10 too and
    does not say which.

    Args:
        root: the folder of `CaseNN.mhd`, `CaseNN.raw`, `CaseNN_segmentation.mhd` and `.raw`, or one above the
            folders that the parts of the training data were unpacked in.

    Raises:
        FileNotFoundError: no root, no cases, or an image without ground truth.
        ValueError: the same case twice.

    Source: Litjens et al. 2014, Medical Image Analysis 18(2).
    """
    root = checked_root(root, data="PROMISE12", caller="promise12_datalist")
    images: dict[int, Path] = {}
    for path in sorted(root.rglob("*.mhd")):
        name = re.fullmatch(r"Case(\d+)", path.stem)
        if name is None:
            continue
        number = int(name[1])
        if number in images:
            raise ValueError(
                f"promise12_datalist: {path} and {images[number]} are the same case; pass the folder of the training"
                " data alone"
            )
        images[number] = path
    if not images:
        raise FileNotFoundError(
            f"promise12_datalist: no CaseNN.mhd in {root} or below; pass the folder that holds them, or the one above"
        )
    datalist: Datalist = {"training": [], "validation": []}
    for number, image in sorted(images.items()):
        label = image.with_name(f"{image.stem}_segmentation.mhd")
        if not label.is_file():
            raise FileNotFoundError(
                f"promise12_datalist: {image} has no ground truth {label.name}; unpack the case again, or pass the"
                " folder of the training data alone"
            )
        item = {"image": str(image), "label": str(label), "case": image.stem, "patient": image.stem}
        datalist["training" if number % 5 else "validation"].append(item)
    return datalist


if __name__ == "__main__":
    prepare_command(
        promise12_datalist,
        module="promise12",
        data="PROMISE12",
        root_help="folder of the CaseNN.mhd of the training data, or one above",
    )
