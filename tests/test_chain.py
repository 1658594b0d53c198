"""The command that chains regressor, predictions and segmentation: what it runs, skips, resumes and refuses."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch
from bundle_data import BUNDLES, FEATURES
from test_bundle_acdc_semi import with_sizes

from bundles import GRID, Runs
from monai_constraints.chain import stages_of
from monai_constraints.command import main


def test_stages_and_whose_options_are_whose(tmp_path: Path) -> None:
    options = {"annotated_count": 5, "patients": "random", "dataset_dir": "d", "seed": 3, "learning_rate": 0.1}
    given = {"options": options, "regressor": {"max_epochs": 7}, "rows": "consistency,copy_paste", "alone": True}
    regressor, segmentation, alone = stages_of(tmp_path, **given)  # type: ignore[arg-type]
    one = " ".join(regressor.arguments)
    assert one == (
        f"monai_constraints train acdc_size --output_dir {tmp_path}/size --annotated_count 5 --patients random "
        "--dataset_dir d --seed 3 --max_epochs 7"
    )
    assert regressor.made == tmp_path / "size" / "datalist.json"
    two = "--rows consistency,copy_paste --dataset_dir d --seed 3 --learning_rate 0.1 "
    two += f"--datalist_file {tmp_path}/size/datalist.json"
    assert segmentation.made == tmp_path / "segmentation_consistency_copy_paste" / "model.pt"
    assert " ".join(segmentation.arguments).endswith(two)
    three = stages_of(tmp_path, options=options, rows="volume,oracle", regressor_rows="volume")
    assert [" --rows volume " in f"{' '.join(stage.arguments)} " for stage in three] == [True, False]
    assert "full_few" in alone.arguments and alone.made == tmp_path / "alone" / "model.pt"


def test_predictions_that_are_there_are_taken_and_finished_stages_skipped(
    runs: Runs, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "chain"
    (folder / "size").mkdir(parents=True)
    (folder / "size" / "datalist.json").write_text(with_sizes(runs, tmp_path).read_text())
    tiny = {**GRID, "trunk#features": FEATURES, "epoch_steps": 1, "max_epochs": 1, "val_interval": 1}
    words = [text for key, value in tiny.items() for text in (f"--{key}", str(value))]
    words = ["--dataset_dir", str(runs.data("acdc_semi")), "--progress", "False", *words]
    command = ["semi", str(folder), "--alone", *words]
    assert main(command) == 0
    said = capfd.readouterr().out
    assert "regressor: finished" in said and "segmentation: python -m" in said
    weights = {name: (folder / name / "model.pt").read_bytes() for name in ("segmentation", "alone")}
    assert weights["segmentation"] != weights["alone"] and (folder / "gain.png").stat().st_size > 1000
    assert main(command) == 0
    said = capfd.readouterr().out
    assert said.count(": finished") == 3 and "python -m" not in said
    assert all((folder / name / "model.pt").read_bytes() == found for name, found in weights.items())
    with pytest.raises(SystemExit):
        main([*command[:-1], "2"])
    assert "was begun with other options (val_interval is 2, was 1)" in capfd.readouterr().err
    assert json.loads((folder / "semi.json").read_text())["val_interval"] == "1"


@pytest.mark.skipif(not (BUNDLES / "acdc_size").is_dir(), reason="the bundle acdc_size is not there")
def test_no_reported_patient_enters_any_stage(runs: Runs, tmp_path: Path) -> None:
    """Labels of reported patients, and of those who are not annotated, may be anything: the weights are the same."""
    tiny = {**GRID, "trunk#features": FEATURES, "epoch_steps": 1, "max_epochs": 1, "val_interval": 1}
    words = [text for key, value in tiny.items() for text in (f"--{key}", str(value))]
    small = "--max_epochs 1 --epoch_steps 1 --val_interval 1 --margin#level 0.6 --trunk#features '[4, 4, 8, 8, 8, 4]'"
    found = []
    for garbage in (False, True):
        listed = json.loads(with_sizes(runs, tmp_path, garbage=garbage).read_text())
        del listed["regressed"]
        for case in listed["training"]:
            for key in ("size_regressed", "size_predicted", "volume_regressed", "volume_predicted"):
                case.pop(key, None)
        path, folder = tmp_path / f"own_{garbage}.json", tmp_path / f"chain_{garbage}"
        path.write_text(json.dumps(listed))
        given = ["--regressor", small, "--datalist_file", str(path), "--progress", "False", *words]
        assert main(["semi", str(folder), *given]) == 0
        found.append(folder)
    assert_same_weights_and_sizes(*found)
    dice = [(folder / "segmentation" / "patients.csv").read_text() for folder in found]
    assert dice[0] != dice[1]  # the labels differ, and are read for the report


def assert_same_weights_and_sizes(one: Path, other: Path) -> None:
    """Tensors to the bit; the bytes of the files have the name of a temporary one, with the number of the process."""
    for name in ("size", "segmentation"):
        a, b = (torch.load(folder / name / "model.pt", weights_only=True) for folder in (one, other))
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    lists = [json.loads((folder / "size" / "datalist.json").read_text())["training"] for folder in (one, other)]
    sizes = [[case.get("size_regressed") for case in cases] for cases in lists]
    assert sizes[0] == sizes[1] and [entry is None for entry in sizes[0]] == [True, True, False, False]


def test_a_stage_that_fails_ends_the_chain(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = f"semi {tmp_path}/out --dataset_dir {tmp_path}/nowhere --annotated_count 5 --progress False"
    assert main(shlex.split(command)) != 0
    error = capfd.readouterr().err
    assert "regressor ended with" in error and "segmentation" not in error
    # What both bundles have goes to both: several structures are to be regressed too.
    command = f"semi {tmp_path}/two --rows three_classes,consistency --dataset_dir {tmp_path}/nowhere"
    assert main(shlex.split(f"{command} --annotated_count 5 --progress False")) != 0
    assert "train acdc_size --output_dir" in (said := capfd.readouterr().out) and "--rows three_classes --" in said
    with pytest.raises(SystemExit):
        main(shlex.split(f"semi {tmp_path}/out --rows tagz"))
    assert "tagz is neither a file nor a row of acdc_semi" in capfd.readouterr().err
