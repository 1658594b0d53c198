"""Hippocampi to datalist JSON: `python -m monai_constraints.data.datasets.hippocampus ROOT OUT.json`."""

from __future__ import annotations

import os

from monai_constraints.data.datasets.prepare import Datalist, checked_root, find_volume, prepare_command, read_spacing

__all__ = ["hippocampus_datalist"]

EVERY = 5  # cases from one that validates to the next


def hippocampus_datalist(root: str | os.PathLike[str], *, every: int = EVERY) -> Datalist:
    """The labelled volumes of the Decathlon's Task04 as {"training": [...], "validation": [...]}.

    An item has `image` and `label` (absolute paths; 0 background, 1 anterior, 2 posterior part of the hippocampus),
    `case` and `patient` (both "hippocampus_001") and `spacing` ([dx, dy, dz] in mm).

    The split: of the sorted names, the first of every five validates. The Decathlon has no validation list.

    Args:
        root: the folder of `imagesTr` and `labelsTr`; `.nii` too.
        every: cases from one that validates to the next.

    Raises:
        FileNotFoundError: no root, no images, or an image without its label.
        ValueError: the header of an image has no spacing.

    Source: Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13, 2022.
    """
    root = checked_root(root, data="Task04_Hippocampus", caller="hippocampus_datalist")
    images = root / "imagesTr"
    cases = sorted({path.name.split(".nii")[0] for path in images.glob("[!.]*.nii*")})  # ._* are of the archive
    if not cases:
        raise FileNotFoundError(f"hippocampus_datalist: no imagesTr/*.nii.gz in {root}; pass the folder above imagesTr")
    datalist: Datalist = {"training": [], "validation": []}
    for number, case in enumerate(cases):
        image, label = (find_volume(folder, case) for folder in (images, root / "labelsTr"))
        if image is None or label is None:
            raise FileNotFoundError(
                f"hippocampus_datalist: {case} has no labelsTr/{case}.nii.gz in {root}; restore it, or remove its image"
            )
        spacing = read_spacing(image, caller="hippocampus_datalist")
        item = {"image": str(image), "label": str(label), "case": case, "patient": case, "spacing": spacing}
        datalist["training" if number % every else "validation"].append(item)
    return datalist


if __name__ == "__main__":
    prepare_command(
        hippocampus_datalist,
        module="datasets.hippocampus",
        data="hippocampus",
        root_help="folder of imagesTr and labelsTr",
    )
