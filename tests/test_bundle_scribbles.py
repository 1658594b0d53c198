"""Scribbles need no full mask, neither in ACDC's layout nor in a datalist of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bundle_data import read_csv

from bundles import WRITTEN, Runs, train

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")


def test_scribbles_need_no_full_mask(runs: Runs, tmp_path: Path) -> None:
    datalist = runs.cases("acdc_lv")
    for item in datalist["training"]:
        del item["label"]
    (tmp_path / "list.json").write_text(json.dumps(datalist))
    given = {"datalist_file": str(tmp_path / "list.json")}
    train("acdc_lv", runs.data("acdc_lv"), tmp_path / "out", "scribbles", **given)
    assert {path.name for path in (tmp_path / "out").iterdir()} == WRITTEN
    assert float(read_csv(tmp_path / "out" / "metrics.csv")[0]["loss"]) > 0
