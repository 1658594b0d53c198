from __future__ import annotations

import math

import loops
import pytest
import torch
from torch import Tensor

from monai_constraints.constraints import Centroid, MeanIntensity, Patch, Pooling, PoolingName, Size
from monai_constraints.metrics import ConstraintSatisfaction

INF = float("inf")


def masks(*sizes: list[int]) -> Tensor:
    """(B, C, 4, 10): sample b has sizes[b][c] voxels of class c + 1; class 0 is the rest of nothing."""
    result = torch.zeros(len(sizes), len(sizes[0]) + 1, 40)
    for b, row in enumerate(sizes):
        for c, n in enumerate(row):
            result[b, c + 1, :n] = 1
    return result.reshape(len(sizes), -1, 4, 10)


# Three samples, two classes, five constraints with seven active sides out of twelve.
BOUNDS = torch.tensor(
    [
        [[[5.0, 10.0]], [[0.0, 0.0]]],
        [[[4.0, INF]], [[-INF, 20.0]]],
        [[[10.0, INF]], [[-INF, INF]]],
    ]
)
INDEX = torch.tensor([4, 9, 2])


def epoch(metric: ConstraintSatisfaction, mask: Tensor, order: list[int] | None = None) -> dict[str, float]:
    metric.reset()
    for n in order or range(3):
        metric(mask[n : n + 1], BOUNDS[n : n + 1], index=INDEX[n : n + 1])
    return metric.aggregate()


def test_three_epochs_by_hand() -> None:
    metric = ConstraintSatisfaction(Size(classes=[1, 2]))
    # Active sides: sample 4 has 5 <= V1 <= 10 and 0 <= V2 <= 0; sample 9 has 4 <= V1 and V2 <= 20; sample 2 10 <= V1.
    first = epoch(metric, masks([12, 0], [4, 25], [7, 9]))
    assert first["satisfied"] == pytest.approx(2 / 5)  # not: V1 of sample 4, V2 of 9, V1 of 2
    assert (first["lower_held"], first["upper_held"]) == pytest.approx((3 / 4, 1 / 3))
    assert first["violation"] == pytest.approx((2 / 10 + 5 / 20 + 3 / 10) / 7)
    assert math.isnan(first["stability"])
    second = epoch(metric, masks([4, 3], [4, 20], [10, 9]), order=[2, 0, 1])
    # Satisfied before: 0 <= V2 <= 0 of sample 4, which is lost; 4 <= V1 of sample 9, which stays.
    assert second["satisfied"] == pytest.approx(3 / 5)
    assert (second["lower_held"], second["upper_held"]) == pytest.approx((3 / 4, 2 / 3))
    assert second["violation"] == pytest.approx((1 / 5 + 3 / 1) / 7)  # the bound of 0 in voxels
    assert second["stability"] == pytest.approx(1 / 2)
    third = epoch(metric, masks([4, 3], [4, 20], [10, 9]), order=[1, 0, 2])
    assert third["satisfied"] == pytest.approx(3 / 5) and third["stability"] == 1


def test_an_empty_mask_satisfies_no_size() -> None:
    """It is below every upper bound: half of the sides, and none of the constraints."""
    metric = ConstraintSatisfaction(Size(classes=[1]))
    metric(masks([0], [0], [0]), torch.tensor([[[[5.0, 10.0]]], [[[1.0, 3.0]]], [[[0.0, 0.0]]]]), index=INDEX)
    found = metric.aggregate()
    assert found["satisfied"] == pytest.approx(1 / 3)  # the slice where nothing is
    assert (found["lower_held"], found["upper_held"]) == pytest.approx((1 / 3, 1))


def test_samples_shown_twice_count_once() -> None:
    once, twice = (ConstraintSatisfaction(Size(classes=[1, 2])) for _ in "ab")
    for sizes in (([12, 0], [4, 25], [7, 9]), ([4, 3], [4, 20], [10, 9])):
        expected = epoch(once, masks(*sizes))
        assert epoch(twice, masks(*sizes), order=[1, 2, 1, 0, 1, 0]) == pytest.approx(expected, nan_ok=True)


def test_batches_are_split_as_you_like() -> None:
    whole, parts = (ConstraintSatisfaction(Size(classes=[1, 2])) for _ in "ab")
    mask = masks([12, 0], [4, 25], [7, 9])
    whole(mask, BOUNDS, index=INDEX)
    assert whole.aggregate() == pytest.approx(epoch(parts, mask), nan_ok=True)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [3, 1, 4, 0, 2], [3, 1, 4, 0, 2, 3, 1]])
def test_groups_are_pooled_over_batches(order: list[int]) -> None:
    names = ["b", "a", "b", "a", "a"]
    first, second = masks([3], [4], [5], [6], [7]), masks([3], [4], [9], [6], [9])
    limits = {"a": (10.0, 16.0), "b": (8.0, 11.0)}
    bounds = torch.tensor([[[list(limits[name])]] for name in names])
    metric = ConstraintSatisfaction(Size(classes=[1]), pooling="group")
    results = []
    for mask in (first, second):  # a is 17 and then 19 voxels, b is 8 and then 12
        metric.reset()
        for n in order:
            metric(mask[n : n + 1], bounds[n : n + 1], index=torch.tensor([n]), group=[names[n]])
        results.append(metric.aggregate())
    assert results[0]["satisfied"] == 1 / 2 and results[1]["satisfied"] == 0
    assert results[0]["upper_held"] == 1 / 2 and results[1]["lower_held"] == 1
    assert results[0]["violation"] == pytest.approx(1 / 16 / 4)
    assert results[1]["violation"] == pytest.approx((3 / 16 + 1 / 11) / 4)
    assert results[1]["stability"] == 0


