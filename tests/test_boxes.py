"""Boxes from labels, their bounds and weak labels, and boxes under augmentation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from monai_constraints.constraints import BoxSize, Empty, Outside, Root, Size, SlabSums, Tight, residuals
from monai_constraints.losses import PartialCrossEntropy
from monai_constraints.transforms import (
    BatchMirrors,
    BatchSimilarity,
    BoxBoundsd,
    BoxesFromLabeld,
    BoxToWeakd,
    FullyAnnotatedd,
    slab_fill,
)
from monai_constraints.transforms.augmentation.moved_boxes import moved_boxes


def blobs(seed: int, shape: tuple[int, ...] = (40, 40), classes: int = 2) -> torch.Tensor:
    """Smooth objects of several classes and components, (1, *S) uint8."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3)
    label = np.digitize(noise, np.quantile(noise, [0.75, 0.9][:classes]))
    return torch.from_numpy(label.astype(np.uint8))[None]


def sample(label: torch.Tensor, **more: Any) -> dict[str, Any]:
    return {"label": label, "image": torch.zeros(1, *label.shape[1:]), "case": "a", "slice": 3, **more}


def test_a_box_holds_its_class_and_is_tight() -> None:
    label = torch.zeros(1, 12, 14, dtype=torch.uint8)
    label[0, 3:6, 2], label[0, 5, 2:9], label[0, 9, 11] = 1, 1, 1
    boxes = BoxesFromLabeld(classes=[1, 2])(sample(label))["boxes"]
    assert boxes.tolist() == [[[[3, 10], [2, 12]]], [[[0, 0], [0, 0]]]]
    each = BoxesFromLabeld(classes=[1], per_component=True, max_boxes=3)(sample(label))
    assert each["boxes"].tolist() == [[[[3, 6], [2, 9]], [[9, 10], [11, 12]], [[0, 0], [0, 0]]]]
    assert not each["loose"].any()


def test_more_components_than_boxes_share_one_that_is_loose() -> None:
    label = torch.zeros(1, 20, 20, dtype=torch.uint8)
    label[0, 0:4, 0:4], label[0, 10, 10], label[0, 12, 3:5] = 1, 1, 1
    with pytest.warns(UserWarning, match="case a: 3 boxes of a class, max_boxes=2"):
        found = BoxesFromLabeld(classes=[1], per_component=True, max_boxes=2)(sample(label))
    assert found["boxes"].tolist() == [[[[0, 4], [0, 4]], [[10, 13], [3, 11]]]]
    assert found["loose"].tolist() == [[False, True]]
    bounds = BoxBoundsd(SlabSums(width=4), Tight(), "t")(found)["t_bounds"][0].unflatten(0, (2, -1))
    assert bounds[0].isfinite().any() and not bounds[1].isfinite().any()


def test_margin_in_voxels_and_mm_is_cut_at_the_border() -> None:
    label = torch.zeros(1, 20, 30, dtype=torch.uint8)
    label[0, 2:9, 10:20] = 1
    assert BoxesFromLabeld(classes=[1], margin=4)(sample(label))["boxes"].tolist() == [[[[0, 13], [6, 24]]]]
    in_mm = BoxesFromLabeld(classes=[1], margin=4, spacing=(2.0, 3.0))(sample(label))["boxes"]
    assert in_mm.tolist() == [[[[0, 11], [8, 22]]]]


def test_jitter_depends_on_the_case_alone_and_stays_within_its_range() -> None:
    label = torch.zeros(1, 40, 40, dtype=torch.uint8)
    label[0, 10:20, 12:25] = 1
    draw = BoxesFromLabeld(classes=[1], margin=3, jitter=3)
    first = draw(sample(label))["boxes"]
    assert torch.equal(first, draw(sample(label))["boxes"])
    others = torch.stack([draw(sample(label, slice=n))["boxes"] for n in range(40)])
    away = (others - torch.tensor([[10, 20], [12, 25]])) * torch.tensor([-1, 1])
    assert away.min() == 0 and away.max() == 6
    assert not torch.equal(first, BoxesFromLabeld(classes=[1], margin=3, jitter=3, seed=1)(sample(label))["boxes"])
    # Inside out: something is left.
    tiny = torch.zeros(1, 9, 9, dtype=torch.uint8)
    tiny[0, 4, 4] = 1
    boxes = torch.stack([BoxesFromLabeld(classes=[1], jitter=2)(sample(tiny, slice=n))["boxes"] for n in range(20)])
    assert (boxes[..., 1] > boxes[..., 0]).all()


