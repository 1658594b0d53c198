"""Values that are no classes: every transform and loss that reads a label refuses them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_constraints.constraints import Centroid, Common, Individual, Root, Size
from monai_constraints.losses import (
    PartialCrossEntropy,
    PartialDice,
    ProposalCrossEntropy,
    SizePrincipleLoss,
    VoxelWeightedCrossEntropy,
)
from monai_constraints.transforms import (
    BorderWeightd,
    ConstraintBoundsd,
    ErodedLabeld,
    FullLabeld,
    GeodesicDistanceMapd,
    OneStructured,
    PointLabeld,
    ScalePercentilesd,
    ScribbleLabeld,
    SignedDistanceMapd,
    ToGridd,
    Values,
    common_bounds,
)

Call = Callable[[Any], Any]


def mask(inside: float, outside: float = 0) -> Tensor:
    label = torch.full((1, 8, 8), float(outside))
    label[0, 2:6, 2:6] = inside
    return label if not float(inside).is_integer() else label.to(torch.int16)


BOUNDS = ConstraintBoundsd(Size(classes=[1]), Individual(relative=0.1), "size")
TRANSFORMS: dict[str, Call] = {
    "bounds": BOUNDS,
    "bounds of a root": ConstraintBoundsd(Root(Size(classes=[1])), Individual(relative=0.1), "size"),
    "common bounds": lambda s: common_bounds([{**s, "patient": "a"}], Size(classes=[1]), patients=["a"]),
    "points": PointLabeld(classes=[1]),
    "eroded": ErodedLabeld(classes=[1]),
    "full": FullLabeld(),
    "scribbles": ScribbleLabeld(classes=2, key="label"),
    "one structure": OneStructured("label", 1, classes=2),
    "distance": SignedDistanceMapd(classes=[1], spacing="voxel"),
    "distance, others": SignedDistanceMapd(classes=[1], spacing="voxel", allow_others=True),
    "border": BorderWeightd(classes=[1], allow_others=True),
    "geodesic": GeodesicDistanceMapd(classes=[0, 1], key="label", intensity=1, spacing="voxel", unknown=9),
    "geodesic, others": GeodesicDistanceMapd(
        classes=[0, 1], key="label", intensity=1, spacing="voxel", unknown=9, allow_others=True
    ),
}


@pytest.mark.parametrize("value", [255, -1, -100, 0.5, 256])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name: str, value: float) -> None:
    image = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    TRANSFORMS[name]({"label": mask(1), "image": image, "case": "a"})
    if name == "one structure" and value == 255:
        return  # that is its value of "not annotated"
    with pytest.raises(ValueError, match=r"MapLabelValued|map |mode='nearest'|unknown|threshold"):
        TRANSFORMS[name]({"label": mask(value), "image": image, "case": "a"})


def test_a_weak_label_may_be_unknown() -> None:
    bounds = ConstraintBoundsd(Size(classes=[1]), Individual(), "size", source="weak")
    found = bounds({"weak": mask(1, 255), "image": torch.rand(1, 8, 8)})["size_bounds"]
    assert found.tolist() == [[[16, 16]]]
    assert bounds({"weak": mask(0, 255), "image": torch.rand(1, 8, 8)})["size_bounds"].tolist() == [[[0, 0]]]


LOSSES = {
    "partial cross-entropy": PartialCrossEntropy(softmax=True),
    "of one class": PartialCrossEntropy(classes=[1], softmax=True),
    "partial Dice": PartialDice(softmax=True),
    "size principle": SizePrincipleLoss(softmax=True),
}


@pytest.mark.parametrize("value", [-1, -100, 2, 254, 256])
@pytest.mark.parametrize("name", [*LOSSES, "weights", "proposals"])
def test_losses(name: str, value: int) -> None:
    logits = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    call: dict[str, Callable[[Tensor], Tensor]] = {
        "weights": lambda y: VoxelWeightedCrossEntropy(softmax=True)(logits, y, torch.ones(2, 1, 8, 8)),
        "proposals": lambda y: ProposalCrossEntropy(Size(classes=[1]), softmax=True)(
            logits, torch.tensor([[[[3.0, 9.0]]]] * 2), known=y
        ),
        **{one: lambda y, loss=loss: loss(logits, y) for one, loss in LOSSES.items()},  # type: ignore[misc]
    }
    good = torch.stack([mask(1, 255), mask(0, 255)])
    assert call[name](good).isfinite()
    good[1, 0, 3, 3] = value
    with pytest.raises(ValueError, match=rf"holds \[{value}\]; expected classes 0 to 1, or 255 = unknown; map them"):
        call[name](good)


def test_bounds_beyond_the_image(caplog: pytest.LogCaptureFixture) -> None:
    sample: dict[Any, Any] = {"label": mask(1), "image": torch.rand(1, 8, 8), "case": "a"}
    quiet = [
        BOUNDS, ConstraintBoundsd(Size(classes=[1]), Common(1, 64), "size"),
        ConstraintBoundsd(Centroid(classes=[1]), Individual(absolute=20), "place"),
    ]  # fmt: skip
    for transform in quiet:
        transform(sample)
    assert not caplog.records
    large = ConstraintBoundsd(Root(Size(classes=[1])), Common(1, 65), "size")
    for _ in range(2):
        large(sample)
    ConstraintBoundsd(Centroid(classes=[1]), Common(-10, 99), "place")(sample)
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 2 and all("case a: " in text and "beyond the image" in text for text in texts)
    assert "Size is 0.0 to 64.0" in texts[0] and "Centroid is [0.0, 0.0] to [7.0, 7.0]" in texts[1]
    for statistic, rule in (
        (Size(classes=[1]), Common(65, 70)), (Centroid(classes=[1]), Common(8, 9)),
        (Centroid(classes=[1]), Common(-3, -1)),
    ):  # fmt: skip
        caplog.clear()
        ConstraintBoundsd(statistic, rule, "x")(sample)
        assert "case a: x_bounds are" in caplog.text and "beyond the image" in caplog.text
    caplog.clear()
    values = ConstraintBoundsd(Centroid(classes=[1]), Individual(absolute=1), "x", source=Values("guess"))
    values({"image": sample["image"], "guess": [[3, 30]], "case": "a"})
    assert "beyond the image" in caplog.text


def test_empty_images_and_crops_are_warnings(caplog: pytest.LogCaptureFixture) -> None:
    image, label = torch.rand(2, 8, 8, 3), torch.zeros(1, 8, 8, 3)
    label[0, 1:5, 1:5] = 1
    sample: dict[Any, Any] = {"image": image, "label": label, "case": "b"}
    with caplog.at_level(logging.WARNING):
        ScalePercentilesd("image", channel_wise=True)(sample)
        ToGridd(["image", "label"], padded_size=[6, 6], spatial_size=[4, 4])(sample)
        ToGridd(["image"], padded_size=[2, 2], spatial_size=[4, 4])(sample)
        assert not caplog.records
        image[1] = 5
        ScalePercentilesd("image", channel_wise=True)(sample)
        image[:, :, 1:] = 5
        image[:] = 5
        image[0, 2, 2, 0] = 9
        ScalePercentilesd("image")(sample)
        ToGridd(["image", "label"], padded_size=[4, 8], spatial_size=[4, 4])(sample)
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 3
    assert "case b, image, channel 1: all voxels have one value, 5" in texts[0]
    assert "case b, image: almost all voxels have one value, 5" in texts[1]
    assert "case b, label: 25 % of the structures are cut off by padded_size" in texts[2]
