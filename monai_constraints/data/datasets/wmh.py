"""WMH 2017 to datalist JSON: `python -m monai_constraints.data.datasets.wmh ROOT OUT.json`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from monai_constraints.data.datasets.prepare import (  # fmt: skip
    Datalist,
    checked_root,
    common_spacing,
    find_volume,
    is_below,
    no_cases,
    prepare_command,
)

__all__ = ["wmh_datalist", "wmh_images"]

MODALITIES = ("FLAIR", "T1")  # the channels of an image, in this order
EVERY = 6  # subjects from one that validates to the next


def wmh_datalist(root: str | os.PathLike[str]) -> Datalist:
    """The 60 training subjects of WMH 2017 as {"training": [...], "validation": [...]}, 50 and 10.

    An item has `image` (the absolute paths of the bias-corrected FLAIR and of T1 on its grid, which LoadImaged makes
    two channels of), `label` (0 background, 1 white matter hyperintensity, 2 other pathology), `case` and `patient`
    (both "Utrecht_0": site and subject) and `spacing` ([dx, dy, dz] in mm).

    The split is by subject: sorted by site and number, the first of every six validates, so that each of the three
    scanners has three or four. The thesis held out 10 too and does not say which.

    Args:
        root: any folder above the subjects, `SITE/SUBJECT/pre/FLAIR.nii.gz`, `pre/T1.nii.gz` and `wmh.nii.gz`; `.nii`
            too. Sites may lie in further folders (`Amsterdam/GE3T`). Where there is a folder `training`, only what is
            in it counts, not the test subjects beside it.

    Raises:
        FileNotFoundError: no root, no subjects, or a subject without FLAIR, T1 or label.
        ValueError: the same subject twice, or files of a subject whose headers differ in shape or voxel size.

    Source: Kuijf et al. 2019, IEEE TMI 38(11).
    """
    root = checked_root(root, data="WMH 2017", caller="wmh_datalist")
    if (root / "training").is_dir():
        root = root / "training"
    folders = _subjects(root)
    if not folders:
        raise FileNotFoundError(
            f"wmh_datalist: no SITE/SUBJECT/pre/FLAIR.nii.gz and wmh.nii.gz in {root} or below; pass the folder of the"
            " sites, or the one above 'training'"
        )
    seen: dict[str, Path] = {}
    datalist: Datalist = {"training": [], "validation": []}
    for number, folder in enumerate(folders):
        item = _item(folder, caller="wmh_datalist")
        if item["case"] in seen:
            raise ValueError(
                f"wmh_datalist: {folder} and {seen[item['case']]} are the same subject; pass the folder of one of them"
            )
        seen[item["case"]] = folder
        label = find_volume(folder, "wmh")
        if label is None:
            raise FileNotFoundError(
                f"wmh_datalist: {folder} has no wmh.nii.gz; unpack the subject again, or pass the folder of the"
                " training data alone"
            )
        spacing = common_spacing([*map(Path, item["image"]), label], caller="wmh_datalist")
        item |= {"label": str(label), "patient": item["case"], "spacing": spacing}
        datalist["training" if number % EVERY else "validation"].append(item)
    return datalist


def wmh_images(root: str | os.PathLike[str], *, leave_out: str | os.PathLike[str] = "") -> list[dict[str, Any]]:
    """All subjects below a folder, labelled or not, as items of `image` (FLAIR and T1) and `case`.

    Args:
        root: any folder above the subjects, in the layout of `wmh_datalist`.
        leave_out: a folder below it that is not looked into, such as the one that predictions are written to.

    Raises:
        FileNotFoundError: no root, no subjects, or a subject without FLAIR or T1.
    """
    root = checked_root(root, data="WMH 2017", caller="wmh_images")
    folders = [folder for folder in _subjects(root) if not is_below(folder, leave_out)]
    if not folders:
        raise FileNotFoundError(no_cases("wmh_images", root, "SITE/SUBJECT/pre/FLAIR.nii.gz and T1.nii.gz", MODALITIES))
    return [_item(folder, caller="wmh_images") for folder in folders]


def _subjects(root: Path) -> list[Path]:
    """Folders with any of the files, so that one with some of them is noticed; 2 comes before 11."""
    names = [f"pre/{modality}.nii*" for modality in MODALITIES]
    folders = {path.parent.parent for name in names for path in root.rglob(name)}
    folders |= {path.parent for path in root.rglob("wmh.nii*")}
    return sorted(folders, key=lambda folder: (folder.parent.name, len(folder.name), folder.name, folder))


def _item(folder: Path, *, caller: str) -> dict[str, Any]:
    images = []
    for modality in MODALITIES:
        image = find_volume(folder / "pre", modality)
        if image is None:
            raise FileNotFoundError(
                f"{caller}: {folder} has no pre/{modality}.nii.gz; unpack the subject again, or remove its folder"
            )
        images.append(str(image))
    return {"image": images, "case": f"{folder.parent.name}_{folder.name}"}


if __name__ == "__main__":
    prepare_command(
        wmh_datalist,
        module="wmh",
        data="WMH 2017",
        root_help="folder above the SITE/SUBJECT/pre/FLAIR.nii.gz of the training data",
    )