def test_values_of_the_loop_in_images_of_several_shapes() -> None:
    metric = ConstraintSatisfaction(Centroid(classes=[1]))
    held, violation, sides = [], 0.0, 0
    for index, shape in enumerate([(6, 9), (12, 5), (7, 7)]):
        mask = (torch.rand(1, 2, *shape) > 0.6).float()
        bounds = torch.tensor([[[[3.0, 4.0], [-INF, 3.5]]]])
        metric(mask, bounds, index=torch.tensor([index]))
        z = loops.sides(loops.values(loops.centroid, mask, [1]), bounds, lambda z: max(z, 1e-30))
        held += [all(side <= 1e-30 for side in pair) for pair in z.reshape(-1, 2).tolist()]  # an infinite bound holds
        for bound, side in zip(bounds.flatten().tolist(), z.flatten().tolist()):
            if math.isfinite(bound):
                sides, violation = sides + 1, violation + side / max(abs(bound), 1)
    assert 0 < sum(held) < len(held) == 6
    result = metric.aggregate()
    assert result["satisfied"] == pytest.approx(sum(held) / 6)
    assert result["violation"] == pytest.approx(violation / sides, rel=1e-4)


@pytest.mark.parametrize("pooling", ["image", "group"])
def test_patches_of_a_sample_add_up(pooling: PoolingName) -> None:
    whole, parts = (ConstraintSatisfaction(Centroid(classes=[1]), pooling=pooling) for _ in "ab")
    mask, bounds = (torch.rand(3, 2, 6, 9) > 0.6).float(), torch.tensor([3.0, 3.2]).expand(3, 1, 2, 2)
    groups = ["a", "b", "a"]
    whole(mask, bounds, index=INDEX, group=groups)
    for start, stop in ((4, 9), (0, 4), (0, 4)):  # the last is shown twice
        patch = Patch(torch.tensor([[0, start]] * 3), torch.tensor([[6, 9]] * 3))
        for n in (2, 0, 1):
            own = Patch(*(part[n : n + 1] for part in patch))
            parts(mask[n : n + 1, ..., start:stop], bounds[:1], index=INDEX[n : n + 1], patch=own, group=[groups[n]])
    expected = whole.aggregate()
    assert 0 < expected["violation"] and parts.aggregate() == pytest.approx(expected, nan_ok=True)


def test_intensities() -> None:
    image = torch.arange(40.0).reshape(1, 1, 4, 10)
    metric = ConstraintSatisfaction(MeanIntensity(classes=[1]))
    metric(masks([5]), torch.tensor([[[[-INF, 1.5]]]]), index=torch.tensor([0]), image=image)
    assert metric.aggregate()["violation"] == pytest.approx((2 - 1.5) / 1.5)


def test_nothing_constrained_is_nan() -> None:
    metric = ConstraintSatisfaction(Size(classes=[1]))
    assert all(math.isnan(value) for value in metric.aggregate().values())
    metric(masks([3], [4]), torch.tensor([-INF, INF]).expand(2, 1, 1, 2), index=torch.tensor([0, 1]))
    assert all(math.isnan(value) for value in metric.aggregate().values())


def test_stability_needs_a_constraint_that_was_active_and_satisfied() -> None:
    metric = ConstraintSatisfaction(Size(classes=[1, 2]))
    mask = masks([6, 50], [6, 50], [6, 50])
    assert epoch(metric, mask)["satisfied"] == pytest.approx(2 / 5)  # 5 <= V1 <= 10 of the first, 4 <= V1 of the second
    metric.reset()
    metric(mask[:1], torch.tensor([[[[-INF, INF]], [[-INF, 60.0]]]]), index=INDEX[:1])  # V1 counts no longer
    found = metric.aggregate()
    assert found["satisfied"] == 1 and math.isnan(found["stability"])
    metric.reset()
    metric(mask[:1], BOUNDS[:1], index=torch.tensor([77]))  # a sample never seen before
    assert math.isnan(metric.aggregate()["stability"])


def test_stability_survives_a_checkpoint(tmp_path: object) -> None:
    first, second = masks([12, 0], [4, 25], [7, 9]), masks([4, 3], [4, 20], [10, 9])
    metric, resumed = (ConstraintSatisfaction(Size(classes=[1, 2])) for _ in "ab")
    epoch(metric, first)
    torch.save(metric.state_dict(), f"{tmp_path}/state.pt")
    resumed.load_state_dict(torch.load(f"{tmp_path}/state.pt", weights_only=True))
    result = epoch(resumed, second)
    assert result["stability"] == 0.5
    assert result == epoch(metric, second)


@pytest.mark.parametrize("pooling", ["image", "group"])
def test_errors(pooling: PoolingName | Pooling) -> None:
    metric, mask = ConstraintSatisfaction(Size(classes=[1, 2]), pooling=pooling), masks([1, 2], [3, 4], [5, 6])
    if pooling == "group":
        for group in (None, ["a", None, "b"]):
            with pytest.raises(ValueError, match=r"no groups; pass group=batch\['case'\]"):
                metric(mask, BOUNDS, index=INDEX, group=group)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="3 masks, 3 bounds, 2 indices and 3 groups; expected one of each"):
        metric(mask, BOUNDS, index=INDEX[:2], group=["a", "b", "c"])
    with pytest.raises(ValueError, match="3 masks, 2 bounds"):
        metric(mask, BOUNDS[:2], index=INDEX, group=["a", "b", "c"])
    with pytest.raises(ValueError, match="do not fit the statistic's values"):
        metric(mask, BOUNDS[:, :1], index=INDEX, group=["a", "b", "c"])
        metric.aggregate()
