from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.losses import BoundaryLoss, GeneralizedDiceLoss
from scipy import ndimage
from torch import Tensor

from monai_constraints import PartialCrossEntropy, Term, WeightedSum
from monai_constraints.handlers import Constant, Linear, Schedule
from monai_constraints.losses import BoundaryMapLoss
from monai_constraints.transforms import SignedDistanceMapd


def labels(*shape: int, classes: int = 4, seed: int = 0) -> Tensor:
    """(B, 1, *S) with some of each class."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), [0, *[2] * (len(shape) - 1)])
    edges = np.quantile(noise, np.linspace(0, 1, classes + 1)[1:-1])
    return torch.from_numpy(np.digitize(noise, edges))[:, None]


def maps(label: Tensor, classes: list[int]) -> Tensor:
    transform = SignedDistanceMapd(classes=classes, spacing="voxel", allow_others=True)
    return torch.stack([transform({"label": one})["distance"] for one in label])


def loop(p: Tensor, phi: Tensor) -> float:
    """(4.5), one voxel at a time."""
    total = 0.0
    for index in np.ndindex(*p.shape):
        total += float(p[index]) * float(phi[index])
    return total


@pytest.mark.parametrize("shape", [(2, 7, 9), (2, 5, 6, 4)])
@pytest.mark.parametrize("classes", [[1], [0, 1, 2, 3], [3, 1]])
def test_equals_a_loop(shape: tuple[int, ...], classes: list[int]) -> None:
    label = labels(*shape)
    phi = maps(label, classes)
    logits = torch.randn(2, 4, *shape[1:], requires_grad=True)
    p = logits.softmax(1)[:, classes].detach()
    for reduction, scale in (("mean", p.numel()), ("sum", 1)):
        criterion = BoundaryMapLoss(classes=classes, softmax=True, reduction=reduction)  # type: ignore[arg-type]
        loss = criterion(logits, phi)
        assert float(loss.detach()) == pytest.approx(loop(p, phi) / scale, rel=1e-4, abs=1e-5)
    none = BoundaryMapLoss(classes=classes, softmax=True, reduction="none")(logits, phi)
    torch.testing.assert_close(none, p * phi)
    loss = BoundaryMapLoss(classes=classes)(logits.softmax(1), phi)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all() and gradient.any()


def test_one_channel_two_channels_sigmoid_and_softmax_agree() -> None:
    phi = maps(labels(2, 7, 9, classes=2), [1])
    x = torch.randn(2, 1, 7, 9)
    two = torch.cat([torch.zeros_like(x), x], 1)
    expected = BoundaryMapLoss(classes=[1], softmax=True)(two, phi)
    torch.testing.assert_close(BoundaryMapLoss(sigmoid=True)(x, phi), expected)
    torch.testing.assert_close(BoundaryMapLoss(classes=[1], sigmoid=True)(x, phi), expected)
    torch.testing.assert_close(BoundaryMapLoss(classes=[1])(two.softmax(1), phi), expected)
    torch.testing.assert_close(BoundaryMapLoss()(x.sigmoid(), MetaTensor(phi)), expected)


def test_patches_add_up_to_the_volume() -> None:
    """Loss to 1e-5 and gradient too, for patches of different size and in one batch."""
    label = labels(1, 12, 16, 10)
    phi, x = maps(label, [1, 3]), torch.randn(1, 4, 12, 16, 10, requires_grad=True)
    whole = BoundaryMapLoss(classes=[1, 3], softmax=True)(x, phi)
    (expected,) = torch.autograd.grad(whole, x)
    patch = BoundaryMapLoss(classes=[1, 3], softmax=True, reduction="sum")
    cuts = (np.s_[..., :5, :16, :10], np.s_[..., 5:, :7, :10], np.s_[..., 5:, 7:, :4], np.s_[..., 5:, 7:, 4:])
    total = sum(patch(x[cut], phi[cut], voxels=label.numel()) for cut in cuts)
    torch.testing.assert_close(total, whole, rtol=1e-5, atol=1e-7)
    (gradient,) = torch.autograd.grad([torch.as_tensor(total)], x)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-9)
    halves = torch.cat([x[..., :5], x[..., 5:]]), torch.cat([phi[..., :5], phi[..., 5:]])
    batch = patch(*halves, voxels=torch.tensor([label.numel()] * 2))
    torch.testing.assert_close(batch, whole, rtol=1e-5, atol=1e-7)
    # A map of the patch alone is another map: the boundary may lie outside of it.
    assert not torch.allclose(maps(label[..., :5], [1, 3]), phi[..., :5])


def test_offset_is_zero_at_the_mask_and_nowhere_lower() -> None:
    label = labels(2, 7, 9)
    phi = maps(label, [0, 1, 2, 3])
    mask = torch.nn.functional.one_hot(label[:, 0], 4).movedim(-1, 1).float()
    loss, plain = BoundaryMapLoss(offset=True), BoundaryMapLoss()
    assert float(loss(mask, phi)) == 0
    x = torch.randn(2, 4, 7, 9, requires_grad=True)
    assert float(loss(x.softmax(1), phi).detach()) > 0
    gradients = [torch.autograd.grad(one(x.softmax(1), phi), x)[0] for one in (loss, plain)]
    torch.testing.assert_close(*gradients)
    assert float(plain(mask, phi)) < 0


@pytest.mark.parametrize("shape", [(3, 20, 24), (2, 10, 12, 8)])
@pytest.mark.parametrize("background", [True, False])
def test_agrees_with_monais_loss_on_isotropic_voxels(shape: tuple[int, ...], background: bool) -> None:
    label = labels(*shape)
    label[0] = 0  # a sample of background alone
    x = torch.randn(shape[0], 4, *shape[1:], requires_grad=True)
    classes = [0, 1, 2, 3][not background :]
    theirs = BoundaryLoss(include_background=background, to_onehot_y=True, softmax=True)(x, label)
    ours = BoundaryMapLoss(classes=classes, softmax=True)(x, maps(label, classes))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    gradients = [torch.autograd.grad(loss, x)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_half_precision_and_channels_last() -> None:
    phi = maps(labels(2, 7, 9), [1])
    x = torch.randn(2, 4, 7, 9)
    loss = BoundaryMapLoss(classes=[1], softmax=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(x.bfloat16(), phi).dtype == torch.float32
    torch.testing.assert_close(loss(x.to(memory_format=torch.channels_last), phi.double()), loss(x, phi))


@pytest.mark.parametrize(
    ("options", "channels", "phi", "message"),
    [
        ({}, 1, torch.zeros(2, 1, 5, 6, dtype=torch.int16), "map is torch.int16, expected floating point"),
        ({}, 2, torch.zeros(2, 1, 5, 6), r"map is \(2, 1, 5, 6\), the chosen probabilities \(2, 2, 5, 6\)"),
        ({"classes": [1]}, 2, torch.zeros(2, 1, 5, 7), r"map is \(2, 1, 5, 7\).*crop image, label and map together"),
        ({"classes": [1]}, 2, torch.zeros(2, 1, 5, 6, 3), "give the loss and SignedDistanceMapd the same classes"),
        ({"classes": [2]}, 2, torch.zeros(2, 1, 5, 6), r"classes=\[2\], but the input has 2 channels"),
        ({"softmax": True}, 1, torch.zeros(2, 1, 5, 6), "use sigmoid=True"),
    ],
)
def test_what_does_not_fit_is_named(options: dict[str, Any], channels: int, phi: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BoundaryMapLoss(**options)(torch.rand(2, channels, 5, 6), phi)


def test_bad_settings_are_named() -> None:
    for options, message in (({"reduction": "max"}, "reduction='max'"), ({"classes": [1, 1]}, "distinct")):
        with pytest.raises(ValueError, match=message):
            BoundaryMapLoss(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="voxels goes with reduction='sum'"):
        BoundaryMapLoss()(torch.rand(1, 1, 3, 3), torch.rand(1, 1, 3, 3), voxels=9)


def weighted(gdl: float, boundary: float) -> WeightedSum:
    return WeightedSum(
        {
            "gdl": Term(GeneralizedDiceLoss(to_onehot_y=True), "label", weight=gdl),
            "boundary": Term(BoundaryMapLoss(), "distance", weight=boundary),
        }
    )


def test_the_sum_warns_once_of_the_boundary_loss_alone_on_a_binary_task() -> None:
    targets = {"label": labels(2, 6, 7, classes=2), "distance": torch.rand(2, 2, 6, 7)}
    x = torch.randn(2, 2, 6, 7)
    alone, both = weighted(0, 1), weighted(0.1, 0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both(x, targets)
        several = {"label": labels(2, 6, 7, classes=3), "distance": torch.rand(2, 3, 6, 7)}
        weighted(0, 1)(torch.randn(2, 3, 6, 7), several)
        weighted(0, 0)(x, targets)
    with pytest.warns(UserWarning, match=r"\['boundary'\] alone on a binary task.*empty prediction"):
        alone(x, targets)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone(x, targets)
    both.weights["gdl"] = 0.0  # by a schedule that goes too far
    with pytest.warns(UserWarning, match="alone on a binary task"):
        both(x, targets)


ALPHA: dict[str, tuple[dict[str, Any], list[tuple[float, float]]]] = {
    # weights of (gdl, boundary) at epochs 1, 2, 90, 91, 100, 101, 300
    "constant": ({"boundary": Constant(0.5)}, [(1, 0.5)] * 7),
    "increase": (
        {"boundary": Linear(0.01, 0.01, maximum=1.0)},
        [(1, 0.01), (1, 0.02), (1, 0.9), (1, 0.91), (1, 1), (1, 1), (1, 1)],
    ),
    "rebalance": (
        {"gdl": Linear(0.99, -0.01, minimum=0.1), "boundary": Linear(0.01, 0.01, maximum=1.0)},
        [(0.99, 0.01), (0.98, 0.02), (0.1, 0.9), (0.1, 0.91), (0.1, 1), (0.1, 1), (0.1, 1)],
    ),
}


@pytest.mark.parametrize("name", ALPHA)
def test_alpha_is_a_closed_form_of_the_epoch(name: str) -> None:
    """Constant, increase and rebalance (4.3.4): the same whether trained through or resumed at that epoch."""
    forms, expected = ALPHA[name]
    seen: dict[int, tuple[float, float]] = {}
    for epochs in ([300], [1, 2, 90, 91, 100, 101, 300]):
        loss = weighted(1, 1)
        read = lambda engine, _: seen.setdefault(engine.state.epoch, tuple(loss.weights.values()))  # noqa: B023,E731
        trainer = Engine(read)  # type: ignore[arg-type]
        for term, form in forms.items():
            Schedule(loss, f"weights.{term}", form).attach(trainer)
        seen.clear()
        for epoch in epochs:
            if len(epochs) > 1:  # as after loading a checkpoint of the epoch before
                trainer.load_state_dict({"epoch": epoch - 1, "max_epochs": epoch, "epoch_length": 1})
            trainer.run([0], max_epochs=epoch)
        got = [seen[epoch] for epoch in (1, 2, 90, 91, 100, 101, 300)]
        np.testing.assert_allclose(got, expected, atol=1e-9)


def test_alone_on_a_binary_task_it_empties_and_a_regional_loss_prevents_that() -> None:
    """4.2, in small: one probability for all voxels, which is what a network learns first."""
    grid = torch.arange(24.0)
    label = ((grid[:, None] - 12) ** 2 + (grid - 12) ** 2 < 9).long()[None, None]
    targets = {"label": label, "distance": maps(label, [1])}
    sizes = []
    for weight in (0.0, 10.0):
        terms = {"ce": Term(PartialCrossEntropy(), "label"), "boundary": Term(BoundaryMapLoss(classes=[1]), "distance")}
        loss, bias = WeightedSum(terms), torch.zeros(2, requires_grad=True)
        loss.weights["ce"] = weight
        optimizer = torch.optim.Adam([bias], lr=0.1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(200):
                optimizer.zero_grad()
                loss(bias.reshape(1, 2, 1, 1).expand(1, 2, 24, 24), targets).backward()
                optimizer.step()
        sizes.append(float(bias.detach().softmax(0)[1]))
    assert sizes[0] < 0.002 and sizes[1] > 0.01
