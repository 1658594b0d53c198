"""The regressor of sizes: what it learns from, what it writes, what it refuses, and that it goes on where it was."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from bundle_data import BUNDLES, make_acdc_semi

from bundles import configs, messages, run
from monai_constraints.data import RegressedSizes, Residuals, few_annotated, read_datalist
from monai_constraints.data.datasets.acdc import acdc_datalist
from monai_constraints.data.known_sizes import slice_areas
from monai_constraints.regression import LeavePatientsOut

BUNDLE = "acdc_size"
TINY: dict[str, Any] = {
    "bundle_root": str(BUNDLES / BUNDLE), "padded_size": [44, 44], "spatial_size": [32, 32], "max_epochs": 2,
    "val_interval": 1, "epoch_steps": 2, "batch_size": 4, "annotated_count": 2, "patients": "first", "device": "cpu",
    "progress": False, "trunk#features": [4, 4, 8, 8, 8, 4], "margin#level": 0.6, "voxel_size": 0.0,
}  # fmt: skip
WRITTEN = {"residuals.csv", "regressor.json", "errors.csv", "predicted.png", "model.pt", "checkpoint.pt", "config.yaml"}
WRITTEN |= {"datalist.json", "inference.yaml", "metadata.json", "logging.conf"}
VOLUME_MARGIN = {
    "_target_": "monai_constraints.constraints.ConformalMargin", "level": 0.7, "unit": "patient", "offset": 1000
}  # fmt: skip
CENTROID = {"_target_": "monai_constraints.constraints.Centroid", "classes": "@classes"}


def train(data: Path, out: Path, *rows: str, **options: Any) -> None:
    given = {**TINY, "dataset_dir": str(data), "output_dir": str(out), **options}
    given = {key: value for key, value in given.items() if value is not None}
    run(*configs(BUNDLE, "train", *(f"rows/{row}" for row in rows)), **given)


def predict(out: Path) -> dict[str, Any]:
    """The datalist written again, which is the same."""
    before = (out / "datalist.json").read_text()
    run(out / "inference.yaml", progress=False, sizes_file=str(out / "again.json"))
    assert (out / "again.json").read_text() == before
    content: dict[str, Any] = json.loads(before)
    return content


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_acdc_semi(tmp_path_factory.mktemp("acdc"))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "size"
    train(data, out)
    predict(out)
    return out


def test_what_a_run_writes(data: Path, trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} == WRITTEN | {"again.json"}
    found = Residuals.read(trained / "residuals.csv")
    cases = {case["case"]: case for case in acdc_datalist(data)["training"]}
    assert found.patients == ["patient001"] * 3 + ["patient002"] * 4 and found.folds == [0] * 3 + [1] * 4
    areas = np.concatenate([slice_areas(cases[name], [3]) for name in dict.fromkeys(found.cases)])
    # On the network's grid, of 32 x 32 pixels in place of 44 x 44, areas are those of the file to within some pixels.
    np.testing.assert_allclose(found.true[:, :, 0].numpy(), areas, atol=25)
    assert found.true[2, 0, 0] == 0 and found.prior is not None and not found.prior.isnan().any()
    summary = json.loads((trained / "regressor.json").read_text())
    assert summary["trained_on"] == ["patient001", "patient002"] and summary["highest_level_of_patients"] == 0.6667
    error = float((found.true - found.predicted).abs().mean())
    assert summary["mean_absolute_error"] == [[pytest.approx(error, abs=1e-3)]]
    with open(trained / "errors.csv") as file:
        errors = {int(row["epoch"]): float(row["class3_value0"]) for row in csv.DictReader(file)}
    assert summary["epochs"] == min(errors, key=lambda epoch: errors[epoch])


def test_the_datalist_is_what_the_segmentation_reads(trained: Path) -> None:
    content = json.loads((trained / "datalist.json").read_text())
    others = [case for case in content["training"] if not case.get("annotated")]
    assert [case["patient"] for case in others] == ["patient003", "patient004"]
    about = content["regressed"]["size"]
    assert (about["statistic"], about["classes"], about["unit"]) == ("Size", [3], "mm2")
    quantile = about["margin"]["quantile"][0][0]
    for case, depth in zip(others, (3, 2)):
        assert len(case["size_predicted"]) == len(case["size_regressed"]) == depth
        for [[value]], [[(low, high)]] in zip(case["size_predicted"], case["size_regressed"]):
            assert low <= value <= high == pytest.approx(value + quantile * (value + 100) ** 0.5, rel=1e-4)
    path = trained / "datalist.json"
    listed = {part: read_datalist(path, part) for part in ("training", "validation")}
    made = few_annotated(listed, sizes=RegressedSizes(path, classes=3))
    assert [bool(case.get("annotated")) for case in made] == [True, True, False, False]


def test_no_other_label_and_no_reported_patient_enters(data: Path, trained: Path, tmp_path: Path) -> None:
    """Labels of all patients who are not annotated, and images of those who are reported, become noise."""
    copied = tmp_path / "acdc"
    shutil.copytree(data, copied)
    outputs = []
    for noise in (False, True):
        rng = np.random.default_rng(0)
        for path in sorted(copied.rglob("*.nii.gz")) if noise else []:
            number = int(path.parent.name.removeprefix("patient"))
            if number > 2 and (path.name.endswith(("_gt.nii.gz", "_scribble.nii.gz")) or number >= 13):
                file: Any = nib.load(path)
                noisy = rng.integers(0, 4, file.shape).astype(file.get_data_dtype())
                nib.save(nib.Nifti1Image(noisy, file.affine, file.header), path)
        out = tmp_path / f"out{noise}"
        train(copied, out)
        names = ("model.pt", "residuals.csv", "errors.csv", "regressor.json", "datalist.json")
        outputs.append({name: (out / name).read_bytes() for name in names})
    assert outputs[0] == outputs[1]


def test_who_is_left_out_has_no_part_in_his_prediction(data: Path, trained: Path, tmp_path: Path) -> None:
    copied = tmp_path / "acdc"
    shutil.copytree(data, copied)
    path = copied / "patient002" / "patient002_frame01_gt.nii.gz"
    file: Any = nib.load(path)
    nib.save(nib.Nifti1Image(np.full(file.shape, 3, np.uint8), file.affine, file.header), path)
    train(copied, tmp_path / "out")
    first, second = (torch.load(one / "checkpoint.pt")["predicted"] for one in (trained, tmp_path / "out"))
    assert torch.equal(first[1], second[1]) and not torch.equal(first[0], second[0])


def test_killed_in_the_second_fold_it_goes_on_there(
    data: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, began = LeavePatientsOut._fold, list[int]()

    def killed(self: LeavePatientsOut, number: int, *rest: Any) -> torch.Tensor:
        began.append(number)
        if number == 1 and len(began) == 2:
            raise KeyboardInterrupt
        return whole(self, number, *rest)

    monkeypatch.setattr(LeavePatientsOut, "_fold", killed)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        train(data, out)
    assert not (out / "model.pt").exists() and (out / "checkpoint.pt").is_file()
    with pytest.raises(Exception) as caught:
        train(data, out)
    assert "a training that was interrupted (checkpoint.pt); --resume True goes on with it" in messages(caught.value)
    train(data, out, resume=True)
    assert began == [0, 1, 1]
    found, expected = (torch.load(one / "model.pt", weights_only=True) for one in (out, trained))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert (out / "residuals.csv").read_text() == (trained / "residuals.csv").read_text()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"annotated_count": 0}, "count is 0, the list has 4 patients"),
        ({"annotated_count": 5}, "count is 5, the list has 4 patients"),
        ({"annotated_count": 1}, "1 annotated patient, expected two or more"),
        ({"annotated_count": None}, 'no case of the training list is marked "annotated": true'),
        ({"margin#level": 0.7, "margin#unit": "patient"}, "2 patients can promise a coverage of 0.667 at most"),
        ({"trunk#out_channels": 3}, "expected 1 numbers a sample"),
        ({"volume_margin": VOLUME_MARGIN}, "2 patients can promise a coverage of 0.667 at most"),
        (
            {"volume_margin": VOLUME_MARGIN, "prior": None, "views": False, "statistic": CENTROID, "name": "centroid"},
            "volume_margin for a Centroid; only sizes of slices add up",
        ),
    ],
)
def test_refused_before_training(options: dict[str, Any], text: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception) as caught:
        train(data, tmp_path / "out", **options)
    assert text in messages(caught.value) and not (tmp_path / "out" / "checkpoint.pt").exists()


def test_an_annotated_patient_who_is_reported(data: Path, trained: Path, tmp_path: Path) -> None:
    content = json.loads((trained / "datalist.json").read_text())
    content["validation"].append({**content["training"][0], "case": "again"})
    (tmp_path / "list.json").write_text(json.dumps(content))
    with pytest.raises(Exception) as caught:
        train(data, tmp_path / "out", datalist_file=str(tmp_path / "list.json"), annotated_count=None)
    assert "patient patient001 is annotated and among those that are reported" in messages(caught.value)
    with pytest.raises(Exception) as caught:
        run(trained / "inference.yaml", datalist_file=str(tmp_path / "list.json"), sizes_file=str(tmp_path / "x.json"))
    assert "trained on patient001, who is reported" in messages(caught.value) and not (tmp_path / "x.json").exists()


def test_volumes_are_sums_over_slices(data: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(data, out, "volume", **{"max_epochs": 1, "epoch_steps": 1, "volume_margin#level": 0.6})
    content = predict(out)
    slices, volumes = Residuals.read(out / "residuals.csv"), Residuals.read(out / "volumes.csv")
    assert volumes.cases == ["patient001_frame01", "patient002_frame01"] and volumes.patients[0] == "patient001"
    for found, parts in ((volumes.true, slices.true), (volumes.predicted, slices.predicted)):
        expected = torch.stack([parts[:3].sum(0), parts[3:].sum(0)]) * 8  # slices of 8 mm
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=0.1)
    about = content["regressed"]["volume"]
    assert (about["statistic"], about["classes"], about["unit"]) == ("Size", [3], "mm3")
    assert about["regressor"] == content["regressed"]["size"]["regressor"]
    scores = (volumes.true - volumes.predicted).abs() / (volumes.predicted + 1000).sqrt()
    assert about["margin"]["quantile"] == [[pytest.approx(float(scores.max()), rel=1e-3)]]
    for case in content["training"][2:]:
        ((value,),), (((low, high),),) = case["volume_predicted"], case["volume_regressed"]
        assert value == pytest.approx(8 * np.sum(case["size_predicted"]), rel=1e-4)
        half = about["margin"]["quantile"][0][0] * (value + 1000) ** 0.5
        assert high == pytest.approx(value + half, rel=1e-4)
        assert low == pytest.approx(value - half if value - half >= 100 else 0, rel=1e-4)
    said = json.loads((out / "regressor.json").read_text())["volume"]
    error = float((volumes.true - volumes.predicted).abs().mean())
    assert said["mean_absolute_error"] == [[pytest.approx(error, rel=1e-3)]] and said["position_prior"] is not None
    assert (out / "volumes.png").stat().st_size > 1000
    path = out / "datalist.json"
    listed = {part: read_datalist(path, part) for part in ("training", "validation")}
    assert len(few_annotated(listed, sizes=RegressedSizes(path, classes=3))) == 4
    # A run that was trained without the row needs no new training.
    given = {"volume_margin": {**VOLUME_MARGIN, "level": 0.6}, "sizes_file": str(tmp_path / "later.json")}
    run(trained / "inference.yaml", **given, progress=False)
    later = json.loads((tmp_path / "later.json").read_text())
    assert set(later["regressed"]) == {"size", "volume"} and len(later["training"][3]["volume_regressed"]) == 1


SMALL_RESNEXT = {
    "regressor#layers": [1, 1, 1, 1], "regressor#groups": 4, "regressor#inplanes": 16
}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ("three_classes", {}), ("raw_size", {}), ("whole_patients", {}), ("centroid", {}), ("spread", {}),
        ("soft_region", {}), ("pooled", {"regressor#features": [4, 4, 8, 8, 8]}),
        ("gamma", {"margin#level": None}), ("thesis", {**SMALL_RESNEXT, "margin#level": None}),
    ],
)  # fmt: skip
def test_row_trains_and_predicts(row: str, options: dict[str, Any], data: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "out", row, **{"max_epochs": 1, "epoch_steps": 1, **options})
    content = predict(tmp_path / "out")
    name = row if row in ("centroid", "spread") else "size"
    about, case = content["regressed"][name], content["training"][-1]
    k, m = (3 if row == "three_classes" else 1), (2 if name != "size" else 1)
    assert about["statistic"] == name.capitalize() and len(about["classes"]) == k
    assert [len(one) for one in case[f"{name}_regressed"][0]] == [m] * k and about["trained_on"][-1] == "patient002"
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert [one["name"] for one in config["rows"]] == [row]
