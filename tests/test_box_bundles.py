"""What each bundle says of its boxes is true: of the masks that the boxes are drawn around."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import data_root
from monai.bundle import ConfigParser

from bundles import NAMES, TABLE, Runs, configs, settings
from monai_constraints.constraints import active, residuals

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file", "ignore:.*boxes of a class, max_boxes")
BOXES = [name for name in NAMES if name.endswith("_boxes")]
FOLDERS = {"acdc_boxes": "acdc", "hippocampus_boxes": "hippocampus", "stroke_boxes": "stroke_flair"}


def truth_satisfies(bundle: str, **options: Any) -> dict[str, list[float]]:
    """For each constraint, of each class: in which share of the slices or volumes its mask satisfies all bounds."""
    parser = ConfigParser(ConfigParser.load_config_files(configs(bundle, "train")))
    parser.update(options)
    dataset, classes = (parser.get_parsed_content(key) for key in ("validate#dataset", "classes"))
    held = {}
    for name in parser["bounds"]:
        statistic = parser.get_parsed_content(f"bounds#{name}").statistic
        good, counted = [], []
        for item in dataset:
            truth = torch.stack([item["label"][0] == k for k in range(1 + max(classes))])[None].float()
            found = statistic(truth, **({"boxes": item["boxes"][None]} if statistic.needs_boxes else {}))
            bounds = item[f"{name}_bounds"][None]
            asked = active(bounds)
            good.append(((residuals(found, bounds) <= 1e-4) | ~asked).flatten(2).all(2)[0])
            counted.append(asked.flatten(2).any(2)[0])
        shares = (torch.stack(good) & torch.stack(counted)).sum(0) / torch.stack(counted).sum(0)
        held[name] = shares.tolist()
    return held


@pytest.mark.parametrize("bundle", BOXES)
def test_the_truth_satisfies_the_bounds_of_miniature_data(bundle: str, runs: Runs) -> None:
    grid = TABLE[bundle].tiny["padded_size"]  # at full resolution: a disc of nine pixels is none at half of it
    held = truth_satisfies(bundle, **settings(bundle, dataset_dir=str(runs.data(bundle)), spatial_size=grid))
    assert set(held) == {"tight", "outside", "size"} and min(map(min, held.values())) >= 0.95, held


@pytest.mark.parametrize("bundle", sorted(FOLDERS))
def test_the_truth_satisfies_the_bounds(bundle: str) -> None:
    held = truth_satisfies(bundle, dataset_dir=str(data_root(FOLDERS[bundle])), progress=False, device="cpu")
    assert min(map(min, held.values())) >= 0.95, held
