"""The regional losses of thesis 4.3.2: MONAI's as terms, the faster Hausdorff loss, the U-Net's cross-entropy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.losses import FocalLoss, GeneralizedDiceLoss, HausdorffDTLoss
from test_boundary import labels
from torch import Tensor

from monai_constraints import Term, WeightedSum
from monai_constraints.losses import HausdorffMapLoss, OnLogits, VoxelWeightedCrossEntropy
from monai_constraints.transforms import BorderWeightd

FITTING: dict[str, Any] = {
    "gdl": (GeneralizedDiceLoss(to_onehot_y=True), GeneralizedDiceLoss(to_onehot_y=True, softmax=True)),
    "hausdorff": (HausdorffMapLoss(to_onehot_y=True), HausdorffDTLoss(to_onehot_y=True, softmax=True)),
    "focal": (OnLogits(FocalLoss(use_softmax=True, to_onehot_y=True)), FocalLoss(use_softmax=True, to_onehot_y=True)),
}


@pytest.mark.parametrize("shape", [(2, 11, 13), (2, 6, 7, 5)])
@pytest.mark.parametrize("name", FITTING)
def test_monais_losses_are_terms(name: str, shape: tuple[int, ...]) -> None:
    """From probabilities and integer labels, the value and gradient that MONAI gets from logits."""
    mine, theirs = FITTING[name]
    label = labels(*shape)
    label[1] = 0  # a slice without foreground
    x = (5 * torch.randn(2, 4, *shape[1:])).requires_grad_()
    ours = WeightedSum({name: Term(mine, "label")})(x, {"label": label.to(torch.uint8)})
    expected = theirs(x, label)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-7)
    gradients = [torch.autograd.grad(loss, x)[0] for loss in (ours, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_one_sigmoid_channel() -> None:
    label, x = labels(2, 11, 13, classes=2), torch.randn(2, 1, 11, 13)
    focal = FocalLoss()
    ours = WeightedSum({"focal": Term(OnLogits(focal, sigmoid=True), "label")}, sigmoid=True)(x, {"label": label})
    torch.testing.assert_close(ours, focal(x, label))
    ours = WeightedSum({"hd": Term(HausdorffMapLoss(include_background=True), "label")}, sigmoid=True)
    expected = HausdorffDTLoss(include_background=True, sigmoid=True)(x, label.float())
    torch.testing.assert_close(ours(x, {"label": label}), expected)


def test_a_confident_mistake_keeps_its_gradient() -> None:
    x = torch.tensor([60.0, 0.0]).reshape(1, 2, 1, 1).requires_grad_()
    OnLogits(FocalLoss(use_softmax=True, to_onehot_y=True))(x.softmax(1), torch.ones(1, 1, 1, 1)).backward()
    assert x.grad is not None and x.grad[0, 1] < -0.1


def weight_loop(label: np.ndarray, *, w0: float, sigma: float, spacing: tuple[float, ...]) -> np.ndarray:
    """u_c(p) of thesis 4.3.2 for integer classes, from distances between all pairs of voxels."""
    at = [np.array(p) * spacing for p in np.ndindex(*label.shape)]
    flat = label.ravel()
    weight = np.zeros(label.size)
    for p, c in enumerate(flat):
        nearest = math.inf
        for k in range(1, int(flat.max()) + 1):
            others = [np.linalg.norm(at[p] - at[q]) for q in range(len(flat)) if (flat[q] == k) != (c == k)]
            if others:
                nearest = min(nearest, min(others) - (min(spacing) if c == k else 0))
        weight[p] = (flat == c).mean() + w0 * math.exp(-(nearest**2) / (2 * sigma**2))
    return weight.reshape(label.shape)


@pytest.mark.parametrize("shape", [(8, 9), (5, 4, 6)])
def test_border_weight_equals_a_loop(shape: tuple[int, ...]) -> None:
    label = labels(1, *shape, classes=3)[0]
    got = BorderWeightd(classes=[1, 2])({"label": label.to(torch.uint8)})["border_weight"]
    assert got.shape == (1, *shape) and got.dtype == torch.float32
    expected = weight_loop(label[0].numpy(), w0=10, sigma=5, spacing=(1.0,) * len(shape))
    np.testing.assert_allclose(got[0], expected, rtol=1e-5)
    spacing = (0.7, 1.5, 4.0)[: len(shape)]
    loaded = MetaTensor(label, affine=torch.diag(torch.tensor([*spacing, *[1.0] * (4 - len(shape))])))
    expected = weight_loop(label[0].numpy(), w0=3, sigma=2, spacing=spacing)
    given: list[tuple[Any, Any]] = [({"label": loaded}, {"spacing": None})]
    given += [({"label": label, "s": spacing}, {"spacing_key": "s"})]
    for sample, options in given:
        got = BorderWeightd(classes=[0, 1, 2], w0=3, sigma=2, **options)(sample)["border_weight"]
        np.testing.assert_allclose(got[0], expected, rtol=1e-5)


def test_border_weight_without_a_boundary_and_by_slice() -> None:
    volume = torch.zeros(1, 6, 5, 4, dtype=torch.uint8)
    volume[:, 2:4, 2:4, 1], volume[..., 3] = 1, 1
    weigh = BorderWeightd(classes=[1], slice_axis=-1)({"label": volume})["border_weight"]
    assert torch.equal(weigh[..., 0], torch.ones(1, 6, 5)) and torch.equal(weigh[..., 3], torch.ones(1, 6, 5))
    for z in range(4):
        alone = BorderWeightd(classes=[1])({"label": volume[..., z]})["border_weight"]
        torch.testing.assert_close(weigh[..., z], alone)
    with pytest.raises(ValueError, match="sigma=0"):
        BorderWeightd(classes=[1], sigma=0)


@pytest.mark.parametrize("channels", [1, 2])
def test_weighted_cross_entropy_equals_a_loop(channels: int) -> None:
    label, weight = labels(2, 5, 6, classes=2), torch.rand(2, 1, 5, 6)
    x = torch.randn(2, channels, 5, 6)
    options = {"sigmoid": True} if channels == 1 else {"softmax": True}
    p: Tensor = torch.cat([1 - x.sigmoid(), x.sigmoid()], 1) if channels == 1 else x.softmax(1)
    total = 0.0
    for b, _, i, j in np.ndindex(*label.shape):
        total -= float(weight[b, 0, i, j]) * math.log(float(p[b, int(label[b, 0, i, j]), i, j]))
    loss = VoxelWeightedCrossEntropy(**options)(x, label, MetaTensor(weight))
    assert float(loss) == pytest.approx(total / label.numel(), rel=1e-5)
    term = Term(VoxelWeightedCrossEntropy(), "label", arguments={"weight": "border_weight"})
    summed = WeightedSum({"ce": term}, sigmoid=channels == 1)(x, {"label": label, "border_weight": weight})
    torch.testing.assert_close(summed, loss)
    with pytest.raises(ValueError, match=r"weight \(2, 1, 5, 5\) does not fit"):
        VoxelWeightedCrossEntropy(**options)(x, label, weight[..., 1:])