@pytest.mark.parametrize("shape", [(40, 40), (20, 24, 22)])
@pytest.mark.parametrize("margin, jitter", [(0, 0), (3, 0), (3, 2)])
def test_the_truth_satisfies_all_that_its_boxes_say(shape: tuple[int, ...], margin: int, jitter: int) -> None:
    """Components are connected, so (6.2) holds."""
    for seed in range(6):
        label = blobs(seed, shape)
        draw = BoxesFromLabeld(classes=[1, 2], per_component=True, max_boxes=40, margin=margin, jitter=jitter)
        found = draw(sample(label))
        mask = torch.cat([label == k for k in range(3)])[None].float()
        for statistic, rule in (
            (Root(SlabSums(width=5, classes=[1, 2])), Tight(margin=margin + jitter)),
            (Root(Outside(classes=[1, 2])), Empty()),
            (Root(Size(classes=[1, 2])), BoxSize(margin=margin, jitter=jitter, fill=(0.05, 1.0))),
        ):
            bounds = BoxBoundsd(statistic, rule, "b")(found)["b_bounds"]
            worst = float(residuals(statistic(mask, boxes=found["boxes"][None]), bounds[None]).amax())
            assert worst <= 1e-4, type(statistic.ruled).__name__


def test_weak_label_of_boxes_is_background_outside_and_its_cross_entropy_the_masked_one() -> None:
    boxes = torch.tensor([[[[2, 5], [1, 8]]], [[[4, 7], [0, 3]]]])
    found = sample(torch.zeros(1, 9, 9, dtype=torch.uint8), boxes=boxes)
    weak = BoxToWeakd()(found)["weak"]
    assert weak.dtype == torch.uint8 and (weak[0, 2:5, 1:8] == 255).all() and (weak[0, 4:7, :3] == 255).all()
    assert int((weak == 0).sum()) == 81 - 21 - 9 + 2
    logits = torch.randn(1, 3, 9, 9)
    outside = (weak == 0)[0, 0] if weak.ndim == 4 else (weak == 0)[0]
    masked = -torch.log(1 - logits.softmax(1)[0, 1:].sum(0))[outside].mean()
    torch.testing.assert_close(PartialCrossEntropy(softmax=True)(logits, weak[None]), masked)
    boxed = BoxToWeakd(inside="class")(found)["weak"][0]
    assert boxed[4, 1] == 2 and boxed[3, 1] == 1 and boxed[6, 0] == 2 and boxed[0, 0] == 0


def test_ellipse_of_a_box_is_its_label_and_a_ring_around_a_disc_becomes_a_ring() -> None:
    boxes = torch.tensor([[[[2, 22], [4, 44]]], [[[7, 17], [14, 34]]]])
    weak = BoxToWeakd(inside="ellipse")(sample(torch.zeros(1, 30, 50, dtype=torch.uint8), boxes=boxes))["weak"][0]
    y, x = torch.meshgrid(torch.arange(30) + 0.5, torch.arange(50) + 0.5, indexing="ij")
    inside = lambda a, b: ((y - 12) / a) ** 2 + ((x - 24) / b) ** 2 <= 1  # noqa: E731
    expected = torch.zeros(30, 50, dtype=torch.uint8)
    expected[2:22, 4:44] = 255
    expected[inside(10, 20)] = 1
    expected[inside(5, 10)] = 2
    assert torch.equal(weak, expected)
    loose = torch.stack([boxes[..., 0] - 2, boxes[..., 1] + 2], -1)
    with_margin = BoxToWeakd(inside="ellipse", margin=2)(
        sample(torch.zeros(1, 30, 50, dtype=torch.uint8), boxes=loose)
    )["weak"][0]
    assert torch.equal(with_margin == 1, weak == 1) and torch.equal(with_margin == 2, weak == 2)
    thin = torch.tensor([[[[1, 4], [0, 9]], [[0, 0], [0, 0]]]])
    thin_weak = BoxToWeakd(inside="ellipse", margin=3)(sample(torch.zeros(1, 9, 9), boxes=thin))["weak"]
    assert int((thin_weak == 1).sum()) == 3
    even = torch.tensor([[[[1, 5], [2, 6]]]])  # nothing is left of it but its middle, which are four pixels
    even_weak = BoxToWeakd(inside="ellipse", margin=3)(sample(torch.zeros(1, 9, 9), boxes=even))["weak"][0]
    assert (even_weak[2:4, 3:5] == 1).all() and int((even_weak == 1).sum()) == 4
    nothing = torch.zeros(1, 2, 2, 2, dtype=torch.int32)
    assert not BoxToWeakd(inside="ellipse")(sample(torch.zeros(1, 4, 4), boxes=nothing))["weak"].any()
    volume = BoxToWeakd(inside="ellipse")(
        sample(torch.zeros(1, 20, 20, 20), boxes=torch.tensor([[[[0, 20], [0, 20], [0, 20]]]]))
    )["weak"]
    assert abs(float((volume == 1).float().mean()) - torch.pi / 6) < 0.01 and set(volume.unique().tolist()) == {1, 255}


