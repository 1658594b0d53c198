"""Combinations that the bundles' pages promise beside the rows themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from bundle_data import BUNDLES, configs, make_acdc, read_csv, run
from monai.bundle import ConfigParser

from monai_constraints.constraints import ExactProposals, Tag
from monai_constraints.losses import ProposalCrossEntropy

pytestmark = [pytest.mark.filterwarnings("ignore:parsing config_file")]


@pytest.fixture(scope="module")
def acdc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_acdc(tmp_path_factory.mktemp("acdc"))


def test_proposals_take_the_bounds_of_the_row_before_them() -> None:
    parser = ConfigParser(ConfigParser.load_config_files(configs("acdc_lv", "train", "rows/tags", "rows/proposals")))
    loss = parser.get_parsed_content("loss").terms["size"].loss
    assert isinstance(loss, ProposalCrossEntropy) and isinstance(loss.proposals, ExactProposals)
    assert isinstance(parser.get_parsed_content("size_rule"), Tag)


@pytest.mark.parametrize("row", ["individual", "individual_3d"])
def test_explicit_multipliers_on_slices_and_on_volumes(row: str, acdc: Path, tmp_path: Path) -> None:
    text = (BUNDLES / "acdc_lv" / "docs" / "README.md").read_text(encoding="utf-8")
    penalty = json.loads(text.split("go into `penalty`: `")[1].split("`. ")[0])
    run("acdc_lv", "train", f"rows/{row}", dataset_dir=str(acdc), output_dir=str(tmp_path), penalty=penalty)
    multipliers = torch.load(tmp_path / "checkpoint.pt")["loss"]["terms.size.loss.penalty.multipliers"]
    (last,) = read_csv(tmp_path / "metrics.csv")
    assert multipliers.any() and float(last["multiplier_size_max"]) == pytest.approx(float(multipliers.max()))
    # One a slice, or one a volume: training has patients 1 and 3, with 4 and 3 slices.
    raised = multipliers.flatten(1).any(1).tolist()
    assert len(raised) == 7
    assert sum(raised) > 2 if row == "individual" else raised == [True, *[False] * 3, True, *[False] * 2]


def test_the_protocol_of_the_thesis_trains(tmp_path: Path) -> None:
    small = {"image_size": 32, "radius": 4, "network_def#features": 4}
    run("two_circles", "train", "thesis", "rows/barrier", output_dir=str(tmp_path), **small)
    (row,) = read_csv(tmp_path / "metrics.csv")
    assert float(row["t"]) == 1 and float(row["lr"]) == 5e-4
    parser = ConfigParser(ConfigParser.load_config_files(configs("two_circles", "train", "thesis", "rows/barrier")))
    given = {"train_count": 1000, "validation_count": 100, "image_size": 256, "radius": 25, "batch_size": 1}
    assert {key: parser[key] for key in given} == given and parser["max_epochs"] == 50 and parser["temperature"] == 5
