"""One channel or several, one output or many: read alike by every loss, by statistics, bounds and metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.losses import DeepSupervisionLoss
from torch import Tensor, nn

import monai_constraints.losses as losses
from monai_constraints.constraints import Centroid, Common, Individual, Quadratic, Size, Statistic
from monai_constraints.losses import (
    BoundaryMapLoss,
    ConsistencyLoss,
    ConstraintLoss,
    CRFLoss,
    HausdorffMapLoss,
    OnLogits,
    PartialCrossEntropy,
    PartialDice,
    ProposalCrossEntropy,
    SizePrincipleLoss,
    Term,
    VoxelWeightedCrossEntropy,
    WeightedSum,
)
from monai_constraints.metrics import ConstraintSatisfaction
from monai_constraints.transforms import ConstraintBoundsd, SignedDistanceMapd

SHAPE = (7, 6)
Make = Callable[..., nn.Module]


def bounds_of(statistic: Statistic, label: Tensor) -> Tensor:
    transform = ConstraintBoundsd(statistic, Common(1.5, 1.6), "it")  # which no prediction satisfies
    return torch.stack([transform({"label": one})["it_bounds"] for one in label])


def case(classes: list[int] | None = None) -> dict[str, Tensor]:
    """A batch whose labels have both classes, and unknown voxels in `weak`."""
    generator = torch.Generator().manual_seed(1)
    label = torch.randint(0, 2, (2, 1, *SHAPE), generator=generator)
    classes = classes or [1]
    maps = SignedDistanceMapd(classes=[0, 1], spacing="voxel")
    return {
        "label": label,
        "weak": torch.where(torch.rand(label.shape, generator=generator) < 0.3, 255, label),
        "image": torch.rand(2, 1, *SHAPE, generator=generator),
        "weight": torch.rand(2, 1, *SHAPE, generator=generator),
        "distance": torch.stack([maps({"label": one})["distance"][classes] for one in label]),
        "size": bounds_of(Size(classes=classes), label),
        "centroid": bounds_of(Centroid(classes=classes), label),
    }


LABELLED = ("weak",)
TAKING: dict[str, tuple[Make, tuple[str, ...]]] = {
    "PartialCrossEntropy": (PartialCrossEntropy, LABELLED),
    "PartialDice": (PartialDice, LABELLED),
    "SizePrincipleLoss": (SizePrincipleLoss, LABELLED),
    "BoundaryMapLoss": (BoundaryMapLoss, ("distance",)),
    "CRFLoss": (lambda **given: CRFLoss(radius=2, **given), ("image",)),
    "size": (lambda classes, **given: ConstraintLoss(Size(classes=classes), Quadratic(), **given), ("size",)),
    "centroid": (
        lambda classes, **given: ConstraintLoss(Centroid(classes=classes), Quadratic(), **given), ("centroid",)
    ),
}  # fmt: skip


@pytest.mark.parametrize("classes", [[1], [0], [0, 1], [1, 0]], ids=str)
@pytest.mark.parametrize("name", TAKING)
def test_one_sigmoid_channel_is_class_1(name: str, classes: list[int]) -> None:
    """The numbers and slopes of two channels under a softmax whose difference is the one channel."""
    make, keys = TAKING[name]
    batch = case(classes)
    x = torch.randn(2, 1, *SHAPE, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    one = make(classes=classes, sigmoid=True)(x, *(batch[key] for key in keys))
    two = make(classes=classes, softmax=True)(torch.cat([-y / 2, y / 2], 1), *(batch[key] for key in keys))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    one.backward()
    two.backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-3, atol=1e-5)
    assert x.grad is not None and x.grad.abs().max() > 0


def test_losses_without_classes() -> None:
    """Labels of both classes count; a size principle and a map without background are of the one channel."""
    batch, x = case(), torch.randn(2, 1, *SHAPE)
    two = torch.cat([-x / 2, x / 2], 1)
    for name in ("PartialCrossEntropy", "PartialDice", "SizePrincipleLoss"):
        make, keys = TAKING[name]
        given = [batch[key] for key in keys]
        torch.testing.assert_close(make(sigmoid=True)(x, *given), make(softmax=True)(two, *given))
    weighted = VoxelWeightedCrossEntropy(sigmoid=True)(x, batch["weak"], batch["weight"])
    torch.testing.assert_close(
        weighted, VoxelWeightedCrossEntropy(softmax=True)(two, batch["weak"], batch["weight"])
    )
    torch.testing.assert_close(
        BoundaryMapLoss(sigmoid=True)(x, batch["distance"]),
        BoundaryMapLoss(classes=[1], softmax=True)(two, batch["distance"]),
    )
    monai: Any = {"include_background": False, "to_onehot_y": True}
    torch.testing.assert_close(
        HausdorffMapLoss(sigmoid=True)(x, batch["label"]),
        HausdorffMapLoss(softmax=True, **monai)(two, batch["label"]),
    )


def test_losses_that_need_two_channels_say_so() -> None:
    batch, p = case(), torch.rand(2, 1, *SHAPE)
    with pytest.raises(ValueError, match="one channel has no distribution over classes"):
        ProposalCrossEntropy(Size(classes=[1]))(p, batch["size"])
    with pytest.raises(ValueError, match="C >= 2"):
        ConsistencyLoss(nn.Identity())(p, batch["image"])
    with pytest.raises(ValueError, match=r"classes=\[2\], but the input has 1 channels, the structure being class 1"):
        ConstraintLoss(Size(classes=[2]), Quadratic())(p, batch["size"])


@pytest.mark.parametrize("classes", [[1], [0], [0, 1]], ids=str)
@pytest.mark.parametrize("statistic", [Size, Centroid])
def test_bounds_and_satisfaction_of_one_channel(statistic: Any, classes: list[int]) -> None:
    """A label satisfies its own bounds, as one channel and as two; its opposite does not."""
    label = torch.zeros(2, 1, *SHAPE, dtype=torch.long)
    label[0, 0, :2, :3] = 1
    label[1, 0, 4:, 1:] = 1
    f = statistic(classes=classes)
    rule = Individual(absolute=0.1)
    bounds = torch.stack([ConstraintBoundsd(f, rule, "it")({"label": one})["it_bounds"] for one in label])
    for mask, share in (
        (label, 1.0), (label == 1, 1.0), (torch.cat([1 - label, label], 1), 1.0), (1 - label, 0.0),
    ):  # fmt: skip
        metric = ConstraintSatisfaction(f)
        metric(mask, bounds, index=torch.arange(2))
        assert metric.aggregate()["satisfied"] == share


def every_loss() -> dict[str, tuple[nn.Module, list[Any]]]:
    """All that `losses` offers, with targets of a 2D image."""
    batch = case()
    network = nn.Conv2d(1, 2, 1)
    found: dict[str, tuple[nn.Module, list[Any]]] = {
        "PartialCrossEntropy": (PartialCrossEntropy(softmax=True), [batch["weak"]]),
        "PartialDice": (PartialDice(softmax=True), [batch["weak"]]),
        "SizePrincipleLoss": (SizePrincipleLoss(softmax=True), [batch["weak"]]),
        "BoundaryMapLoss": (BoundaryMapLoss(classes=[1], softmax=True), [batch["distance"]]),
        "CRFLoss": (CRFLoss(softmax=True), [batch["image"]]),
        "ConsistencyLoss": (ConsistencyLoss(network, softmax=True), [batch["image"]]),
        "ConstraintLoss": (ConstraintLoss(Size(classes=[1]), Quadratic(), softmax=True), [batch["size"]]),
        "ProposalCrossEntropy": (ProposalCrossEntropy(Size(classes=[1]), softmax=True), [batch["size"]]),
        "VoxelWeightedCrossEntropy": (VoxelWeightedCrossEntropy(softmax=True), [batch["weak"], batch["weight"]]),
        "HausdorffMapLoss": (HausdorffMapLoss(softmax=True, to_onehot_y=True), [batch["label"]]),
        "OnLogits": (OnLogits(PartialCrossEntropy(softmax=True)), [batch["weak"]]),
        "WeightedSum": (
            WeightedSum({"size": Term(ConstraintLoss(Size(classes=[1]), Quadratic()))}),
            [{"size_bounds": batch["size"], "image": batch["image"]}],
        ),
    }
    return found


def test_no_loss_is_forgotten() -> None:
    # ValueLoss takes numbers of images, not maps.
    assert set(every_loss()) == set(losses.__all__) - {"Term", "ValueLoss"}


@pytest.mark.parametrize("name", every_loss())
def test_deep_supervision_is_refused(name: str) -> None:
    loss, targets = every_loss()[name]
    x = torch.randn(2, 2, *SHAPE)
    loss(x, *targets)
    for several in ([x, x[..., ::2, ::2]], (x, x), {"out": x}):
        words = rf"{name}: expected one tensor .* got a .* of \d; .*deep_supervision=False"
        with pytest.raises(TypeError, match=words):
            loss(several, *targets)
    stacked = torch.stack([x, x, x], 1)
    if name in ("ConstraintLoss", "ProposalCrossEntropy"):  # bounds say nothing of the grid; in 3D the axes do
        with pytest.raises(ValueError, match=f"{name}: expected .*deep_supervision=False"):
            loss(stacked.unsqueeze(-1), *targets)
    else:
        with pytest.raises(ValueError, match=f"{name}: expected .* has an axis more; .*deep_supervision=False"):
            loss(stacked, *targets)


def test_statistics_and_metrics_refuse_them_too() -> None:
    f, x = Size(classes=[1]), torch.rand(2, 2, *SHAPE)
    with pytest.raises(TypeError, match="Size: expected one tensor"):
        f.measure([x, x])  # type: ignore[arg-type]
    metric = ConstraintSatisfaction(f)
    with pytest.raises(ValueError, match="Size: .* has an axis more"):
        metric(torch.stack([x, x], 1), torch.zeros(2, 1, 1, 2), index=torch.arange(2), image=x[:, :1])


def test_a_volume_with_its_image_is_none_of_that() -> None:
    x, image = torch.randn(2, 2, 3, *SHAPE), torch.rand(2, 1, 3, *SHAPE)
    terms = {"size": Term(ConstraintLoss(Size(classes=[1]), Quadratic()))}
    assert WeightedSum(terms)(x, {"size_bounds": torch.zeros(2, 1, 1, 2), "image": image}).isfinite()


def test_what_the_message_says_works() -> None:
    """MONAI's wrapper around a loss of ours."""
    loss, (target,) = PartialCrossEntropy(softmax=True), (case()["weak"],)
    x = torch.randn(2, 2, *SHAPE)
    wrapped = DeepSupervisionLoss(loss, weights=[1.0, 0.5])
    torch.testing.assert_close(wrapped([x, -x], target), loss(x, target) + 0.5 * loss(-x, target))
