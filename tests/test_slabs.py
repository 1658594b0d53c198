"""Sums over the bands of boxes (6.2): against a loop over voxels, and what has to hold of any box."""

from __future__ import annotations

import box_loops
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_constraints.constraints import (
    LogBarrier,
    Patch,
    Root,
    SlabSums,
    Statistic,
    residuals,
    slab_bounds,
)
from monai_constraints.losses import ConstraintLoss

Case = tuple[tuple[int, ...], np.ndarray, int, int]


def region(spatial: tuple[int, ...], boxes: np.ndarray, seed: int) -> torch.Tensor:
    return torch.rand(*boxes.shape[:2], *spatial, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30, deadline=None)
@given(box_loops.cases())
def test_sums_are_those_of_a_loop_and_of_dense_maps(case: Case) -> None:
    spatial, boxes, width, seed = case
    s, given_boxes = region(spatial, boxes, seed), torch.from_numpy(boxes)
    found = SlabSums(width=width)(s, boxes=given_boxes)
    for b in range(len(boxes)):
        for k in range(boxes.shape[1]):
            expected = box_loops.slab_sums(s[b, k].double().numpy(), boxes[b, k], width)
            np.testing.assert_allclose(found[b, k], expected, atol=1e-4)
    dense = Statistic.sums(SlabSums(width=width), s, image=None, boxes=given_boxes, patch=None)
    torch.testing.assert_close(found, dense, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(7, 9), (5, 6, 4)])
