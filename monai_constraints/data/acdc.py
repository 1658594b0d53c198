"""ACDC to datalist JSON: `python -m monai_constraints.data.acdc ROOT OUT.json`."""

from __future__ import annotations

import argparse
import logging
import os
import re
from pathlib import Path
from typing import Any

import nibabel as nib

from monai_constraints.data.datalist import write_datalist

__all__ = ["acdc_datalist"]

VALIDATION = {12, 13, 14, 15}  # of every 20 patients: each of the five pathology groups is 20 in a row
SUFFIXES = (".nii.gz", ".nii")


def acdc_datalist(root: str | os.PathLike[str]) -> dict[str, list[dict[str, Any]]]:
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
    root = Path(root).expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"acdc_datalist: no folder {root}; pass the folder that ACDC was unpacked in")
    if (root / "training").is_dir():
        root = root / "training"
    folders = sorted(p for p in root.iterdir() if p.is_dir() and re.fullmatch(r"patient\d+", p.name))
    if not folders:
        raise FileNotFoundError(
            f"acdc_datalist: no patientNNN folders in {root}; pass the folder that holds them, or the one"
            " above 'training'"
        )
    datalist: dict[str, list[dict[str, Any]]] = {"training": [], "validation": []}
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
        image, label, scribble = (_volume(folder, case + end) for end in ("", "_gt", "_scribble"))
        if label is None:
            raise FileNotFoundError(
                f"acdc_datalist: {image} has no ground truth {case}_gt.nii.gz; unpack the patient again, or"
                " remove the image"
            )
        assert image is not None  # it gave the case its name
        item = {"image": str(image), "label": str(label), "case": case, "patient": folder.name}
        items.append(
            {**item, **({"scribble": str(scribble)} if scribble else {}), "spacing": _spacing(image)}
        )
    return items


def _volume(folder: Path, stem: str) -> Path | None:
    return next((path for suffix in SUFFIXES if (path := folder / (stem + suffix)).is_file()), None)


def _spacing(image: Path) -> list[float]:
    file: Any = nib.load(image)
    spacing = [float(size) for size in file.header.get_zooms()[:3]]
    if len(spacing) != 3 or min(spacing) <= 0:
        raise ValueError(
            f"acdc_datalist: {image} has voxel sizes {spacing}, expected three in mm; unpack it again"
        )
    return spacing


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        prog="python -m monai_constraints.data.acdc", description="Write the ACDC datalist as JSON."
    )
    parser.add_argument("root", help="folder of the patientNNN folders, or the one above 'training'")
    parser.add_argument("out", help="JSON file to write")
    arguments = parser.parse_args()
    datalist = acdc_datalist(arguments.root)
    write_datalist(datalist, arguments.out)
    counts = ", ".join(f"{len(items)} {key}" for key, items in datalist.items())
    logging.info("%s: %s volumes", arguments.out, counts)


if __name__ == "__main__":
    main()
