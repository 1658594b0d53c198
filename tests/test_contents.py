from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bundle_data import load, make_acdc, save

from monai_constraints.data import CachedSlices, LoadCased, check_contents, check_readable
from monai_constraints.data.datasets.acdc import acdc_datalist

READ = LoadCased(["image", "label"], classes=4)


@pytest.fixture
def cases(tmp_path: Path) -> list[dict[str, Any]]:
    return acdc_datalist(make_acdc(tmp_path / "acdc"))["training"]


def slices(*cases: dict[str, Any]) -> CachedSlices:
    return CachedSlices(cases, READ)


@pytest.fixture
def copies(cases: list[dict[str, Any]], tmp_path: Path) -> list[dict[str, Any]]:
    """The first case under other names: copied, with other numbers of the same value, with another compression."""
    image = cases[0]["image"]
    shutil.copy(image, tmp_path / "a.nii.gz")
    save(tmp_path / "b.nii.gz", np.asarray(load(image).dataobj).astype(np.float64), load(image).affine)
    nib.save(load(image), tmp_path / "c.nii")
    names = ("a.nii.gz", "b.nii.gz", "c.nii")
    items = [{**cases[0], "image": str(tmp_path / name), "case": name[0], "patient": name[0]} for name in names]
    return [{key: value for key, value in item.items() if key != "spacing"} for item in items]


def test_an_image_in_both_lists_is_refused_under_any_name(
    cases: list[dict[str, Any]], copies: list[dict[str, Any]]
) -> None:
    check_contents(slices(cases[0]), slices(cases[1]))
    for copy in copies:
        words = f"patient001_frame01 of the training and {copy['case']} of the validation"
        with pytest.raises(ValueError, match=words):
            check_contents(slices(*cases), slices(copy))
        with pytest.raises(ValueError, match=f"patient001_frame01 and {copy['case']} of the training"):
            check_contents(slices(*cases, copy), slices(cases[1]))


def test_an_image_twice_in_the_validation_is_a_warning(
    cases: list[dict[str, Any]], copies: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    check_contents(slices(cases[1]), slices(cases[0], *copies))
    pairs = [record.getMessage() for record in caplog.records]
    assert len(pairs) == 6 and "patient001_frame01 and a of the validation have the same image" in pairs[0]


def test_empty_images_are_not_one_image(cases: list[dict[str, Any]]) -> None:
    for case in cases:
        save(Path(case["image"]), np.full(load(case["image"]).shape, 7, np.int16), load(case["label"]).affine)
        del case["spacing"]
    check_contents(slices(cases[0]), slices(cases[1]))


def test_one_channel_that_is_shared_is_enough(cases: list[dict[str, Any]]) -> None:
    one = cases[0]["image"]
    other = save(Path(one).parent / "t1.nii.gz", np.random.default_rng(0).random(load(one).shape))
    third = save(Path(one).parent / "t2.nii.gz", np.random.default_rng(1).random(load(one).shape))
    pairs = ((one, other), (third, other))
    first, second = ({**cases[0], "image": [str(path) for path in pair], "spacing": None} for pair in pairs)
    save(Path(one), np.asarray(load(one).dataobj), load(cases[0]["label"]).affine)
    with pytest.raises(ValueError, match="have the same image"):
        check_contents(slices(first), slices({**second, "case": "b", "patient": "b"}))


def test_all_cases_are_read_before_the_first_is_measured(cases: list[dict[str, Any]], tmp_path: Path) -> None:
    check_readable(cases, READ, keys=["image", "label"], classes=["a", "b", "c"])
    with pytest.raises(ValueError, match="check_readable: d in no label of 2 cases"):
        check_readable(cases, READ, classes=["a", "b", "c", "d"])
    with pytest.raises(ValueError, match="case patient003_frame01: no weak, it has"):
        check_readable(cases[1:], READ, keys=["image", "weak"])
    Path(cases[1]["image"]).write_bytes(b"torn")
    del cases[0]["label"]
    words = "2 problems in 2 cases\n.*001.*label: missing.*\n.*003.*truncated or not NIfTI"
    with pytest.raises(ValueError, match=words):
        check_readable(cases, READ)