def test_first_and_second_derivatives(shape: tuple[int, ...]) -> None:
    """Against the dense maps; the second ones of a square, since the sums are linear."""
    low = torch.randint(0, 3, (2, 3, 2, len(shape)))
    boxes = torch.stack([low, low + torch.randint(0, 5, low.shape)], -1)
    statistic = SlabSums(width=2, classes=[1, 2, 3])
    region = torch.rand(2, 4, *shape, requires_grad=True)
    chosen = region[:, 1:4]
    dense = Statistic.sums(statistic, chosen, image=None, boxes=boxes, patch=None)
    found = statistic.measure(region, boxes=boxes)
    for f in (found, dense):
        assert f.any()
    weight = torch.rand_like(dense)
    first = [torch.autograd.grad((f.square() * weight).sum(), region, create_graph=True)[0] for f in (found, dense)]
    torch.testing.assert_close(*first, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(*(torch.autograd.grad(g.square().sum(), region)[0] for g in first), atol=1e-2, rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(box_loops.cases())
def test_bands_partition_the_box_and_each_asks_for_a_voxel_a_line(case: Case) -> None:
    spatial, boxes, width, _ = case
    given_boxes = torch.from_numpy(boxes)
    inside = torch.from_numpy(np.array([[box_loops.inside(k, spatial) for k in b] for b in boxes]))
    count = boxes.shape[2]
    bounds = slab_bounds(given_boxes, spatial, width)[..., 0].unflatten(-1, (count, -1))
    lines = torch.where(bounds.isfinite(), bounds, 0.0)
    slots = [-(-side // width) for side in spatial]
    for a, part in enumerate(lines.split(slots, -1)):
        torch.testing.assert_close(part.sum(-1), (given_boxes[..., a, 1] - given_boxes[..., a, 0]).float())
        assert float(part.max()) <= width
    # Each axis's bands together hold the box: of one box, its voxels.
    if count == 1:
        for part in SlabSums(width=width)(inside, boxes=given_boxes).split(slots, -1):
            torch.testing.assert_close(part.sum(-1), inside.flatten(2).sum(-1).float())


@settings(max_examples=30, deadline=None)
@given(box_loops.cases(), st.integers(0, 3))
def test_the_object_that_made_a_box_satisfies_its_bands(case: Case, margin: int) -> None:
    """Any object that touches every side and is crossed by every line: here a path from corner to corner."""
    spatial, boxes, width, seed = case
    generator = np.random.default_rng(seed)
    truth, tight = np.zeros((1, 1, *spatial)), boxes[0, 0, 0]
    place = [int(low) for low, _ in tight]
    truth[(0, 0, *place)] = 1
    while any(p < high - 1 for p, (_, high) in zip(place, tight)):
        axis = generator.choice([a for a, (_, high) in enumerate(tight) if place[a] < high - 1])
        place[axis] += 1
        truth[(0, 0, *place)] = 1
    loose = np.stack([(tight[:, 0] - margin).clip(0), np.minimum(tight[:, 1] + margin, spatial)], -1)
    given_boxes = torch.from_numpy(loose)[None, None, None]
    bounds = slab_bounds(given_boxes, spatial, width, margin=margin)
    statistic = SlabSums(width=width)
    assert float(residuals(statistic(torch.from_numpy(truth), boxes=given_boxes), bounds).max()) <= 0


@settings(max_examples=20, deadline=None)
@given(box_loops.cases(dims=2), st.integers(-2, 2), st.integers(-2, 2))
def test_a_translation_of_image_and_boxes_changes_nothing(case: Case, down: int, right: int) -> None:
    spatial, boxes, width, seed = case
    s = torch.nn.functional.pad(region(spatial, boxes, seed), (2, 2, 2, 2))
    shift = torch.tensor([down, right])[:, None]
    there = torch.from_numpy(boxes)
    empty = (there[..., 1] == there[..., 0]).any(-1)[..., None, None]
    placed = torch.where(empty, 0, there + 2)
    moved = torch.where(empty, 0, there + 2 + shift)
    before = SlabSums(width=width)(s, boxes=placed)
    torch.testing.assert_close(SlabSums(width=width)(s.roll((down, right), (2, 3)), boxes=moved), before)


@settings(max_examples=20, deadline=None)
@given(box_loops.cases())
def test_patches_add_up(case: Case) -> None:
    spatial, boxes, width, seed = case
    s, given_boxes, statistic = region(spatial, boxes, seed), torch.from_numpy(boxes), SlabSums(width=width)
    cut = [side // 2 for side in spatial]
    total: torch.Tensor | float = 0.0
    for corner in np.ndindex(*[2] * len(spatial)):
        parts = [slice(0, c) if end == 0 else slice(c, None) for c, end in zip(cut, corner)]
        offset = torch.tensor([[c * end for c, end in zip(cut, corner)]] * len(s))
        patch = Patch(offset, torch.tensor([spatial] * len(s)))
        total = total + statistic.measure(s[(..., *parts)], boxes=given_boxes, patch=patch)
    torch.testing.assert_close(torch.as_tensor(total), statistic.measure(s, boxes=given_boxes), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradients_of_half_precision_logits_are_finite(dtype: torch.dtype) -> None:
    boxes = torch.tensor([[[[[0, 7], [2, 9]], [[0, 0], [0, 0]]]]]).expand(2, -1, -1, -1, -1)
    logits = (60 * torch.randn(2, 2, 8, 11)).to(dtype).requires_grad_()
    for statistic in (SlabSums(width=3, classes=[1]), Root(SlabSums(width=3, classes=[1]))):
        bounds = statistic.link(slab_bounds(boxes, (8, 11), 3))
        loss = ConstraintLoss(statistic, LogBarrier(t=50), softmax=True)(logits, bounds, boxes=boxes)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert gradient.isfinite().all() and gradient.any()


def test_a_fill_asks_for_its_share_of_the_band() -> None:
    boxes = torch.tensor([[[[2, 9], [0, 10]]]])
    bounds = slab_bounds(boxes, (12, 12), 5, fill=0.5)[0, :, 0].tolist()
    assert bounds == [25.0, 10.0, -float("inf"), 17.5, 17.5, -float("inf")]
    # 0.01 of a line of ten is less than one voxel; with a margin the box across is smaller too.
    assert slab_bounds(boxes, (12, 12), 5, fill=0.01)[0, :, 0].tolist()[:2] == [5.0, 2.0]
    inner = slab_bounds(boxes, (12, 12), 5, fill=0.5, margin=1)[0, :, 0].tolist()
    assert inner == [4 * 4.0, 1 * 4.0, -float("inf"), 4 * 2.5, 4 * 2.5, -float("inf")]


def test_a_box_beyond_the_image_is_cut() -> None:
    beyond, cut = torch.tensor([[[[-3, 4], [5, 20]]]]), torch.tensor([[[[0, 4], [5, 9]]]])
    s = torch.rand(1, 1, 8, 9)
    torch.testing.assert_close(SlabSums(width=2)(s, boxes=beyond[None]), SlabSums(width=2)(s, boxes=cut[None]))
    torch.testing.assert_close(slab_bounds(beyond, (8, 9), 2), slab_bounds(cut, (8, 9), 2))


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="width=0; a band has one line"):
        SlabSums(width=0)
    with pytest.raises(ValueError, match="K=2 classes, the region has K=1"):
        SlabSums(classes=[1])(torch.rand(1, 3, 8, 8), boxes=torch.zeros(1, 2, 1, 2, 2))
    with pytest.raises(ValueError, match="needs the boxes"):
        SlabSums()(torch.rand(1, 3, 8, 8))
