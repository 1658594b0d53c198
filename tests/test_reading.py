"""Cases read by two threads, and slices that go to worker processes."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_data import save
from monai.transforms import Compose
from torch.utils.data import DataLoader

from monai_constraints.constraints import Individual, Size
from monai_constraints.data import CachedSlices, LoadCased
from monai_constraints.transforms import ConstraintBoundsd, ToGridd

SHAPE = (12, 10)
CASES = 72


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Each with two modalities, a label and a scribble of its own numbers, and another number of slices."""
    folder, rng, made = tmp_path_factory.mktemp("cases"), np.random.default_rng(0), []
    for number in range(CASES):
        label = rng.integers(0, 3, (*SHAPE, 1 + number % 4)).astype(np.uint8)
        volumes = {f"image{k}": label.astype(np.int16) + 10 * k + 100 * number for k in range(2)}
        volumes |= {"label": label, "scribble": np.where(rng.random(label.shape) < 0.3, label, 255).astype(np.uint8)}
        paths = {name: str(save(folder / f"{number}_{name}.nii.gz", data)) for name, data in volumes.items()}
        made.append({"image": [paths["image0"], paths["image1"]], "label": paths["label"],
                     "scribble": paths["scribble"], "case": str(number)})  # fmt: skip
    return made


def slices(cases: list[dict[str, Any]]) -> CachedSlices:
    keys = ("image", "label", "scribble")
    transform = Compose([
        LoadCased(keys, channels=2, classes=3),
        ToGridd(keys=keys, padded_size=SHAPE, spatial_size=SHAPE, axis=-1),
    ])  # fmt: skip
    bounds = ConstraintBoundsd(Size(classes=[1, 2]), Individual(relative=0.1), "size")
    return CachedSlices(cases, transform, keys=keys, annotate=[bounds])


def test_two_threads_keep_channels_and_cases_apart(cases: list[dict[str, Any]]) -> None:
    """One transform for image, label and scribble: MONAI's LoadImaged lost a channel now and then, and mixed files."""
    found = slices(cases)
    assert len(found) == sum(1 + number % 4 for number in range(CASES))
    for item in found:
        assert item["image"].shape == (2, *SHAPE) and item["label"].shape == item["scribble"].shape == (1, *SHAPE)
        label, number = item["label"][0].float(), int(item["case"])
        expected = torch.stack([label + 100 * number, label + 10 + 100 * number])
        assert torch.equal(item["image"], expected)
        marked = item["scribble"] != 255
        assert torch.equal(item["scribble"][marked], item["label"][marked])


def test_slices_can_be_pickled(cases: list[dict[str, Any]]) -> None:
    whole = slices(cases[:3])
    copy = pickle.loads(pickle.dumps(whole))
    assert copy.cases == whole.cases
    for one, other in zip(whole, copy):
        assert one.keys() == other.keys() and torch.equal(one["image"], other["image"])


@pytest.mark.parametrize("way", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_slices_in_worker_processes(way: str, cases: list[dict[str, Any]], tmp_path: Path) -> None:
    if way not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not {way}")
    whole = slices(cases[:6])
    given: dict[str, Any] = {"batch_size": 4, "collate_fn": CachedSlices.collate}
    expected = list(DataLoader(whole, **given))
    found = list(DataLoader(whole, num_workers=1, multiprocessing_context=way, **given))
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert one["case"] == other["case"] and torch.equal(one["size_bounds"], other["size_bounds"])
        assert torch.equal(one["image"], other["image"])
