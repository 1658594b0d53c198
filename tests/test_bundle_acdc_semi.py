"""What is particular to bundles/acdc_semi: who may be known, what a batch has, and what is refused."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_data import SHAPE, read_csv, save
from monai.bundle import ConfigParser

from bundles import Runs, check_written, configs, messages, run, settings, train
from monai_constraints.data import OracleSizes, few_annotated

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")
FROM_LIST: dict[str, Any] = {"sizes": None, "annotated_count": None, "patients": None}


def with_sizes(runs: Runs, folder: Path, *, garbage: bool = False) -> Path:
    """The datalist that a regressor's inference writes; labels that nobody may use can be garbage."""
    datalist = copy.deepcopy(runs.cases("acdc_semi"))
    labels = {case["case"]: case["label"] for case in datalist["training"]}
    cases = few_annotated(datalist, sizes=OracleSizes(classes=3), count=2)
    training = [{**case, "label": labels[case["case"]]} for case in cases]
    if garbage:
        random = np.random.default_rng(1)
        for case in [*datalist["validation"], *(case for case in training if not case.get("annotated"))]:
            depth: Any = nib.load(case["label"])
            label = random.integers(0, 4, (*SHAPE, depth.shape[2])).astype(np.uint8)
            case["label"] = str(save(folder / f"{case['case']}_garbage.nii.gz", label))
    about = {"statistic": "Size", "classes": [3], "unit": "mm2", "margin": {}, "regressor": "abc"}
    content = {"training": training, "validation": datalist["validation"], "regressed": {"size": about}}
    about["trained_on"] = ["patient001", "patient002"]  # type: ignore[assignment]
    content["regressed"]["volume"] = {**about, "unit": "mm3"}
    path = folder / ("garbage.json" if garbage else "list.json")
    path.write_text(json.dumps(content))
    return path


def parser(runs: Runs, *rows: str, **options: Any) -> ConfigParser:
    found = ConfigParser(ConfigParser.load_config_files(configs("acdc_semi", "train", *(f"rows/{r}" for r in rows))))
    options = {"annotated_epochs": 0, **options}  # the others are in the first batch
    for key, value in settings("acdc_semi", *rows, dataset_dir=str(runs.data("acdc_semi")), **options).items():
        found[key] = value
    return found


def test_only_annotated_patients_labels_make_the_weights(runs: Runs, tmp_path: Path) -> None:
    """Labels of reported patients, and of those who count as not annotated, may be anything."""
    for garbage in (False, True):
        listed = with_sizes(runs, tmp_path, garbage=garbage)
        given = {"datalist_file": str(listed), "learning_rate": 0.05, **FROM_LIST}
        train("acdc_semi", runs.data("acdc_semi"), tmp_path / listed.stem, **given)
    files = [(tmp_path / name / "model.pt").read_bytes() for name in ("list", "garbage")]
    dice = [(tmp_path / name / "patients.csv").read_text() for name in ("list", "garbage")]
    assert files[0] == files[1] and dice[0] != dice[1]
    start = parser(runs).get_parsed_content("network_def").state_dict()
    assert any(not torch.equal(value, start[name]) for name, value in torch.load(tmp_path / "list/model.pt").items())


def test_half_of_a_batch_is_annotated_and_has_no_bounds(runs: Runs, tmp_path: Path) -> None:
    found = parser(runs, datalist_file=str(with_sizes(runs, tmp_path)), epoch_steps=5, **FROM_LIST)
    batches = list(found.get_parsed_content("train#dataloader"))
    assert len(batches) == 5
    for batch in batches:
        whole = (batch["weak"] < 255).flatten(1).all(1)
        assert whole.tolist() == [name < "patient003" for name in batch["patient"]] and whole.sum() == 2
        assert (batch["weak"][~whole] == 255).all()
        assert batch["size_bounds"][whole].isinf().all() and batch["size_bounds"][~whole].isfinite().all()
    # A disc of radius 5 within a ring, 81 pixels of 1.5 x 1.25 mm, on a grid of 44 / 32 pixels of the file a pixel.
    largest = max(batch["size_bounds"][~batch["size_bounds"].isinf()].max().item() for batch in batches)
    assert largest == pytest.approx((1.1 * 81 / (44 / 32) ** 2) ** 0.5, rel=1e-4)


