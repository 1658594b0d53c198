"""What is particular to bundles/acdc_lv: own scribbles, volumes as batches, full and weak annotation mixed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_data import PATIENTS, read_csv
from monai.bundle import ConfigParser

from bundles import WRITTEN, Runs, configs, settings, train, with_needs

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")


def parser(runs: Runs, *rows: str, **options: Any) -> ConfigParser:
    found = ConfigParser(ConfigParser.load_config_files(configs("acdc_lv", "train", *(f"rows/{row}" for row in rows))))
    for key, value in settings("acdc_lv", *rows, dataset_dir=str(runs.data("acdc_lv")), **options).items():
        found[key] = value
    return found


def test_scribbles_need_no_full_mask(runs: Runs, tmp_path: Path) -> None:
    datalist = runs.cases("acdc_lv")
    for item in datalist["training"]:
        del item["label"]
    (tmp_path / "list.json").write_text(json.dumps(datalist))
    given = {"datalist_file": str(tmp_path / "list.json")}
    train("acdc_lv", runs.data("acdc_lv"), tmp_path / "out", "scribbles", **given)
    assert {path.name for path in (tmp_path / "out").iterdir()} == WRITTEN
    assert float(read_csv(tmp_path / "out" / "metrics.csv")[0]["loss"]) > 0


def test_an_augmented_volume_keeps_its_size(runs: Runs) -> None:
    """Slices that were scaled one by one would disagree on the size of their volume."""
    found = parser(runs, "volume")
    batch = next(iter(found.get_parsed_content("train#dataloader")))
    assert len(set(batch["case"])) == 1
    _, targets = found.get_parsed_content("train#prepare_batch")(batch)
    torch.testing.assert_close(targets["size_bounds"], batch["size_bounds"])
    assert not torch.equal(targets["weak"], batch["weak"])


def test_fully_annotated_cases_come_more_often(runs: Runs) -> None:
    found = parser(runs, *with_needs("acdc_lv", "common"), "hybrid", **{"often#share": 0.7})
    (chosen,) = found.get_parsed_content("full_cases")
    seen = Counter(case for batch in found.get_parsed_content("train#dataloader") for case in batch["case"])
    others = {f"patient{n:03d}_frame01": depth for n, depth in PATIENTS.items() if n < 13}
    depth = others.pop(chosen)
    assert seen == {**others, chosen: depth * round(0.7 / 0.3 * sum(others.values()) / depth)} and seen[chosen] > depth
    dataset = found.get_parsed_content("train#dataset")
    full = [sample for sample in dataset if sample["case"] == chosen]
    assert all((sample["weak"] < 255).all() and sample["size_bounds"].isinf().all() for sample in full)
    weak = [sample for sample in dataset if sample["case"] != chosen]
    assert any((sample["weak"] == 255).any() for sample in weak)
    assert all(sample["size_bounds"].isfinite().all() for sample in weak)
