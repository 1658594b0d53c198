from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_constraints import Centroid, Size
from monai_constraints.constraints import Individual, Root, SlabSums, Statistic
from monai_constraints.engines import PrepareTargets
from monai_constraints.transforms import BatchGamma, BatchIntensity, BatchSimilarity, SignedDistanceMapd

SIZE, CENTROID = Size(classes=[1, 2]), Centroid(classes=[1, 2])


def batch_of(count: int, *, height: int = 64, width: int = 64) -> dict[str, Any]:
    """Two ellipses off the centre, the second absent from sample 0, with the bounds of the thesis."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    label = torch.zeros(count, 1, height, width, dtype=torch.uint8)
    for b in range(count):
        label[b, 0][((y - 22 - b % 3) / 9) ** 2 + ((x - 28) / 6) ** 2 <= 1] = 1
        if b:
            label[b, 0][((y - 40) / 5) ** 2 + ((x - 38 + b % 2) / 10) ** 2 <= 1] = 2
    mask = torch.cat([label == k for k in range(3)], 1).float()
    present = mask[:, 1:].flatten(2).any(-1)

    def bounds(statistic: Any, rule: Individual) -> Tensor:
        values = statistic(mask)
        voxels = height * width
        return torch.stack([rule(v, p, voxels=voxels, absent=statistic.absent) for v, p in zip(values, present)])

    sizes = bounds(SIZE, Individual(relative=0.1))
    return {
        "image": label.float(),
        "label": label,
        "weak": torch.where(label > 0, label, 255).to(torch.uint8),
        "size_bounds": sizes,
        "centroid_bounds": bounds(CENTROID, Individual(absolute=1.5)),
        "case": [str(b) for b in range(count)],
    }


def similarity(*, more: dict[str, Statistic] | None = None, **options: Any) -> BatchSimilarity:
    labels, more = {"label": 0, "weak": 255}, more or {}
    return BatchSimilarity(labels=labels, bounds={"size": SIZE, "centroid": CENTROID, **more}, **options)


def statistics(label: Tensor) -> tuple[Tensor, Tensor]:
    mask = torch.cat([label == k for k in range(3)], 1).float()
    return SIZE(mask), CENTROID(mask)


def test_roots_grow_as_lengths_do() -> None:
    before = batch_of(16)
    before["root_bounds"] = before["size_bounds"].sqrt()
    after = similarity(rotation=30, scale=(0.8, 1.2), more={"root": Root(SIZE), "missing": SIZE})(before)
    torch.testing.assert_close(after["root_bounds"], after["size_bounds"].sqrt())
    assert not torch.allclose(after["root_bounds"], before["root_bounds"])


@pytest.mark.parametrize("dihedral", [False, True])
def test_bounds_move_with_the_label(dihedral: bool) -> None:
    """What is measured on the turned label lies where the turned bounds say, and the margins keep their sense."""
    before = batch_of(48)
    after = similarity(rotation=30, scale=(0.8, 1.2), dihedral=dihedral)(before)
    sizes, centroids = statistics(after["label"])
    there = torch.ones(48, 2, dtype=torch.bool)
    there[0, 1] = False
    middle = after["size_bounds"].mean(-1)
    assert ((sizes - middle).abs() <= 0.08 * middle)[there].all() and (sizes[there] > 90).all()
    assert (after["size_bounds"][0, 1] == torch.zeros(1, 2)).all() and sizes[0, 1] == 0
    middle = after["centroid_bounds"].mean(-1)
    assert (centroids - middle).abs()[there].max() < 0.5
    width = after["centroid_bounds"].diff(dim=-1)[..., 0][there]
    assert (width >= 3 * 0.79).all() and (width <= 3 * 1.21 * math.sqrt(2)).all()
    assert after["centroid_bounds"][0, 1].isinf().all()
    # Different samples got different similarities, some larger and some smaller.
    factors = after["size_bounds"][1:, 0, 0, 0] / before["size_bounds"][1:, 0, 0, 0]
    assert factors.min() < 0.8 and factors.max() > 1.2 and factors.min() >= 0.64 and factors.max() <= 1.44


def test_image_and_labels_move_alike() -> None:
    before = batch_of(16)
    after = similarity(rotation=20, scale=(0.9, 1.1), dihedral=True)(before)
    assert after["label"].dtype == torch.uint8 and after["case"] is before["case"]
    assert set(after["label"].unique().tolist()) == {0, 1, 2} and set(after["weak"].unique().tolist()) == {1, 2, 255}
    assert torch.equal(torch.where(after["label"] > 0, after["label"], 255).to(torch.uint8), after["weak"])
    # Linear and nearest differ at the edges only.
    assert ((after["image"] - after["label"]).abs() > 1e-3).float().mean() < 0.15
    assert ((after["image"] - after["label"]).abs() > 1).float().mean() < 0.01


def test_dihedral_alone_is_one_of_the_eight() -> None:
    image = torch.arange(25.0).reshape(1, 1, 5, 5).repeat(200, 1, 1, 1)
    moved = BatchSimilarity(dihedral=True)({"image": image})["image"]
    grids = {tuple(grid.flatten().round().int().tolist()) for grid in moved}
    expected = {
        tuple(grid.flatten().int().tolist())
        for turns in range(4)
        for turned in [torch.rot90(image[0, 0], turns)]
        for grid in (turned, turned.flip(1))
    }
    assert grids == expected


def test_images_need_not_be_square() -> None:
    before = batch_of(32, height=72, width=60)
    after = similarity(rotation=30)(before)
    _, centroids = statistics(after["label"])
    assert (centroids - after["centroid_bounds"].mean(-1)).abs()[1:].max() < 0.5
    with pytest.raises(ValueError, match=r"'image' is \(32, 1, 72, 60\).*H = W"):
        similarity(dihedral=True)(before)
    with pytest.raises(KeyError, match=r"no \['ellipse'\] of labels=.*it has \['image', 'weak'\]; name those"):
        square = {"image": torch.zeros(2, 1, 8, 8), "weak": torch.zeros(2, 1, 8, 8)}
        BatchSimilarity(labels={"weak": 0, "ellipse": 0})(square)
    with pytest.raises(ValueError, match=r"scale=\[1.2, 0.8\]"):
        BatchSimilarity(scale=(1.2, 0.8))


def test_from_outside_comes_what_was_asked_for() -> None:
    ones = torch.ones(4, 1, 8, 8)
    batch = {"image": ones, "weak": ones.to(torch.uint8), "label": ones.to(torch.uint8)}
    after = BatchSimilarity(labels={"weak": 255, "label": 7}, scale=(0.5, 0.5))(batch)
    assert (after["image"][..., 0, 0] == 0).all() and (after["image"][..., 4, 4] == 1).all()
    for key, fill in (("weak", 255), ("label", 7)):
        assert (after[key][..., 0, 0] == fill).all() and (after[key][..., 4, 4] == 1).all()


def test_one_sided_positions_stay_one_sided() -> None:
    inf = math.inf
    bounds = torch.tensor([[[[-inf, 3.0], [2.0, inf]]]])
    quarter = torch.tensor([[[math.cos(math.pi / 2), -1.0], [1.0, math.cos(math.pi / 2)]]])
    # (row, column) from the centre 4.5 -> (-column, row)
    assert CENTROID.moved(bounds, quarter, (10, 10)).tolist() == [[[[-inf, 7.0], [-inf, 3.0]]]]
    turned = CENTROID.moved(bounds, torch.tensor([[[0.8, -0.6], [0.6, 0.8]]]), (10, 10))
    assert turned[0, 0, 0, 0] == -inf and turned[0, 0, 0, 1].isfinite() and turned[0, 0, 1].isinf().all()


def test_gamma_keeps_black_and_white() -> None:
    image = torch.linspace(0, 1, 11).reshape(1, 1, 11, 1).repeat(64, 1, 1, 1)
    after = BatchGamma(log_gamma=0.4)({"image": image, "case": "a"})["image"]
    assert (after[:, :, 0] == 0).all() and (after[:, :, -1] == 1).all()
    gamma = after[:, 0, 5, 0].log() / math.log(0.5)
    assert gamma.min() > 0.67 and gamma.max() < 1.5 and gamma.std() > 0.1
    assert torch.equal(after[:, 0, 3, 0].log() / math.log(0.3) > 1, gamma > 1)
    with pytest.raises(ValueError, match="must be >= 0"):
        BatchGamma(log_gamma=-1)


def test_prepare_targets_augments_what_the_loss_gets() -> None:
    batch = batch_of(8)
    prepare = PrepareTargets(["weak", "size_bounds"], augmentation=BatchSimilarity(labels={"weak": 255}, dihedral=True))
    torch.manual_seed(1)
    image, targets = prepare(batch)
    assert set(targets) == {"image", "weak", "size_bounds"} and not torch.equal(image, batch["image"])
    assert torch.equal(image.round() > 0, targets["weak"] != 255)
    torch.manual_seed(1)
    assert torch.equal(prepare(batch)[0], image)
    assert torch.equal(PrepareTargets(["weak"])(batch)[0], batch["image"])


def test_intensity_changes_contrast_brightness_and_adds_noise() -> None:
    image = torch.rand(400, 2, 6, 5)
    change = BatchIntensity(contrast=0.5, brightness=0.25, noise=0.0)
    after = change({"image": image, "case": "a"})["image"]
    flat, changed = image.flatten(1), after.flatten(1)
    slope = changed.std(1) / flat.std(1)
    moved = changed.mean(1) - flat.mean(1)
    assert 0.5 <= slope.min() < 0.6 and 1.4 < slope.max() <= 1.5 and moved.abs().max() <= 0.25 and moved.std() > 0.1
    torch.testing.assert_close(changed, slope[:, None] * (flat - flat.mean(1, keepdim=True)) + changed.mean(1)[:, None])
    noisy = BatchIntensity(contrast=0, brightness=0, noise=0.05)({"image": image})["image"] - image
    assert noisy.std().item() == pytest.approx(0.05, rel=0.05)
    with pytest.raises(ValueError, match="must be >= 0"):
        BatchIntensity(noise=-1)


def test_a_statistic_that_does_not_say_how_it_moves_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="SlabSums: how its bounds move .* write `moved`"):
        similarity(more={"size": SlabSums()})(batch_of(4))


def test_distance_maps_are_those_of_the_moved_structure() -> None:
    """Turned and scaled beside its label, a map is the map of the moved label to within pixels; none is no error."""
    before = batch_of(12)
    measure = SignedDistanceMapd(classes=[1], spacing="voxel", allow_others=True)
    before["distance"] = torch.stack([measure({"label": label})["distance"] for label in before["label"]])
    augment = BatchSimilarity(
        images=["image", "missing"], distances=["distance", "missing_too"], labels={"label": 0}, rotation=30,
        scale=(0.7, 1.4), dihedral=True,
    )  # fmt: skip
    after = augment(before)
    assert not {"missing", "missing_too"} & set(after)
    for label, distance in zip(after["label"], after["distance"]):
        expected = measure({"label": label})["distance"]
        error = (distance - expected)[expected < 8].abs()  # farther away, some of it comes in from outside
        assert error.max() < 1.5 and error.mean() < 0.5, (error.max(), error.mean())
        assert (distance[label == 1] < 1.2).all() and (distance[label != 1] > -1.2).all()
