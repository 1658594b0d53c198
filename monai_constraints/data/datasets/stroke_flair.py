"""Stroke lesions on FLAIR to datalist JSON: `python -m monai_constraints.data.datasets.stroke_flair ROOT OUT.json`."""

from __future__ import annotations

import os

from monai_constraints.data.datasets.prepare import Datalist, checked_root, find_volume, prepare_command, read_spacing

__all__ = ["stroke_flair_datalist"]

EVERY = 5  # subjects from one that validates to the next


def stroke_flair_datalist(root: str | os.PathLike[str]) -> Datalist:
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
    root = checked_root(root, data="the slices", caller="stroke_flair_datalist")
    cases = sorted({path.name.split("_flair.nii")[0] for path in root.glob("sub-*_flair.nii*")})
    if not cases:
        raise FileNotFoundError(f"stroke_flair_datalist: no sub-ID_flair.nii.gz in {root}; pass their folder")
    datalist: Datalist = {"training": [], "validation": []}
    for number, case in enumerate(cases):
        image, label = (find_volume(root, f"{case}_{end}") for end in ("flair", "lesion"))
        if image is None or label is None:
            raise FileNotFoundError(
                f"stroke_flair_datalist: {case} has no {case}_lesion.nii.gz beside its image in {root}; restore it, "
                "or remove the image"
            )
        spacing = read_spacing(image, caller="stroke_flair_datalist")
        item = {"image": str(image), "label": str(label), "case": case, "patient": case, "spacing": spacing}
        datalist["training" if number % EVERY else "validation"].append(item)
    return datalist


if __name__ == "__main__":
    prepare_command(
        stroke_flair_datalist,
        module="stroke_flair",
        data="stroke slices",
        root_help="folder of the sub-ID_flair.nii.gz and sub-ID_lesion.nii.gz",
    )