def test_a_batch_is_a_volume_with_one_bound(runs: Runs, tmp_path: Path) -> None:
    listed = str(with_sizes(runs, tmp_path))
    found = parser(runs, "volume", "consistency", datalist_file=listed, epoch_steps=4, **FROM_LIST)
    assert "group" in found.get_parsed_content("loss#terms#size#loss").needs
    batches = list(found.get_parsed_content("train#dataloader"))
    assert len(batches) == 4 and sorted({len(batch["image"]) for batch in batches if batch["case"]}) <= [2, 3, 4]
    others = [batch for batch in batches if batch["patient"][0] > "patient002"]
    assert len(others) == 2 and {batch["patient"][0] for batch in others} == {"patient003", "patient004"}
    for batch in batches:
        assert len(set(batch["case"])) == 1 and (batch["size_bounds"] == batch["size_bounds"][0]).all()
        _, targets = found.get_parsed_content("train#prepare_batch")(batch)
        assert torch.allclose(targets["size_bounds"], batch["size_bounds"])  # turns and mirrors keep a volume's size
    cases = {case["case"]: case for case in json.loads(Path(listed).read_text())["training"]}
    for batch in others:
        label = np.asarray(nib.load(cases[batch["case"][0]]["label"]).dataobj)  # type: ignore[attr-defined]
        pixels = (label == 3).sum() / (44 / 32) ** 2
        expected = [(0.9 * pixels) ** 0.5, (1.1 * pixels) ** 0.5]
        assert batch["size_bounds"][0, 0, 0].tolist() == pytest.approx(expected, rel=1e-4)
    # Of the validation too: the size of its volume, to within 10 %.
    dataset = found.get_parsed_content("validate#dataset")
    bounds = torch.stack([dataset[index]["size_bounds"] for index in range(len(dataset))])
    assert (bounds == bounds[0]).all() and bounds[0, 0, 0, 0] > 0


def test_a_volume_without_size_is_refused(runs: Runs, tmp_path: Path) -> None:
    path = with_sizes(runs, tmp_path)
    content = json.loads(path.read_text())
    content["training"][3].pop("volume_regressed")
    path.write_text(json.dumps(content))
    with pytest.raises((RuntimeError, ValueError)) as error:
        train("acdc_semi", runs.data("acdc_semi"), tmp_path / "out", "volume", datalist_file=str(path), **FROM_LIST)
    assert "volume_regressed of case patient004_frame01 is missing" in messages(error.value)


def test_a_second_round_goes_on_from_a_run(runs: Runs, tmp_path: Path) -> None:
    """Its inference writes masks of the training cases; they narrow the bounds that the list has."""
    first, listed = tmp_path / "first", with_sizes(runs, tmp_path)
    shutil.copytree(runs.trained("acdc_semi"), first)
    given = {"datalist_file": str(listed), "sizes_from": str(first), **FROM_LIST}
    with pytest.raises((RuntimeError, FileNotFoundError)) as error:
        train("acdc_semi", runs.data("acdc_semi"), tmp_path / "out", "second_round", **given)
    assert "2 of 2 masks are missing" in messages(error.value) and not (tmp_path / "out").exists()
    masks = {"datalist_file": str(listed), "datalist_key": "training", "run_dir": str(first)}
    run(first / "inference.yaml", **masks, progress=False)
    found = parser(runs, "second_round", **given, **{"narrowed#relative": 0.05, "narrowed#absolute": 0})
    narrowed = {case["case"]: case for case in found.get_parsed_content("train#dataset").data}
    for case in json.loads(listed.read_text())["training"][2:]:
        mask = np.asarray(nib.load(first / "predictions" / f"{case['case']}_pred.nii.gz").dataobj)  # type: ignore
        for number, (((low, high),),) in enumerate(case["size_regressed"]):
            v = (mask[:, :, number] == 1).sum() * 1.5 * 1.25
            ((a, b),) = narrowed[case["case"]]["size_regressed"][number][0]
            both = [max(low, 0.95 * v), min(high, 1.05 * v)]
            assert [a, b] == pytest.approx(both if both[0] <= both[1] else [low, high])
    train("acdc_semi", runs.data("acdc_semi"), tmp_path / "out", "second_round", **given)
    check_written(tmp_path / "out")


