"""What is outside of boxes (6.1) and inside, and the bounds that boxes give (6.1 to 6.3)."""

from __future__ import annotations

import box_loops
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from monai_constraints.constraints import (
    BoxSize,
    Empty,
    Inside,
    Outside,
    Patch,
    Root,
    Size,
    SlabSums,
    Tight,
    residuals,
)

NONE = torch.zeros(1, 1, 1, dtype=torch.bool)


@settings(max_examples=20, deadline=None)
@given(box_loops.cases())
def test_outside_and_inside_are_those_of_a_loop(case: tuple[tuple[int, ...], np.ndarray, int, int]) -> None:
    spatial, boxes, _, seed = case
    s = torch.rand(*boxes.shape[:2], *spatial, generator=torch.Generator().manual_seed(seed))
    masks = torch.from_numpy(np.array([[box_loops.inside(k, spatial) for k in b] for b in boxes]))
    given_boxes = torch.from_numpy(boxes)
    expected = (s * masks).flatten(2).sum(-1, keepdim=True).float()
    torch.testing.assert_close(Inside()(s, boxes=given_boxes), expected)
    torch.testing.assert_close(Outside()(s, boxes=given_boxes), s.flatten(2).sum(-1, keepdim=True) - expected)
    for statistic in (Inside(), Outside()):
        maps = statistic.feature_maps(spatial, s.device, boxes=given_boxes)
        torch.testing.assert_close((s.flatten(2)[:, :, None] * maps).sum(-1), statistic(s, boxes=given_boxes))
    half = spatial[0] // 2
    parts = [(s[:, :, :half], 0), (s[:, :, half:], half)]
    added = sum(
        Outside().measure(part, boxes=given_boxes, patch=Patch(
            torch.tensor([[first, *[0] * (len(spatial) - 1)]] * len(s)), torch.tensor([spatial] * len(s))
        ))
        for part, first in parts
    )  # fmt: skip
    torch.testing.assert_close(added, Outside().measure(s, boxes=given_boxes))


def test_a_size_grows_with_the_area_under_a_scale() -> None:
    bounds = torch.tensor([[[[-float("inf"), 10.0]]]])
    assert Outside().moved(bounds, 2 * torch.eye(2)[None], (8, 8)).tolist() == [[[[-float("inf"), 40.0]]]]


def test_box_size_takes_the_margin_off_and_the_fill_of_the_dimension() -> None:
    boxes = torch.tensor([[[[[4, 14], [4, 24]]]]])
    assert BoxSize()(Size(), boxes, (32, 32), NONE)[0, 0, 0].tolist() == pytest.approx([80, 190])
    margin = BoxSize(margin=2)(Size(), boxes, (32, 32), NONE)[0, 0, 0].tolist()
    assert margin == pytest.approx([0.4 * 6 * 16, 0.95 * 6 * 16])
    differs = BoxSize(margin=1, jitter=1)(Size(), boxes, (32, 32), NONE)[0, 0, 0].tolist()
    assert differs == pytest.approx([0.4 * 6 * 16, 0.95 * 10 * 20])
    too_small = BoxSize(jitter=1)(Size(), boxes, (32, 32), NONE)[0, 0, 0].tolist()
    assert too_small == pytest.approx([0.4 * 8 * 18, 0.95 * 12 * 22])
    at_a_corner = torch.tensor([[[[[0, 10], [12, 32]]]]])  # of whose margin the image may have cut a part
    cut = BoxSize(margin=2)(Size(), at_a_corner, (32, 32), NONE)[0, 0, 0].tolist()
    assert cut == pytest.approx([0.4 * 6 * 16, 0.95 * 8 * 18])
    cube = torch.tensor([[[[[0, 10], [0, 20], [0, 5]]]]])
    assert BoxSize()(Size(), cube, (32, 32, 32), NONE)[0, 0, 0].tolist() == pytest.approx([100, 700])
    assert BoxSize(fill=(0.5, 0.9))(Size(), boxes, (32, 32), NONE)[0, 0, 0].tolist() == pytest.approx([100, 180])


