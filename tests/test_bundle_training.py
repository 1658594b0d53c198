"""Every bundle trains and evaluates, and a run says what it was; on miniature data."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from bundle_data import BUNDLES, read_csv
from monai.bundle import ConfigWorkflow

from bundles import (
    NAMES,
    ROWS,
    TABLE,
    Runs,
    check_written,
    configs,
    evaluated,
    messages,
    row_notes,
    run,
    settings,
    train,
    with_needs,
)

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")


@pytest.mark.parametrize("bundle", NAMES)
def test_a_run_says_what_it_was(bundle: str, runs: Runs) -> None:
    out = runs.trained(bundle)
    check_written(out)
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["output_dir"] == str(out) and config.get("gpu", False) is False
    assert not config["dataset_dir"] or os.path.isabs(config["dataset_dir"])
    rows = read_csv(out / "patients.csv")
    assert {row["case"] for row in rows} == {item["case"] for item in runs.cases(bundle)["validation"]}
    dice = np.average([float(row["dice_2d"]) for row in rows], weights=[int(row["slices"]) for row in rows])
    assert float(read_csv(out / "metrics.csv")[0]["val_dice"]) == pytest.approx(dice, rel=1e-4)


@pytest.mark.parametrize("bundle", NAMES)
def test_evaluation_needs_only_the_run(
    bundle: str, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, cases = runs.trained(bundle), runs.cases(bundle)
    monkeypatch.chdir(tmp_path)
    run(out / "evaluate.yaml", evaluation_dir=str(tmp_path / "a"), progress=False)
    assert evaluated(tmp_path / "a") == {item["case"] for item in cases["validation"]}
    with pytest.raises(RuntimeError) as error:
        run(out / "evaluate.yaml", evaluation_dir=str(tmp_path / "b"), **TABLE[bundle].other_network)
    assert "is of another network" in messages(error.value)
    if runs.data(bundle) is None:
        return
    given: dict[str, Any] = {"cases_dir": str(runs.data(bundle))}
    run(out / "evaluate.yaml", evaluation_dir=str(tmp_path / "c"), progress=False, **given)
    assert evaluated(tmp_path / "c") == {item["case"] for part in cases.values() for item in part}
    (tmp_path / "list.json").write_text(json.dumps({"mine": cases["training"][:1]}))
    given = {"datalist_file": str(tmp_path / "list.json"), "datalist_key": "mine"}
    run(out / "evaluate.yaml", evaluation_dir=str(tmp_path / "d"), progress=False, **given)
    assert evaluated(tmp_path / "d") == {cases["training"][0]["case"]}


REFUSED = [(bundle, row, other) for bundle, row in ROWS for other in row_notes(bundle, row).get("not_with", {})]


@pytest.mark.parametrize(("bundle", "row", "other"), REFUSED)
def test_rows_that_do_not_go_together(bundle: str, row: str, other: str, runs: Runs, tmp_path: Path) -> None:
    rows = list(dict.fromkeys([*with_needs(bundle, other), *with_needs(bundle, row)]))
    with pytest.raises((RuntimeError, KeyError, ValueError)) as error:
        train(bundle, runs.data(bundle), tmp_path / "out", *rows)
    assert " does not go with " in messages(error.value)
    assert not (tmp_path / "out").exists()


NEEDING = [(bundle, row) for bundle, row in ROWS if "needs" in row_notes(bundle, row)]


@pytest.mark.parametrize(("bundle", "row"), NEEDING)
def test_a_row_without_what_it_needs(bundle: str, row: str, runs: Runs, tmp_path: Path) -> None:
    with pytest.raises((RuntimeError, KeyError, ValueError)) as error:
        train(bundle, runs.data(bundle), tmp_path / "out", row)
    assert f"{row} goes after {row_notes(bundle, row)['needs']}" in messages(error.value)


def test_a_row_twice(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises((RuntimeError, KeyError, ValueError)) as error:
        train("acdc_lv", runs.data("acdc_lv"), tmp_path / "out", "full", "full")
    assert "full is given twice" in messages(error.value)


@pytest.mark.parametrize("bundle", NAMES)
def test_resumed_training_ends_at_the_same_weights(bundle: str, runs: Runs, tmp_path: Path) -> None:
    """Augmentation and order of the second epoch included."""
    given: dict[str, Any] = {"lr_scheduler#T_max": 2}
    if "alpha:" in (BUNDLES / bundle / "configs" / "train.yaml").read_text():  # it rises over all epochs asked for
        given |= {"alpha#start": 0.5, "alpha#step": 0.5, "regional_weight#start": 0.75, "regional_weight#step": -0.5}
    if "annotated_epochs:" in (BUNDLES / bundle / "configs" / "train.yaml").read_text():  # a share of them
        given["annotated_epochs"] = 1
    train(bundle, runs.data(bundle), tmp_path / "whole", max_epochs=2, **given)
    train(bundle, runs.data(bundle), tmp_path / "broken", max_epochs=1, **given)
    train(bundle, runs.data(bundle), tmp_path / "broken", max_epochs=2, resume=True, **given)
    whole, broken = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """What the optimiser changes; the statistics of batch norm follow the images without it."""
    found = torch.load(folder / "model.pt", weights_only=True)
    return {name: value for name, value in found.items() if "running_" not in name and "num_batches" not in name}


@pytest.mark.parametrize("bundle", NAMES)
def test_initial_weights(bundle: str, runs: Runs, tmp_path: Path) -> None:
    """An epoch that learns nothing ends with the weights that it began with."""
    before = runs.trained(bundle)
    given: dict[str, Any] = {"learning_rate": 0.0, "seed": 1, "initial_weights": str(before / "model.pt")}
    train(bundle, runs.data(bundle), tmp_path / "out", **given)
    after, expected = weights(tmp_path / "out"), weights(before)
    assert after.keys() == expected.keys() and all(torch.equal(after[name], expected[name]) for name in after)


@pytest.mark.parametrize(("config", "kind"), [("train", "train"), ("inference", "infer")])
@pytest.mark.parametrize("bundle", NAMES)
def test_properties_and_initialize_twice(bundle: str, config: str, kind: str, runs: Runs, tmp_path: Path) -> None:
    data = runs.data(bundle)
    options = settings(bundle) if config == "train" else {"run_dir": str(runs.trained(bundle)), "progress": False}
    options |= {"output_dir": str(tmp_path), **({} if data is None else {"dataset_dir": str(data)})}
    if data is None and kind == "infer":
        options["cases"] = runs.cases(bundle)["validation"]
    workflow = ConfigWorkflow(configs(bundle, config), logging_file=False, workflow_type=kind, **options)
    workflow.initialize()
    workflow.initialize()
    assert workflow.check_properties() == []
