"""ACDC to datalist JSON: `python -m monai_constraints.data.datasets.acdc ROOT OUT.json`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from monai_constraints.data.datasets.prepare import Datalist, checked_root, find_volume, prepare_command, read_spacing

__all__ = ["acdc_datalist"]

VALIDATION = {12, 13, 14, 15}  # of every 20 patients: each of the five pathology groups is 20 in a row


def acdc_datalist(root: str | os.PathLike[str]) -> Datalist:
    """The ACDC 2017 volumes (end-diastole and end-systole) as {"training": [...], "validation": [...]}.

    An item has `image` and `label` (absolute paths; 0 background, 1 right ventricle, 2 myocardium, 3 left
    ventricle), `scribble` where there is one, `case` ("patient001_frame01"), `patient` and `spacing`
    ([dx, dy, dz] in mm).

    The trap: the affine of these files is diag(-1, -1, 1), whatever the voxel size, and the header of the
    ground truth says 1 mm too. The true size is in the pixdim field of the image's header alone; `spacing` is
    read there. MONAI's NibabelReader puts an image's pixdim into its affine, which leaves the ground truth at 1 mm:
    `Spacingd` on both would misalign them.

    The split is by patient: number n validates if (n - 1) mod 20 is in {12, 13, 14, 15}.

    Args:
        root: the folder of the patientNNN folders, or (official download) the one above `training`. In
            patientNNN: `patientNNN_frameFF.nii.gz`, `_gt`, optional `_scribble`; `.nii` too. `patientNNN_4d`
            and `Info.cfg` are ignored.

    Raises:
        FileNotFoundError: no root, no patients, a patient without frames, or an image without ground truth.
        ValueError: the header of an image has no spacing.

    Source: Bernard et al. 2018, IEEE TMI 37(11); scribbles: Valvano et al. 2021, IEEE TMI 40(8).
    """
    root = checked_root(root, data="ACDC", caller="acdc_datalist")
    if (root / "training").is_dir():
        root = root / "training"
    folders = sorted(p for p in root.iterdir() if p.is_dir() and re.fullmatch(r"patient\d+", p.name))
    if not folders:
        raise FileNotFoundError(
            f"acdc_datalist: no patientNNN folders in {root}; pass the folder that holds them, or the one"
            " above 'training'"
        )
    datalist: Datalist = {"training": [], "validation": []}
    for folder in folders:
        number = int(folder.name.removeprefix("patient"))
        datalist["validation" if (number - 1) % 20 in VALIDATION else "training"] += _patient_items(folder)
    return datalist


def _patient_items(folder: Path) -> list[dict[str, Any]]:
    pattern = re.compile(rf"({folder.name}_frame\d+)\.nii(\.gz)?")
    names = (pattern.fullmatch(path.name) for path in folder.iterdir() if path.is_file())
    cases = sorted({name[1] for name in names if name})
    if not cases:
        raise FileNotFoundError(
            f"acdc_datalist: no {folder.name}_frameFF.nii.gz in {folder}; unpack the patient again, or remove"
            " the folder"
        )
    items = []
    for case in cases:
        image, label, scribble = (find_volume(folder, case + end) for end in ("", "_gt", "_scribble"))
        if label is None:
            raise FileNotFoundError(
                f"acdc_datalist: {image} has no ground truth {case}_gt.nii.gz; unpack the patient again, or"
                " remove the image"
            )
        assert image is not None  # it gave the case its name
        item = {"image": str(image), "label": str(label), "case": case, "patient": folder.name}
        spacing = read_spacing(image, caller="acdc_datalist")
        items.append({**item, **({"scribble": str(scribble)} if scribble else {}), "spacing": spacing})
    return items


if __name__ == "__main__":
    prepare_command(
        acdc_datalist,
        module="acdc",
        data="ACDC",
        root_help="folder of the patientNNN folders, or the one above 'training'",
    )
