from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import DataLoader

from monai_constraints.data.datasets.circles import TwoCircles

SMALL = {"size": 40, "radius": 6, "margin": 7}


def samples(dataset: TwoCircles) -> list[dict]:
    return [dataset[i] for i in range(len(dataset))]


def noiseless(**options: int) -> list[dict]:
    """The one image in a hundred whose noise has a standard deviation of zero."""
    return [s for s in samples(TwoCircles(600, **options)) if len(s["image"].unique()) <= 3]


def background_sigma(sample: dict) -> float:
    """Robust to the discs, which cover less than a third of the image."""
    return 255 * float(sample["image"].flatten().abs().median()) / 0.6745


def test_a_sample_follows_the_contract() -> None:
    sample = TwoCircles(3, start=11)[1]
    assert sample["image"].shape == sample["label"].shape == (1, 256, 256)
    assert sample["image"].dtype == torch.float32 and sample["label"].dtype == torch.uint8
    assert sample["label"].unique().tolist() == [0, 1]
    assert (sample["case"], sample["index"]) == ("circles_00012", 1)


def test_batches_keep_the_order_with_workers() -> None:
    dataset = TwoCircles(5, start=7, **SMALL)
    alone = samples(dataset)
    batches = list(DataLoader(dataset, batch_size=2, num_workers=2))
    assert torch.cat([b["index"] for b in batches]).tolist() == [0, 1, 2, 3, 4]
    assert [c for b in batches for c in b["case"]] == [s["case"] for s in alone]
    assert torch.equal(torch.cat([b["image"] for b in batches]), torch.stack([s["image"] for s in alone]))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    start=st.integers(0, 5000),
    position=st.integers(0, 20),
    more=st.integers(1, 50),
)
def test_a_sample_depends_on_seed_and_number_only(seed: int, start: int, position: int, more: int) -> None:
    first = TwoCircles(position + 1, seed=seed, start=start, **SMALL)[position]
    again = TwoCircles(position + more, seed=seed, start=start, **SMALL)[position]
    moved = TwoCircles(more, seed=seed, start=start + position, **SMALL)[0]
    for other in (again, moved):
        assert torch.equal(first["image"], other["image"]) and torch.equal(first["label"], other["label"])
        assert first["case"] == other["case"]


def test_seeds_and_numbers_differ() -> None:
    sets = [TwoCircles(20), TwoCircles(20, start=20), TwoCircles(20, seed=1)]
    images = [sample["image"] for dataset in sets for sample in samples(dataset)]
    assert len({float(image.double().sum()) for image in images}) == 60
    assert len({s["case"] for dataset in sets[:2] for s in samples(dataset)}) == 40


@settings(max_examples=60, deadline=None)
@given(radius=st.integers(4, 25), gap=st.integers(0, 6), extra=st.integers(1, 90), seed=st.integers(0, 1000))
def test_target_is_a_whole_disc_inside_the_margin(radius: int, gap: int, extra: int, seed: int) -> None:
    margin = radius + gap
    size = 2 * margin + extra
    mask = TwoCircles(1, size=size, radius=radius, margin=margin, seed=seed)[0]["label"][0].numpy()
    assert mask.sum() == pytest.approx(math.pi * radius**2, rel=0.05)
    rows, columns = np.nonzero(mask)
    for coordinates in (rows, columns):
        assert np.ptp(coordinates) == 2 * radius
        centre = coordinates.mean()
        assert centre == round(centre) and margin <= centre < size - margin
        assert coordinates.min() >= gap and coordinates.max() < size - gap


def test_centres_reach_both_ends_of_their_range() -> None:
    options = {"size": 20, "radius": 3, "margin": 6}
    drawn = samples(TwoCircles(300, **options))
    centres = torch.stack([s["label"][0].nonzero().double().mean(0) for s in drawn])
    assert centres.amin(0).tolist() == [6, 6] and centres.amax(0).tolist() == [13, 13]


def test_both_discs_are_in_and_the_darker_is_the_target() -> None:
    quiet = noiseless(**SMALL)
    assert quiet
    whole = 0
    for sample in quiet:
        image, target = 255 * sample["image"], sample["label"] == 1
        assert torch.equal(image.round() == 125, target)  # drawn last, so never covered
        bright = int((image.round() == 255).sum())
        assert 0 <= bright <= int(target.sum())
        whole += bright == int(target.sum())
    assert whole > 0  # some pairs don't overlap, and then the discs have the same area


def test_noise_level_spreads_from_0_to_99_and_is_clipped() -> None:
    drawn = samples(TwoCircles(400, **SMALL))
    sigmas = [background_sigma(sample) for sample in drawn]
    assert min(sigmas) < 3 and 85 < max(sigmas) < 150
    assert np.mean(sigmas) == pytest.approx(50, abs=10)
    values = torch.stack([sample["image"] for sample in drawn])
    assert -1 <= values.min() and values.max() <= 2


def test_positions_behave_as_in_a_list() -> None:
    dataset = TwoCircles(3, **SMALL)
    assert len(dataset) == len([*iter(dataset)]) == 3  # type: ignore[call-overload]
    assert dataset[-1]["case"] == "circles_00002"
    with pytest.raises(IndexError):
        dataset[3]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"count": 0}, "count=0"),
        ({"count": -2}, "count=-2"),
        ({"seed": -1}, "seed=-1"),
        ({"start": -3}, "start=-3"),
        ({"radius": 0}, "radius=0"),
        ({"radius": 26}, "radius=26, margin=25"),
        ({"size": 50}, "size=50 leaves no place.*at least 51"),
        ({"margin": 128}, "size=256 leaves no place"),
    ],
)
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TwoCircles(**{"count": 1, **options})
