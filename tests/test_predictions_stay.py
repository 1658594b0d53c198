"""What an inference reads and where it writes: never into the folder of the images, never two masks into one file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_data import save
from monai.data import MetaTensor

from monai_constraints.data import LoadCased, find_images, log_cases
from monai_constraints.data.loading import CaseError
from monai_constraints.transforms import SaveMaskd

IMAGE = np.zeros((4, 5, 2), np.uint8)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("a.nii.gz", "left/x.nii.gz", "right/x.nii.gz"):
        save(tmp_path / "in" / name, IMAGE)
    return tmp_path / "in"


def cases(items: list[dict[str, Any]]) -> list[str]:
    return [item["case"] for item in items]


@pytest.mark.parametrize("way", ["as it is", "relative", "a link to the images", "a link to the output", "real names"])
def test_masks_are_not_taken_as_images(way: str, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = images / "masks"
    given, leave_out = images, out
    save(out / "a.nii.gz", IMAGE)  # without the ending of a mask
    link = images.parent / "link"
    if way == "relative":
        monkeypatch.chdir(images.parent)
        given, leave_out = Path("in"), Path("in/../in/masks")
    elif way == "a link to the images":
        link.symlink_to(images)
        given, leave_out = link, out
    elif way == "a link to the output":
        link.symlink_to(out)
        leave_out = link
    elif way == "real names":
        link.symlink_to(images)
        given, leave_out = images, link / "masks"
    assert cases(find_images(given, leave_out=leave_out)) == ["a", "left/x", "right/x"]


def test_two_images_of_one_name_have_two_masks(images: Path, tmp_path: Path) -> None:
    save_mask = SaveMaskd(keys="pred", output_dir=tmp_path / "out")
    for item in find_images(images):
        save_mask({"pred": MetaTensor(torch.ones(1, 4, 5, 2)), "case": item["case"]})
    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.nii.gz"))
    assert written == ["a_pred.nii.gz", "left/x_pred.nii.gz", "right/x_pred.nii.gz"]
    listed = [{"image": str(images / side / "x.nii.gz")} for side in ("left", "right")]
    with pytest.raises(ValueError, match="left/x.nii.gz and .*right/x.nii.gz are both the case 'x'"):
        log_cases(listed, "inference")
    log_cases([{**item, "case": str(n)} for n, item in enumerate(listed)], "inference")


@pytest.mark.parametrize("case", ["../../up", "/absolute/name", "a/../../b", "..", "c\\..\\..\\d", "sub/ok"])
def test_a_case_name_leads_nowhere_else(case: str, tmp_path: Path) -> None:
    out = tmp_path / "one" / "two" / "out"
    SaveMaskd(keys="pred", output_dir=out)({"pred": MetaTensor(torch.ones(1, 4, 5, 2)), "case": case})
    (written,) = tmp_path.rglob("*.nii.gz")
    assert written.is_relative_to(out) and np.asarray(nib.load(written).dataobj).all()  # type: ignore[attr-defined]


def test_a_link_leads_nowhere_else(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "left").symlink_to(images / "left")
    before = sorted(images.rglob("*"))
    with pytest.raises(ValueError, match="a link leads .*left/x_pred.nii.gz out of"):
        SaveMaskd(keys="pred", output_dir=out)({"pred": MetaTensor(torch.ones(1, 4, 5, 2)), "case": "left/x"})
    assert sorted(images.rglob("*")) == before


def test_a_file_that_may_not_be_read_is_said_to_be_that(images: Path) -> None:
    path = images / "a.nii.gz"
    path.chmod(0)
    was = os.geteuid()
    try:
        if was == 0:
            for folder in (images, *list(images.parents)[:-1]):  # so that someone else comes as far as the file
                folder.chmod(folder.stat().st_mode | 0o011)
            os.seteuid(65534)
        with pytest.raises(CaseError, match="a.nii.gz: cannot be read .Permission denied.; change its permissions"):
            LoadCased(keys="image")({"image": str(path)})
    finally:
        os.seteuid(was)
