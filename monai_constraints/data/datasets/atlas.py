"""ATLAS stroke lesions to datalist JSON: `python -m monai_constraints.data.datasets.atlas ROOT OUT.json`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from monai_constraints.data.datasets.prepare import Datalist, checked_root, prepare_command, read_spacing

__all__ = ["atlas_datalist"]

EVERY = 9  # patients from one that validates to the next: 26 of 229, as many as in the thesis
# Releases 2.0 (BIDS) and 1.x: how the names of images end, and those of the lesions of the same session.
LAYOUTS = (
    (re.compile(r"(sub-[^_]+)(_.*)?_T1w\.nii(\.gz)?"), r"{stem}_label-L*T1lesion_mask.nii*", "_T1w"),
    (re.compile(r"([^_.]+)(.*)_t1w(_deface)?_stx\.nii(\.gz)?"), r"{stem}_LesionSmooth*_stx.nii*", "_t1w"),
)


def atlas_datalist(root: str | os.PathLike[str]) -> Datalist:
    """T1-weighted volumes of ATLAS and their stroke lesions as {"training": [...], "validation": [...]}.

    Two layouts, however many folders are above them: of release 2.0
    `sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz` beside
    `..._label-L_desc-T1lesion_mask.nii.gz`, and of releases 1.x `031768/t01/031768_t1w_deface_stx.nii.gz` beside
    `031768_LesionSmooth_stx.nii.gz` and, of further lesions, `031768_LesionSmooth_1_stx.nii.gz` and so on. The folder
    `Testing` of 2.0, which has no lesions, is not looked into.

    An item has `image` (absolute path), `label` (a path, or a list of one a lesion: their union is the label; 0
    background, 1 lesion), `case` (patient and session, "sub-r001s001_ses-1"), `patient` and `spacing`.

    The split is by patient: of the sorted patients, the first of every nine validates. The thesis held out 26 of 229
    and does not say which.

    Args:
        root: the folder of the unpacked archive, or one above.

    Raises:
        FileNotFoundError: no root, no images, or an image without a lesion mask.
        ValueError: two images of one session, or a header without spacing.

    Source: Liew et al., A large, open source dataset of stroke anatomical brain images and manual lesion
    segmentations, Scientific Data 5, 2018; release 2.0: Scientific Data 9, 2022.
    """
    root = checked_root(root, data="ATLAS", caller="atlas_datalist")
    items: dict[str, dict[str, Any]] = {}
    for path in sorted(root.rglob("*.nii*")):
        found = None if "Testing" in path.relative_to(root).parts else _item(path)
        if found is None:
            continue
        case = found["case"]
        if case in items:
            raise ValueError(
                f"atlas_datalist: {path} and {items[case]['image']} are both of {case}; pass the folder of one release"
            )
        items[case] = found
    if not items:
        raise FileNotFoundError(
            f"atlas_datalist: no *_T1w.nii.gz and no *_t1w_deface_stx.nii.gz in {root} or below; pass the folder that "
            "the archive was unpacked in"
        )
    patients = sorted({item["patient"] for item in items.values()})
    held_out = set(patients[::EVERY])
    datalist: Datalist = {"training": [], "validation": []}
    for _, item in sorted(items.items()):
        datalist["validation" if item["patient"] in held_out else "training"].append(item)
    return datalist


def _item(path: Path) -> dict[str, Any] | None:
    for pattern, lesions, end in LAYOUTS:
        name = pattern.fullmatch(path.name)
        if name is None:
            continue
        labels = [str(one) for one in sorted(path.parent.glob(lesions.format(stem=path.name.split(end)[0])))]
        if not labels:
            raise FileNotFoundError(
                f"atlas_datalist: {path} has no {lesions.format(stem=path.name.split(end)[0])} beside it; restore it, "
                "or remove the image"
            )
        patient = name[1]
        # Of 1.x the session is the folder; of 2.0 it is in the name, before the space that the image lies in.
        session = path.parent.name if end == "_t1w" else (name[2] or "").split("_space-")[0].strip("_")
        return {
            "image": str(path), "label": labels if len(labels) > 1 else labels[0],
            "case": "_".join(part for part in (patient, session) if part), "patient": patient,
            "spacing": read_spacing(path, caller="atlas_datalist"),
        }  # fmt: skip
    return None


if __name__ == "__main__":
    prepare_command(
        atlas_datalist,
        module="datasets.atlas",
        data="ATLAS",
        root_help="folder of the unpacked archive",
    )
