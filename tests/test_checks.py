from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import data_root

from monai_constraints.constraints import check_bounds
from monai_constraints.data import check_cases, check_output_dir
from monai_constraints.data.datasets.acdc import acdc_datalist

SHAPE = (7, 6, 5)
CLASSES = 3


def save(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> str:
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
    return str(path)


def labels(*values: float, dtype: type = np.uint8) -> np.ndarray:
    data: np.ndarray = np.zeros(SHAPE, dtype)
    data.ravel()[: len(values)] = values
    return data


def good_case(folder: Path, name: str) -> dict[str, Any]:
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    return {
        "case": name,
        "image": save(folder / f"{name}.nii.gz", image),
        "label": save(folder / f"{name}_gt.nii.gz", labels(1, 2)),
        "weak": save(folder / f"{name}_weak.nii.gz", labels(1, 255)),
    }


def problem_with(items: list[dict[str, Any]], **options: Any) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        check_cases(items, classes=options.pop("classes", CLASSES), weak_keys=("weak",), **options)
    return str(caught.value)


@pytest.fixture
def items(tmp_path: Path) -> list[dict[str, Any]]:
    return [good_case(tmp_path, name) for name in ("caseA", "caseB")]


def test_good_cases_pass(items: list[dict[str, Any]]) -> None:
    check_cases(items, classes=CLASSES, weak_keys=("weak",))
    check_cases([{**items[0], "image": [items[0]["image"], items[1]["image"]]}], classes=CLASSES)


def test_real_cases_pass() -> None:
    items = acdc_datalist(data_root("acdc"))["validation"][:6]
    check_cases(items, classes=4, weak_keys=("scribble",), unknown=4)
    with pytest.raises(ValueError, match="patient013_frame01, scribble.*found 4"):
        check_cases(items, classes=4, weak_keys=("scribble",))


def test_empty() -> None:
    assert "datalist is empty" in problem_with([])


BAD = {
    "nan": ("image", labels(np.nan, np.inf, dtype=np.float32), "2 voxels are NaN or infinite; replace"),
    "shape": ("label", np.zeros((7, 6, 4), np.uint8), r"shape (7, 6, 4), but case caseB, image"),
    "range": ("label", labels(1, 3), "expected integers 0..2, found 3; correct the number of classes"),
    "negative": ("label", labels(-1, dtype=np.int16), "found -1; correct"),
    "fraction": ("label", labels(0.5, dtype=np.float32), "found 0.5; correct"),
    "label nan": ("label", labels(np.nan, dtype=np.float32), "found nan; correct"),
    "label unknown": ("label", labels(255), "expected integers 0..2, found 255; correct"),
    "weak": ("weak", labels(4), "expected integers 0..2 or 255, found 4; correct"),
}


@pytest.mark.parametrize(("key", "data", "message"), BAD.values(), ids=BAD)
def test_bad_voxels(items: list[dict[str, Any]], key: str, data: np.ndarray, message: str) -> None:
    path = save(Path(items[1][key]), data)
    text = problem_with(items)
    assert f"case caseB, {key}, {path}: " in text and message in text and len(text.splitlines()) == 2


def test_affine(items: list[dict[str, Any]]) -> None:
    affine = np.eye(4)
    affine[0, 3] = 5e-4
    save(Path(items[1]["label"]), labels(1, 2), affine)
    check_cases(items, classes=CLASSES)
    affine[0, 3] = 0.1
    save(Path(items[1]["label"]), labels(1, 2), affine)
    text = problem_with(items)
    assert f"case caseB, label, {items[1]['label']}: affine differs by 0.1" in text and "resample" in text


def test_modalities_of_an_image(items: list[dict[str, Any]], tmp_path: Path) -> None:
    """A list of files is one image: each is on the grid of the others, whole and finite, and named if it is not."""
    good = items[0]["image"]
    items[0]["image"] = [good, good, items[1]["image"]]
    check_cases(items, classes=CLASSES)
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    for name, data, at, message in (
        ("shape", np.zeros((7, 6, 4), np.float32), np.eye(4), f"shape (7, 6, 4), but case caseA, image, {good} has"),
        ("affine", np.zeros(SHAPE, np.float32), affine, f"affine differs by 2 from case caseA, image, {good}"),
        ("nan", labels(np.nan, dtype=np.float32), np.eye(4), "1 voxels are NaN"),
    ):
        path = save(tmp_path / f"{name}.nii.gz", data, at)
        items[0]["image"] = [good, path, good]
        lines = problem_with(items).splitlines()
        assert len(lines) == 2 and f"case caseA, image, {path}: {message}" in lines[1]
    items[0]["image"] = [good, "/nowhere.nii"]
    assert "case caseA, image, /nowhere.nii: no such file" in problem_with(items)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_truncated(items: list[dict[str, Any]], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    save(path, np.random.default_rng(0).integers(0, 3, (30, 30, 30)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:600])
    items[0]["image"] = str(path)
    text = problem_with(items)
    assert f"case caseA, image, {path}: truncated or not NIfTI" in text and "download the file again" in text


def test_missing_key_and_file(items: list[dict[str, Any]]) -> None:
    os.unlink(items[0]["label"])
    path = items[0]["label"]
    with pytest.raises(FileNotFoundError, match=f"case caseA, label, {path}: no such file; restore"):
        check_cases(items, classes=CLASSES)
    del items[1]["image"]
    text = problem_with(items)
    assert "2 problems" in text and "case caseB, image: missing key" in text and "prepare" in text
    del items[1]["case"]
    assert "case number 1, image: missing key" in problem_with(items)


def test_absent_class(items: list[dict[str, Any]]) -> None:
    text = problem_with(items, classes=4)
    assert "label: class 3 never occurs" in text and "require_classes=False" in text
    check_cases(items, classes=4, weak_keys=("weak",), require_classes=False)
    check_cases(items, classes=4, weak_keys=("weak",), require_classes=[0, 1])
    text = problem_with(items, classes=5, require_classes=[1, 3])
    assert "label: class 3 never occurs" in text and len(text.splitlines()) == 2


def test_lists_all_but_at_most_twenty(items: list[dict[str, Any]]) -> None:
    missing = [{**items[0], "case": f"c{n}", "image": f"/nowhere/{n}.nii"} for n in range(25)]
    lines = problem_with(missing[:20]).splitlines()
    assert len(lines) == 21 and "/nowhere/19.nii" in lines[-1]
    lines = problem_with(missing).splitlines()
    assert len(lines) == 21 and "25 problems" in lines[0] and lines[-1] == "... and 6 more"


def test_bounds() -> None:
    bounds = torch.tensor([0.0, 1.0]).repeat(4, 3, 1)
    bounds[2, 1] = torch.tensor([-torch.inf, torch.inf])
    bounds[1] = 0  # an absent class
    check_bounds(bounds, classes=4, name="size_bounds")
    check_bounds(bounds, classes=None, name="size_bounds")
    for bad, classes, message in (
        (bounds[0], None, r"size_bounds: expected shape \(K, M, 2\), got \(3, 2\); stack"),
        (bounds.expand(1, 4, 3, 2), None, r"got \(1, 4, 3, 2\)"),
        (bounds.movedim(2, 0), None, r"got \(2, 4, 3\)"),
        (bounds, 5, "size_bounds: expected K=5, got K=4; make"),
    ):
        with pytest.raises(ValueError, match=message):
            check_bounds(bad, classes=classes, name="size_bounds")
    for entry, message in (([torch.nan, 1.0], "is NaN; use"), ([2.0, 1.0], r"\[2.0, 1.0\] has a > b; swap")):
        bad = bounds.clone()
        bad[3, 2] = torch.tensor(entry)
        with pytest.raises(ValueError, match=f"size_bounds: class 3, value 2: .*{message}"):
            check_bounds(bad, classes=4, name="size_bounds")


def test_output_dir(tmp_path: Path) -> None:
    check_output_dir(tmp_path / "a" / "b")
    check_output_dir(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below" / "it"):
        with pytest.raises(OSError, match=f"{file} is a file, not a folder; choose another"):
            check_output_dir(path)


def test_output_dir_on_a_full_disk(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # files can be made, but hold nothing
    try:
        with pytest.raises(OSError, match=f"cannot write in {tmp_path} .*free space"):
            check_output_dir(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc, where even root cannot write")
@pytest.mark.parametrize("path", ["/proc/new", "/proc"])
def test_output_dir_not_writable(path: str) -> None:
    with pytest.raises(OSError, match=f"cannot write in {path} .*; choose another output folder"):
        check_output_dir(path)
