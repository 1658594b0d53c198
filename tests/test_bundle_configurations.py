"""The texts of the bundles: short, equal where they are to be equal, and what MONAI asks of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
from bundle_data import BUNDLES
from conftest import data_root

from bundles import ALL, NAMES, REGRESSION, TABLE, configs, row_notes, rows_of

RULER = "# ==== below this line"

pytestmark = pytest.mark.filterwarnings("ignore:No hash value provided")


def read(bundle: str, name: str) -> str:
    return Path(configs(bundle, name)[0]).read_text(encoding="utf-8")


def test_all_are_tried() -> None:
    assert sorted(TABLE) == NAMES


@pytest.mark.parametrize("bundle", NAMES)
def test_the_task_is_short_and_the_plumbing_is_the_same(bundle: str) -> None:
    task, plumbing = read(bundle, "train").split(RULER)
    assert RULER + plumbing == (BUNDLES / "plumbing.yaml").read_text(encoding="utf-8")
    assert len(task.splitlines()) <= TABLE[bundle].lines
    assert max(map(len, task.splitlines())) <= 120


@pytest.mark.parametrize("bundle", REGRESSION)
def test_regressors_have_a_plumbing_of_their_own(bundle: str) -> None:
    task, plumbing = read(bundle, "train").split(RULER)
    assert RULER + plumbing == (BUNDLES / "plumbing_regression.yaml").read_text(encoding="utf-8")
    assert len(task.splitlines()) <= 120 and max(map(len, task.splitlines())) <= 120


@pytest.mark.parametrize("name", ["evaluate", "inference", "multi_gpu_train"])
def test_the_same_in_all_bundles(name: str) -> None:
    assert len({read(bundle, name) for bundle in NAMES}) == 1


def test_all_together() -> None:
    """The bundles of chapters 2 to 4, to which no more is added; each new one has its own limit above."""
    first = ("acdc", "acdc_lv", "isles", "promise12_points", "stroke_flair", "two_circles", "vertebral_bodies", "wmh")
    assert sum(len(read(bundle, "train").splitlines()) for bundle in first) <= 1500
    assert len(rows_of(list(first))) <= 60


@pytest.mark.parametrize(("bundle", "row"), rows_of(ALL))
def test_row_is_short_and_says_what_it_is(bundle: str, row: str) -> None:
    text = read(bundle, f"rows/{row}")
    assert len(text.splitlines()) <= 15 and text.startswith("# ") and "Identityd" not in text
    assert row_notes(bundle, row)["name"] == row
    others = {*row_notes(bundle, row).get("not_with", {}), row_notes(bundle, row).get("needs", row)}
    assert others <= {name for _, name in rows_of([bundle])}


@pytest.mark.parametrize("bundle", ALL)
def test_metadata(bundle: str, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    shutil.copyfile(data_root(".") / "meta_schema_20240725.json", schema)
    meta = BUNDLES / bundle / "configs" / "metadata.json"
    monai.bundle.verify_metadata(meta_file=str(meta), filepath=schema)
    assert json.loads(meta.read_text(encoding="utf-8"))["name"]


@pytest.mark.parametrize("config", ["train", "inference"])
@pytest.mark.parametrize("bundle", ALL)
def test_network_fits_metadata(bundle: str, config: str) -> None:
    meta = BUNDLES / bundle / "configs" / "metadata.json"
    given: Any = {"meta_file": str(meta), "config_file": configs(bundle, config), "bundle_root": str(BUNDLES / bundle)}
    monai.bundle.verify_net_in_out(net_id="network_def", device="cpu", n=1, **given)


@pytest.mark.parametrize("bundle", ALL)
def test_page(bundle: str) -> None:
    text = (BUNDLES / bundle / "docs" / "README.md").read_text(encoding="utf-8")
    heads = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert heads == ["What", "Data", "Command", "Rows", "Output"] and len(text.splitlines()) <= 60
    assert all(f"`{row}`" in text for _, row in rows_of([bundle]))
