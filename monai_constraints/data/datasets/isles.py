"""ISLES 2018 to datalist JSON: `python -m monai_constraints.data.datasets.isles ROOT OUT.json`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from monai_constraints.data.datasets.prepare import (  # fmt: skip
    Datalist,
    checked_root,
    common_spacing,
    is_below,
    no_cases,
    prepare_command,
)

__all__ = ["isles_datalist", "isles_images"]

MODALITIES = ("CT", "CT_CBF", "CT_CBV", "CT_MTT", "CT_Tmax")  # the channels of an image, in this order
LABEL = "OT"
LAST_TRAINING = 74


def isles_datalist(root: str | os.PathLike[str]) -> Datalist:
    """The 94 training cases of ISLES 2018 as {"training": [...], "validation": [...]}, 74 and 20.

    An item has `image` (the absolute paths of CT and of the perfusion maps CBF, CBV, MTT and Tmax, which LoadImaged
    makes five channels of), `label` (0 background, 1 lesion), `case` and `patient` (both "case_1") and `spacing`
    ([dx, dy, dz] in mm).

    The split: case_75 to case_94 validate. The thesis held out 20 too and does not say which.

    The trap: the 94 cases are of 63 patients, some of whom were scanned as two slabs, and no file says which cases
    are of one patient. So `patient` is the case, and a patient may be on both sides of the split. If the slabs of a
    patient have successive numbers, which is not documented, this split has at most one such patient, where a split
    of every fifth case would have many. Who knows the patients passes a datalist.

    Args:
        root: the folder of the `case_N`, or one above. Where it has a folder `TRAINING`, only what is in that counts.
            In case_N, in folders or not: `SMIR.Brain.XX.O.CT.ID.nii`, and so `CT_CBF`, `CT_CBV`, `CT_MTT`, `CT_Tmax`
            and `OT`, the label; `.nii.gz` too. The series `CT_4DPWI` is ignored.

    Raises:
        FileNotFoundError: no root, no cases, or a case without one of the modalities or without label.
        ValueError: a case or a modality twice, or files of a case whose headers differ in shape or voxel size.

    Source: Hakim et al. 2021, Stroke 52(7); Cereda et al. 2016, Journal of Cerebral Blood Flow & Metabolism 36(10).
    """
    root = checked_root(root, data="ISLES 2018", caller="isles_datalist")
    if (root / "TRAINING").is_dir():
        root = root / "TRAINING"
    cases = _cases(root)
    if not cases:
        raise FileNotFoundError(
            f"isles_datalist: no folders case_N in {root} or below; pass the folder that holds them, or the one above"
            " 'TRAINING'"
        )
    seen: dict[int, Path] = {}
    datalist: Datalist = {"training": [], "validation": []}
    for number, folder in cases:
        if number in seen:
            raise ValueError(
                f"isles_datalist: {folder} and {seen[number]} are the same case; pass the folder TRAINING alone"
            )
        seen[number] = folder
        *images, label = _volumes(folder, [*MODALITIES, LABEL], caller="isles_datalist")
        item = {"image": [str(image) for image in images], "label": str(label), "case": folder.name}
        spacing = common_spacing([*images, label], caller="isles_datalist")
        part = "training" if number <= LAST_TRAINING else "validation"
        datalist[part].append({**item, "patient": folder.name, "spacing": spacing})
    return datalist


def isles_images(root: str | os.PathLike[str], *, leave_out: str | os.PathLike[str] = "") -> list[dict[str, Any]]:
    """All cases below a folder, labelled or not, as items of `image` (five paths) and `case`.

    Args:
        root: the folder of the `case_N`, or one above, in the layout of `isles_datalist`.
        leave_out: a folder below it that is not looked into, such as the one that predictions are written to.

    Raises:
        FileNotFoundError: no root, no cases, or a case without one of the modalities.
        ValueError: a modality twice.
    """
    root = checked_root(root, data="ISLES 2018", caller="isles_images")
    folders = [folder for _, folder in _cases(root) if not is_below(folder, leave_out)]
    if not folders:
        raise FileNotFoundError(no_cases("isles_images", root, "case_N/SMIR.Brain.XX.O.CT.ID.nii", MODALITIES))
    found = ((folder, _volumes(folder, MODALITIES, caller="isles_images")) for folder in folders)
    return [{"image": [str(path) for path in paths], "case": folder.name} for folder, paths in found]


def _cases(root: Path) -> list[tuple[int, Path]]:
    names = ((path, re.fullmatch(r"case_(\d+)", path.name)) for path in root.rglob("case_*") if path.is_dir())
    return sorted((int(name[1]), path) for path, name in names if name)


def _volumes(folder: Path, names: tuple[str, ...] | list[str], *, caller: str) -> list[Path]:
    """The file of each modality, and of the label, of a case."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.nii*")):
        match = re.fullmatch(r".*\.O\.(\w+)\.\d+\.nii(\.gz)?", path.name)
        if match and path.is_file():
            found.setdefault(match[1], []).append(path)
    for name in names:
        what = "label" if name == LABEL else "file"
        if name not in found:
            remedy = ", or pass the folder TRAINING alone: the test cases have none" if name == LABEL else ""
            raise FileNotFoundError(
                f"{caller}: {folder} has no {what} SMIR.Brain.XX.O.{name}.ID.nii; unpack the case again{remedy}"
            )
        if len(found[name]) > 1:
            first, second = found[name][:2]
            raise ValueError(f"{caller}: {first} and {second} are both {name} of one case; keep one of them")
    return [found[name][0] for name in names]


if __name__ == "__main__":
    prepare_command(
        isles_datalist,
        module="isles",
        data="ISLES 2018",
        root_help="folder of the case_N of the training data, or the one above 'TRAINING'",
    )
