"""What each bundle says of its boxes is true: of the masks that the boxes are drawn around."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_data import read_volume, save
from conftest import data_root
from monai.bundle import ConfigParser
from scipy import ndimage

from bundles import NAMES, TABLE, Runs, configs, settings, train
from monai_constraints.constraints import active, residuals

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file", "ignore:.*boxes of a class, max_boxes")
BOXES = [name for name in NAMES if name.endswith("_boxes")]
FOLDERS = {"acdc_boxes": "acdc", "hippocampus_boxes": "hippocampus", "stroke_boxes": "stroke_flair"}


def truth_satisfies(bundle: str, *rows: str, part: str = "validate", **options: Any) -> dict[str, list[float]]:
    """For each constraint, of each class: in which share of the slices or volumes its mask satisfies all bounds."""
    parser = ConfigParser(ConfigParser.load_config_files(configs(bundle, "train", *(f"rows/{row}" for row in rows))))
    parser.update(options)
    dataset, classes = (parser.get_parsed_content(key) for key in (f"{part}#dataset", "classes"))
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


@pytest.mark.parametrize("bundle", BOXES)
def test_the_truth_satisfies_the_bounds_behind_the_augmentation(bundle: str, runs: Runs) -> None:
    """The label goes along with the weak label; scaled boxes are rounded outward, so their bands allow for that."""
    parser = ConfigParser(ConfigParser.load_config_files(configs(bundle, "train")))
    grid = TABLE[bundle].tiny["padded_size"]
    parser.update(settings(bundle, dataset_dir=str(runs.data(bundle)), spatial_size=grid, **{"train#dataset#drop": []}))
    moved = parser["augmentation#transforms#0"]
    moved |= {"labels": {"weak": 0, "label": 0}} if "labels" in moved else {"keys": ["image", "weak", "label"]}
    dataset, augment = (parser.get_parsed_content(key) for key in ("train#dataset", "augmentation"))
    stacked = dataset.collate(dataset.__getitems__(range(len(dataset))))
    wanted = ("image", "weak", "label", "boxes", "tight_bounds", "outside_bounds", "size_bounds")
    held: dict[str, list[bool]] = {name: [] for name in parser["bounds"]}
    for _ in range(4):
        batch = augment({key: stacked[key] for key in wanted})
        classes = range(1 + max(parser.get_parsed_content("classes")))
        truth = torch.cat([batch["label"] == k for k in classes], 1).float()
        for name, of_name in held.items():
            statistic, bounds = parser.get_parsed_content(f"bounds#{name}").statistic, batch[f"{name}_bounds"]
            found = statistic(truth, **({"boxes": batch["boxes"]} if statistic.needs_boxes else {}))
            wrong = (residuals(found, bounds) > 1e-3) & active(bounds)
            of_name += (~wrong.flatten(2).any(2))[active(bounds).flatten(2).any(2)].tolist()
    shares = {name: sum(of_name) / len(of_name) for name, of_name in held.items()}
    assert min(shares["tight"], shares["outside"]) >= 0.95 and shares["size"] >= 0.8, shares


@pytest.mark.parametrize("margin, jitter", [(0, 0), (4, 2)])
@pytest.mark.parametrize("bundle", sorted(FOLDERS))
def test_the_truth_satisfies_the_bounds(bundle: str, margin: int, jitter: int) -> None:
    folder = str(data_root(FOLDERS[bundle]))
    drawn = {"box_margin": margin, "box_jitter": jitter}
    held = truth_satisfies(bundle, dataset_dir=folder, progress=False, device="cpu", **drawn)
    assert min(map(min, held.values())) >= 0.95, held


def slice_boxes(case: str, label: np.ndarray) -> list[str]:
    """Lines of a CSV: a tight box around each component of each class in each slice."""
    found = []
    for k in {int(one) for one in np.unique(label)} - {0}:
        for z in range(label.shape[2]):
            for x, y in ndimage.find_objects(ndimage.label(label[..., z] == k, np.ones((3, 3)))[0]):
                found.append(f"{case},{k},{x.start},{y.start},{z},{x.stop},{y.stop},{z + 1}")
    return found


@pytest.mark.parametrize("bundle", ["acdc_boxes", "stroke_boxes"])
def test_the_truth_satisfies_the_bounds_of_boxes_drawn_on_a_finer_grid(bundle: str, tmp_path: Path) -> None:
    """Boxes of a file are those of its voxels, of which the network has half along each axis."""
    cases = Path(data_root(FOLDERS[bundle]))
    parser = ConfigParser(ConfigParser.load_config_files(configs(bundle, "train")))
    parser.update({"dataset_dir": str(cases), "train_count": 12 if bundle == "acdc_boxes" else 60})
    datalist = parser.get_parsed_content("datalist")
    lines = ["case,class,x0,y0,z0,x1,y1,z1"]
    for case in datalist["training"]:
        label = np.atleast_3d(read_volume(Path(case["label"]))[0])
        lines += slice_boxes(case["case"], label) or [f"{case['case']},,,,,,,"]
    (tmp_path / "boxes.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "cases.json").write_text(json.dumps(datalist))
    given = {"boxes_file": str(tmp_path / "boxes.csv"), "datalist_file": str(tmp_path / "cases.json")}
    given |= {"train_keys": ["image", "label"], "progress": False, "device": "cpu"}
    held = truth_satisfies(bundle, "own_boxes", part="train", **given)
    assert min(map(min, held.values())) >= 0.95, held


@pytest.mark.parametrize("bundle", BOXES)
def test_boxes_of_a_file_train_without_labels(
    bundle: str, runs: Runs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A CSV of boxes in voxels of the files, and a case that has none; the training cases have no label, but masks.

    The masks are the labels of every second case, and empty in the others, which is the case of no mask.
    """
    cases, volumes = runs.cases(bundle), bundle == "hippocampus_boxes"
    lines, boxes, masked = ["case,class,x0,y0,z0,x1,y1,z1"], 0, 0
    for number, case in enumerate(cases["training"]):
        label, affine = read_volume(Path(np.ravel(case.pop("label"))[0]))
        case.pop("scribble", None)
        label = label * (number > 0)
        found = []
        for k in {int(one) for one in np.unique(label)} - {0}:
            for z in [slice(None)] if volumes else [slice(z, z + 1) for z in range(label.shape[2])]:
                places = np.argwhere(label[..., z] == k) + [0, 0, z.start or 0]
                if len(places):
                    corners = [*places.min(0), *places.max(0) + 1]
                    found.append(",".join([case["case"], str(k), *map(str, corners)]))
        lines += found or [f"{case['case']},,,,,,,"]
        boxes, masked = boxes + len(found), masked + len(found) * (number % 2)
        mask = save(tmp_path / f"{number}.nii.gz", (label * (number % 2)).astype(np.uint8), affine)
        case["mask"] = mask.name  # relative to the list
    (tmp_path / "boxes.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    given = {"boxes_file": str(tmp_path / "boxes.csv"), "datalist_file": str(tmp_path / "cases.json")}
    with caplog.at_level(logging.INFO, logger="monai_constraints"):
        train(bundle, runs.data(bundle), tmp_path / "out", "own_boxes", "masks", **given)
    assert (tmp_path / "out" / "model.pt").is_file() and boxes >= masked > 0
    found = re.search(r"MaskToWeakd: (\d+) of (\d+) boxes agree", caplog.text)
    assert found is not None
    agree, of = map(int, found.groups())
    assert 0 < agree <= masked and agree <= of <= boxes