@pytest.mark.parametrize(("row", "option"), [("proposals", "proposals_from"), ("second_round", "sizes_from")])
def test_a_run_with_other_annotated_patients_is_refused(row: str, option: str, runs: Runs, tmp_path: Path) -> None:
    """Its network may have seen the masks of those who are reported here."""
    listed = json.loads(with_sizes(runs, tmp_path).read_text())
    for case in listed["training"][:2]:
        case["patient"] += "b"
    listed["regressed"] = {
        name: {**about, "trained_on": [f"{one}b" for one in about["trained_on"]]}
        for name, about in listed["regressed"].items()
    }
    (tmp_path / "other.json").write_text(json.dumps(listed))
    given = {"datalist_file": str(tmp_path / "other.json"), **FROM_LIST}
    wrong = {
        str(runs.trained("acdc_semi")): "trained on the masks of patient001, patient002",
        "": "no earlier run",
        str(tmp_path): "config.yaml is missing",
    }
    for folder, words in wrong.items():
        with pytest.raises((RuntimeError, FileNotFoundError)) as error:
            train("acdc_semi", runs.data("acdc_semi"), tmp_path / "out", row, **given, **{option: folder})
        assert words in messages(error.value) and not (tmp_path / "out").exists()


def test_each_validation_has_the_3d_dice(runs: Runs) -> None:
    folder = runs.trained("acdc_semi")
    (row,), patients = read_csv(folder / "metrics.csv"), read_csv(folder / "patients.csv")
    assert float(row["val_dice_3d"]) == pytest.approx(np.mean([float(one["dice"]) for one in patients]), abs=1e-5)


def test_pasted_boxes_are_in_the_batches(runs: Runs) -> None:
    found = parser(runs, "copy_paste", **{"pasting#probability": 1.0, "epoch_steps": 1})
    (batch,) = found.get_parsed_content("train#dataloader")
    _, targets = found.get_parsed_content("train#prepare_batch")(batch)
    known = (targets["weak"] < 255).flatten(1).float().mean(1)
    assert ((known > 0) & (known < 1)).all() and targets["size_bounds"].isfinite().all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sizes": None}, "no datalist_file"),
        ({"annotated_count": 0}, "count is 0"),
        ({"annotated_count": 5}, "count is 5, the list has 4"),
        ({"annotated_count": None}, "no case of the training list is marked"),
        ({"patients": "last"}, "patients is 'last'"),
    ],
)
def test_refused_before_anything_is_read(options: dict[str, Any], words: str, runs: Runs, tmp_path: Path) -> None:
    with pytest.raises((RuntimeError, ValueError)) as error:
        train("acdc_semi", runs.data("acdc_semi"), tmp_path / "out", **options)
    assert words in messages(error.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda d: d["training"][3].pop("size_regressed"), "1 of 2 cases without annotation have no size_regressed"),
        (lambda d: d["regressed"]["size"].update(classes=[1]), "classes [1], this training takes [3]"),
        (lambda d: d["validation"].append({**d["training"][0], "case": "again"}), "patient001 is annotated and among"),
    ],
)
def test_lists_refused_before_anything_is_read(harm: Any, words: str, runs: Runs, tmp_path: Path) -> None:
    path = with_sizes(runs, tmp_path)
    content = json.loads(path.read_text())
    harm(content)
    path.write_text(json.dumps(content))
    with pytest.raises((RuntimeError, ValueError)) as error:
        train("acdc_semi", runs.data("acdc_semi"), tmp_path / "out", datalist_file=str(path), **FROM_LIST)
    assert words in messages(error.value) and not (tmp_path / "out").exists()
