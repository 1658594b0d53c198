from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_data import SHAPE, SPINE_SPACING, SPINES, make_vertebral_bodies, read_csv, save
from conftest import data_root

from bundles import Runs, run, train
from monai_constraints.data import check_cases
from monai_constraints.data.datasets.vertebral_bodies import vertebral_bodies_datalist


@pytest.mark.parametrize(
    ("official", "image", "label"),
    [(True, "Img_05.nii", "Img_05_Labels.nii"), (False, "case05.nii.gz", "case05_gt.nii.gz")],
)
def test_both_layouts(tmp_path: Path, official: bool, image: str, label: str) -> None:
    datalist = vertebral_bodies_datalist(make_vertebral_bodies(tmp_path, official=official))
    cases = {key: [item["case"] for item in items] for key, items in datalist.items()}
    assert cases == {"training": ["case02", "case04"], "validation": ["case05", "case12"]}
    first = datalist["validation"][0]
    paths = {"image": str(tmp_path / image), "label": str(tmp_path / label)}
    assert first == {**paths, "case": "case05", "patient": "case05", "spacing": list(SPINE_SPACING)}
    check_cases(datalist["training"], classes=8, progress=False)


def test_errors_name_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere; pass the folder that Zenodo 22304"):
        vertebral_bodies_datalist(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="neither Img_NN.nii nor caseNN.nii.gz"):
        vertebral_bodies_datalist(tmp_path)
    make_vertebral_bodies(tmp_path)
    with pytest.raises(ValueError, match=r"Img_04.nii.*case04.nii.gz are both case 04|case04.*Img_04.*both case 04"):
        for name in ("Img_04.nii", "Img_04_Labels.nii"):
            shutil.copyfile(tmp_path / "case04.nii.gz", tmp_path / f"{name}.gz")
        vertebral_bodies_datalist(tmp_path)
    (tmp_path / "Img_04.nii.gz").unlink()
    (tmp_path / "case12_gt.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match="case12.nii.gz has no ground truth case12_gt.nii"):
        vertebral_bodies_datalist(tmp_path)
    save(tmp_path / "case12_gt.nii.gz", np.zeros((30, 30, 5), np.uint8))
    save(tmp_path / "case12.nii.gz", np.zeros((30, 30, 5), np.uint8))
    with pytest.raises(ValueError, match=r"case12.nii.gz has shape \(30, 30, 5\), expected few sagittal slices along"):
        vertebral_bodies_datalist(tmp_path)


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = make_vertebral_bodies(tmp_path / "spines"), tmp_path / "new" / "list.json"
    monkeypatch.setattr(sys, "argv", ["vertebral_bodies", str(root), str(out)])
    monkeypatch.delitem(sys.modules, "monai_constraints.data.datasets.vertebral_bodies")
    runpy.run_module("monai_constraints.data.datasets.vertebral_bodies", run_name="__main__")
    assert json.loads(out.read_text()) == vertebral_bodies_datalist(root)


def test_real_data() -> None:
    datalist = vertebral_bodies_datalist(data_root("vertebral_bodies"))
    assert [item["case"] for item in datalist["validation"]] == ["case05", "case12", "case18"]
    items = datalist["training"] + datalist["validation"]
    assert len(datalist["training"]) == 10 and len({item["patient"] for item in items}) == 13
    assert len(items) > len(SPINES) and all(item["spacing"] == [2.0, 1.25, 1.25] for item in items)
    for item in items:  # seven bodies, one above the other along the second axis, whatever the affine says
        label = np.asarray(nib.load(item["label"]).dataobj)  # type: ignore[attr-defined]
        assert np.unique(label).tolist() == list(range(8))
        extent = np.ptp(np.argwhere(label), axis=0)
        assert extent[1] > 2 * extent[2] and extent[1] > 4 * extent[0], item["case"]


@pytest.mark.parametrize(("rows", "axis"), [([], 1), (["sagittal"], 0)])
def test_slices_come_back_as_volumes(rows: list[str], axis: int, runs: Runs, tmp_path: Path) -> None:
    """As many slices as the axis is long, and masks that lie as the files do, sagittal slices first."""
    root = runs.data("vertebral_bodies")
    assert root is not None
    train("vertebral_bodies", root, tmp_path / "out", *rows)
    slices = {row["case"]: int(row["slices"]) for row in read_csv(tmp_path / "out" / "patients.csv")}
    assert slices == {f"case{n:02d}": (SPINES[n], *SHAPE)[axis] for n in (5, 12)}
    run(tmp_path / "out" / "inference.yaml", dataset_dir=str(root), output_dir=str(tmp_path / "masks"), progress=False)
    masks = sorted((tmp_path / "masks").rglob("*_pred.nii.gz"))
    assert [path.name for path in masks] == [f"case{n:02d}_pred.nii.gz" for n in sorted(SPINES)]
    for path, number in zip(masks, sorted(SPINES)):
        mask, image = nib.load(path), nib.load(root / f"case{number:02d}.nii.gz")
        assert mask.shape == image.shape == (SPINES[number], *SHAPE)  # type: ignore[attr-defined]
        np.testing.assert_allclose(mask.affine, image.affine)  # type: ignore[attr-defined]