def test_box_size_of_small_absent_several_and_loose_boxes() -> None:
    """In a small box the fill says nothing: a voxel a line at least, all of it at most."""
    pixel = torch.tensor([[[[[3, 4], [7, 8]]]]])
    assert BoxSize()(Size(), pixel, (32, 32), NONE)[0, 0, 0].tolist() == [1, 1]
    line = torch.tensor([[[[[3, 6], [7, 16]]]]])
    assert BoxSize()(Size(), line, (32, 32), NONE)[0, 0, 0].tolist() == [9, 27]
    absent = torch.zeros(1, 1, 1, 2, 2, dtype=torch.long)
    assert BoxSize()(Size(), absent, (32, 32), NONE)[0, 0, 0].tolist() == [0, 0]
    two = torch.tensor([[[[[0, 10], [0, 10]], [[5, 25], [5, 15]]]]])
    assert BoxSize()(Size(), two, (32, 32), NONE.expand(1, 1, 2))[0, 0, 0].tolist() == pytest.approx([120, 285])
    loose = torch.tensor([[[False, True]]])
    assert BoxSize()(Size(), two, (32, 32), loose)[0, 0, 0].tolist() == pytest.approx([40, 95 + 200])


def test_rules_of_classes_and_loose_boxes() -> None:
    boxes = torch.tensor([[[[[0, 10], [0, 20]]], [[[0, 10], [0, 20]]]]])
    none = torch.zeros(1, 2, 1, dtype=torch.bool)
    both = BoxSize(fill=([0.1, 0.4], [0.5, 0.9]))(Size(), boxes, (32, 32), none)[0, :, 0]
    torch.testing.assert_close(both, torch.tensor([[20.0, 100.0], [80.0, 180.0]]))
    bands = Tight()(SlabSums(width=5), boxes, (32, 32), torch.tensor([[[True], [False]]]))
    assert not bands[0, 0].isfinite().any() and bands[0, 1, :2, 0].tolist() == [5, 5]
    assert Empty(allowed=3)(Outside(), boxes, (32, 32), none).tolist() == [[[[-float("inf"), 3.0]]] * 2]


def test_emptiness_holds_where_nothing_is_outside_and_its_root_has_a_gradient_where_something_is() -> None:
    boxes = torch.tensor([[[[[2, 5], [2, 6]]]]])
    mask = torch.zeros(1, 1, 8, 8)
    mask[:, :, 2:5, 2:6] = 1
    statistic = Root(Outside())
    bounds = statistic.link(Empty()(Outside(), boxes, (8, 8), NONE))
    assert float(residuals(statistic(mask, boxes=boxes), bounds).max()) <= 0
    mask[0, 0, 7, 7] = 0.5
    mask.requires_grad_()
    residuals(statistic(mask, boxes=boxes), bounds).sum().backward()
    assert mask.grad is not None and mask.grad.isfinite().all() and mask.grad[0, 0, 7, 7] > 0


@pytest.mark.parametrize("make", [
    lambda: BoxSize(fill=(0.9, 0.5)), lambda: BoxSize(fill=(0.1, 1.5)), lambda: BoxSize(margin=-1),
    lambda: BoxSize(jitter=-1), lambda: Tight(margin=-1),
    lambda: Tight()(Size(), torch.zeros(1, 1, 1, 2, 2), (8, 8), NONE),
])  # fmt: skip
def test_impossible_rules_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match="expected|give|use"):
        make()  # type: ignore[operator]


def test_the_margin_of_scaled_boxes_grows_with_them_and_by_a_voxel() -> None:
    assert Tight(margin=4, fill=0.3).scaled([1, 1]).margin == 4
    scaled = Tight(margin=4, fill=0.3).scaled([0.87, 1.15])
    assert scaled.margin == 6 and scaled.fill == 0.3
    assert Tight().scaled([0.8, 0.9]).margin == 1
    assert Tight(margin=[0, 2]).scaled([0.5, 1.5]).margin == [1, 4]
