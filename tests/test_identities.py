"""Identities that hold for every input, drawn by hypothesis."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from monai_constraints.constraints import (
    Centroid,
    GroupPooling,
    Hinge,
    LogBarrier,
    MeanIntensity,
    Patch,
    Quadratic,
    Root,
    Size,
    Spread,
    Statistic,
    residuals,
)
from monai_constraints.losses import ConstraintLoss
from monai_constraints.metrics import ConstraintSatisfaction

STATISTICS = [Size(), Centroid(), Spread(), MeanIntensity(), Root(Size())]
SEEDS = st.integers(0, 2**31)
TOLERANCE = {"rtol": 2e-5, "atol": 2e-4}


def draw(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda s: type(s).__name__)
@given(
    seed=SEEDS,
    shape=st.tuples(*[st.integers(2, 9)] * 3) | st.tuples(*[st.integers(2, 9)] * 2),
    cuts=st.tuples(*[st.integers(1, 8)] * 3),
)
@settings(max_examples=40, deadline=None)
def test_sums_add_over_patches(
    statistic: Statistic, seed: int, shape: tuple[int, ...], cuts: tuple[int, int, int]
) -> None:
    region, image = draw(seed, 2, 3, *shape), draw(seed + 1, 2, 1, *shape)
    total = torch.zeros_like(statistic.measure(region, image=image))
    # 2^D patches of unequal shapes
    for corner in range(2 ** len(shape)):
        window: list[slice] = []
        for axis, n in enumerate(shape):
            cut = min(cuts[axis], n - 1)
            window.append(slice(0, cut) if corner >> axis & 1 else slice(cut, n))
        index = (slice(None), slice(None), *window)
        patch = Patch(torch.tensor([[w.start for w in window]] * 2), torch.tensor([shape] * 2))
        total = total + statistic.measure(region[index], image=image[index], patch=patch)
    whole = statistic.measure(region, image=image)
    torch.testing.assert_close(total, whole, **TOLERANCE)
    centre = statistic.centre(shape, whole.device)
    torch.testing.assert_close(statistic.value(total, centre), statistic(region, image=image), **TOLERANCE)


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda s: type(s).__name__)
@given(seed=SEEDS, moves=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=3, max_size=3))
@settings(max_examples=30, deadline=None)
def test_a_batch_of_patches_has_an_offset_and_an_image_each(
    statistic: Statistic, seed: int, moves: list[tuple[int, int]]
) -> None:
    patches, image = draw(seed, 3, 2, 4, 5), draw(seed + 1, 3, 1, 4, 5)
    shapes = [(10, 14), (30, 20), (11, 18)]
    got = statistic(patches, image=image, patch=Patch(torch.tensor(moves), torch.tensor(shapes)))
    for n, ((row, column), shape) in enumerate(zip(moves, shapes)):
        region, whole = torch.zeros(1, 2, *shape), torch.zeros(1, 1, *shape)
        region[0, :, row : row + 4, column : column + 5] = patches[n]
        whole[0, :, row : row + 4, column : column + 5] = image[n]
        torch.testing.assert_close(got[n : n + 1], statistic(region, image=whole), **TOLERANCE)


@given(seed=SEEDS, slices=st.integers(2, 7))
@settings(max_examples=30, deadline=None)
def test_slices_of_a_volume_pool_to_its_values(seed: int, slices: int) -> None:
    volume, image = draw(seed, 1, 3, 4, 5, slices), draw(seed + 1, 1, 2, 4, 5, slices)
    cut, images = volume[0].movedim(-1, 0), image[0].movedim(-1, 0)
    bounds = torch.zeros(slices, 3, 1, 2)
    for statistic, keep in ((Size(), slice(None)), (Centroid(), slice(2)), (Spread(), slice(2))):
        pooled, _ = GroupPooling()(statistic.measure(cut), bounds, ["v"] * slices)
        got = statistic.value(pooled, statistic.centre((4, 5), pooled.device))
        torch.testing.assert_close(got, statistic(volume)[..., keep], **TOLERANCE)
    brightness = MeanIntensity()
    pooled, _ = GroupPooling()(brightness.measure(cut, image=images), bounds, ["v"] * slices)
    got = brightness.value(pooled, brightness.centre((4, 5), pooled.device))
    torch.testing.assert_close(got, brightness(volume, image=image), **TOLERANCE)


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_samples_of_a_batch_do_not_mix(seed: int) -> None:
    region, image = draw(seed, 4, 3, 5, 6), draw(seed + 1, 4, 2, 5, 6)
    for statistic in STATISTICS:
        alone = [statistic(region[n : n + 1], image=image[n : n + 1]) for n in range(4)]
        torch.testing.assert_close(statistic(region, image=image), torch.cat(alone), rtol=1e-6, atol=1e-6)


@given(seed=SEEDS, move=st.tuples(*[st.integers(-3, 3)] * 3))
@settings(max_examples=60, deadline=None)
def test_a_translation_moves_the_centroid_and_nothing_else(seed: int, move: tuple[int, int, int]) -> None:
    region, image = torch.zeros(1, 2, 10, 11, 12), torch.zeros(1, 1, 10, 11, 12)
    inside = (..., slice(3, 7), slice(3, 8), slice(3, 9))
    region[inside], image[inside] = draw(seed, 1, 2, 4, 5, 6), draw(seed + 1, 1, 1, 4, 5, 6)
    moved, moved_image = (x.roll(move, dims=(2, 3, 4)) for x in (region, image))
    for statistic in (Size(), Spread(), MeanIntensity()):
        before, after = statistic(region, image=image), statistic(moved, image=moved_image)
        torch.testing.assert_close(after, before, **TOLERANCE)
    torch.testing.assert_close(Centroid()(moved), Centroid()(region) + torch.tensor(move), **TOLERANCE)


@given(seed=SEEDS, factor=st.floats(0.01, 0.99))
@settings(max_examples=30, deadline=None)
def test_only_the_size_follows_the_confidence(seed: int, factor: float) -> None:
    region, image = draw(seed, 2, 3, 5, 6), draw(seed + 1, 2, 1, 5, 6)
    for statistic in (Centroid(), Spread(), MeanIntensity()):
        faint = statistic(region * factor, image=image)
        torch.testing.assert_close(faint, statistic(region, image=image), **TOLERANCE)
    torch.testing.assert_close(Size()(region * factor), factor * Size()(region))


@given(seed=SEEDS, bounds=st.lists(st.integers(0, 30), min_size=2, max_size=2))
@settings(max_examples=60, deadline=None)
def test_violation_is_zero_exactly_when_the_quadratic_penalty_is(seed: int, bounds: list[int]) -> None:
    mask = (draw(seed, 1, 1, 5, 6) > 0.5).float()
    wanted = torch.tensor(sorted(bounds), dtype=torch.float32).reshape(1, 1, 1, 2)
    metric = ConstraintSatisfaction(Size())
    metric(mask, wanted, index=torch.tensor([0]))
    result = metric.aggregate()
    penalty = ConstraintLoss(Size(), Quadratic())(mask, wanted).item()
    assert (result["violation"] == 0) == (penalty == 0) == (result["satisfied"] == 1)
    assert (ConstraintLoss(Size(), Hinge())(mask, wanted).item() == 0) == (penalty == 0)


@given(f=st.floats(-1e3, 1e3), a=st.floats(-1e3, 1e3), b=st.floats(-1e3, 1e3))
@settings(max_examples=60, deadline=None)
def test_swapping_sides_mirrors_the_residuals(f: float, a: float, b: float) -> None:
    z = residuals(torch.tensor([[[f]]]), torch.tensor([[[[a, b]]]]))
    mirrored = residuals(torch.tensor([[[-f]]]), torch.tensor([[[[-b, -a]]]]))
    assert torch.equal(z, mirrored.flip(-1))
    assert LogBarrier(3)(z).sum() == LogBarrier(3)(mirrored).sum()