TURNS = [torch.tensor(m).float() for m in ([[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [1, 0]])]


@pytest.mark.parametrize("matrix", TURNS)
def test_quarter_turns_and_mirrors_move_boxes_exactly(matrix: torch.Tensor) -> None:
    label = torch.zeros(1, 1, 20, 20)
    label[0, 0, 3:9, 5:16] = 1
    boxes = torch.tensor([[[[[3, 9], [5, 16]], [[0, 0], [0, 0]]]]])
    grid = BatchSimilarity._grid(matrix[None].mT, label)
    turned = torch.nn.functional.grid_sample(label, grid, mode="nearest", align_corners=False)
    again = BoxesFromLabeld(classes=[1], max_boxes=2)(sample(turned[0]))["boxes"]
    assert moved_boxes(boxes, matrix[None], (20, 20)).tolist() == [again.tolist()]


@settings(max_examples=40, deadline=None)
@given(st.floats(0.6, 1.6), st.integers(0, 10), st.integers(1, 9), st.integers(0, 10), st.integers(1, 9))
def test_scales_round_boxes_outward_by_less_than_a_pixel(scale: float, y: int, h: int, x: int, w: int) -> None:
    boxes = torch.tensor([[[[[y, y + h], [x, x + w]]]]])
    found = moved_boxes(boxes, scale * torch.eye(2)[None], (20, 20))[0, 0, 0].double()
    exact = ((boxes[0, 0, 0] - 10).double() * scale + 10).clamp(0, 20)
    if float((exact[:, 1] - exact[:, 0]).min()) < 2e-3:  # it left the image
        assert not found.any() or bool((found[:, 1] > found[:, 0]).all())
        return
    outward = (found - exact) * torch.tensor([-1, 1])
    assert -2e-3 <= float(outward.min()) and float(outward.max()) < 1


def test_a_batch_moves_boxes_and_labels_alike_and_bands_are_made_behind_it() -> None:
    torch.manual_seed(1)
    # Padded, so that nothing leaves the image when it grows.
    label = torch.nn.functional.pad(torch.stack([blobs(seed, classes=1) for seed in range(8)]), (9, 9, 9, 9))
    draw, tight = BoxesFromLabeld(classes=[1], per_component=True, max_boxes=40), SlabSums(width=5, classes=[1])
    samples = [BoxToWeakd()(draw(sample(one))) for one in label]
    bands = BoxBoundsd(tight, Tight(), "tight")
    samples = [bands(one) for one in samples]
    keys = ("image", "label", "weak", "boxes", "tight_bounds")
    batch = {key: torch.stack([one[key] for one in samples]) for key in keys}
    moved = bands(BatchSimilarity(labels={"label": 0, "weak": 255}, boxes=["boxes"], dihedral=True)(batch))
    assert not torch.equal(moved["boxes"], batch["boxes"])
    mask = torch.cat([moved["label"] == k for k in range(2)], 1).float()
    assert float(residuals(tight(mask, boxes=moved["boxes"]), moved["tight_bounds"]).max()) <= 0
    assert (moved["label"][moved["weak"] == 0] == 0).all()
    # The bounds from before would not fit: the narrow band is at the other end.
    assert float(residuals(tight(mask, boxes=moved["boxes"]), batch["tight_bounds"]).max()) > 0
    # With scales the boxes are loose by less than a pixel.
    scaled = BatchSimilarity(labels={"label": 0}, boxes=["boxes"], scale=(1.1, 1.3))
    wider = BoxBoundsd(tight, Tight(margin=1), "tight")(scaled(batch))
    mask = torch.cat([wider["label"] == k for k in range(2)], 1).float()
    z = residuals(tight(mask, boxes=wider["boxes"]), wider["tight_bounds"])
    assert float((z > 0).float().sum() / wider["tight_bounds"].isfinite().sum()) < 0.01


def test_mirrors_move_boxes_in_3d() -> None:
    torch.manual_seed(0)
    label = torch.stack([blobs(seed, (12, 14, 10)) for seed in range(6)])
    draw = BoxesFromLabeld(classes=[1, 2])
    boxes = torch.stack([draw(sample(one))["boxes"] for one in label])
    batch = {"image": label.float(), "weak": label, "boxes": boxes}
    moved = BatchMirrors(boxes=["boxes"], axes=[0, 2])(batch)
    assert not torch.equal(moved["weak"], label)
    again = torch.stack([draw(sample(one))["boxes"] for one in moved["weak"]])
    assert torch.equal(moved["boxes"], again)
    with pytest.raises(ValueError, match=r"axes=\[3\]"):
        BatchMirrors(axes=[3])(batch)


def test_boxes_refuse_rotation_with_the_reason() -> None:
    with pytest.raises(ValueError, match="no longer tight. Leave rotation out"):
        BatchSimilarity(boxes=["boxes"], rotation=10)


def test_fully_annotated_samples_stay_free_behind_the_augmentation() -> None:
    label = blobs(0, classes=1)
    bands = BoxBoundsd(SlabSums(classes=[1]), Tight(), "tight")
    weak = bands(BoxToWeakd()(BoxesFromLabeld(classes=[1])(sample(label))))
    free = FullyAnnotatedd(["a"], bounds=["tight"])(weak)
    batch = {key: torch.stack([weak[key], free[key]]) for key in ("image", "boxes", "tight_bounds")}
    again = bands(batch)["tight_bounds"]
    assert torch.equal(again[0], weak["tight_bounds"]) and not again[1].isfinite().any()


def test_fill_is_the_quantile_of_the_chosen_patients_bands() -> None:
    label = torch.zeros(1, 30, 30, dtype=torch.uint8)
    label[0, 5:15, 5:25] = 1
    label[0, 5:10, 15:25] = 0
    one = BoxesFromLabeld(classes=[1])(sample(label, patient="p"))
    bands = SlabSums(width=5, classes=[1])
    # Rows: half and whole; columns: two whole, two half.
    assert slab_fill([one], bands, patients=["p"], quantile=0.0) == [0.5]
    assert slab_fill([one], bands, patients=["p"], quantile=1.0) == [1.0]
    with pytest.raises(ValueError, match=r"in \['q'\]; choose among"):
        slab_fill([one], bands, patients=["q"])
    with pytest.raises(ValueError, match=r"classes \[2\] have no box"):
        two = BoxesFromLabeld(classes=[1, 2])(sample(label, patient="p"))
        slab_fill([two], SlabSums(classes=[1, 2]), patients=["p"])


@pytest.mark.parametrize(("make", "message"), [
    (lambda: BoxesFromLabeld(classes=[0]), "different classes >= 1"),
    (lambda: BoxesFromLabeld(classes=[1], max_boxes=0), "one box or more"),
    (lambda: BoxesFromLabeld(classes=[1])({"image": 0}), "no 'label'"),
    (lambda: BoxesFromLabeld(classes=[1], jitter=1)({"label": torch.zeros(1, 4, 4)}), "name the cases"),
    (lambda: BoxesFromLabeld(classes=[1])({"label": torch.zeros(4, 4)}), "expected \\(1, H, W"),
    (lambda: BoxToWeakd(margin=1), "or more of an ellipse"),
    (lambda: BoxToWeakd(inside="no"), "choose 'unknown', 'class' or 'ellipse'"),
    (lambda: BoxToWeakd()({"image": torch.zeros(1, 4, 4)}), "make the boxes before"),
    (lambda: BoxBoundsd(Size(classes=[1]), BoxSize(), "s")(
        {"image": torch.zeros(1, 4, 4), "boxes": torch.zeros(2, 1, 2, 2)}), "K=2 classes, the statistic has"),
    (lambda: BoxBoundsd(Size(), BoxSize(), "s")(
        {"image": torch.zeros(1, 4, 4, 4), "boxes": torch.zeros(2, 1, 2, 2)}), "do not fit the image"),
])  # fmt: skip
def test_errors_say_what_to_do(make: Any, message: str) -> None:
    with pytest.raises((KeyError, ValueError), match=message):
        make()
