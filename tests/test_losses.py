"""The constraint loss against the loop."""

from __future__ import annotations

from functools import partial

import loops
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_constraints.constraints import (
    Centroid,
    Hinge,
    LogBarrier,
    MeanIntensity,
    Penalty,
    Quadratic,
    Size,
    Spread,
    StandardLogBarrier,
    Statistic,
)
from monai_constraints.losses import ConstraintLoss

INF = float("inf")
# B, C, *S; K = 2 classes. Channels of the image: 1.
SHAPES = [(3, 4, 5, 6), (3, 4, 5, 6, 7)]
CLASSES = [3, 1]
LOOPS: dict[type[Statistic], loops.Loop] = {
    Size: loops.size,
    Centroid: loops.centroid,
    Spread: loops.spread,
    MeanIntensity: loops.mean_intensity,
}
PENALTIES = [
    (Quadratic(), loops.quadratic),
    (Hinge(), loops.hinge),
    (LogBarrier(2), partial(loops.log_barrier, t=2)),
]


def bounds_around(values: Tensor) -> Tensor:
    """Satisfied, violated and inactive sides, none of them at a kink."""
    f = values.float()
    bounds = torch.stack([f - 0.7, f + 0.9], dim=-1)
    bounds[0, ..., 0] += 1.5  # violated from below
    bounds[1, 0, :, 1] -= 2.1  # and from above
    bounds[2, 1, :, 0], bounds[1, 1, :, 1] = -INF, INF
    return bounds


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("penalty, psi", PENALTIES)
@pytest.mark.parametrize("statistic", LOOPS)
def test_unreduced_loss_is_that_of_the_loop(
    statistic: type[Statistic], penalty: Penalty, psi: loops.Loop, shape: tuple[int, ...]
) -> None:
    p, image = torch.rand(shape).softmax(1), torch.randn(shape[0], 1, *shape[2:])
    f = loops.values(LOOPS[statistic], p, CLASSES, image)
    bounds = bounds_around(f)
    loss = ConstraintLoss(statistic(classes=CLASSES), penalty, reduction="none")
    voxels = p[0, 0].numel()
    got = loss(p, bounds, image=image)
    torch.testing.assert_close(got.double(), loops.sides(f, bounds, psi) / voxels, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("divide", [True, False])
def test_reductions(divide: bool) -> None:
    p = torch.rand(3, 4, 5, 6).softmax(1)
    f = loops.values(loops.centroid, p, CLASSES)
    bounds = bounds_around(f)
    total = float(loops.sides(f, bounds, loops.quadratic).sum()) / (30 if divide else 1)
    expected = {"sum": total, "batchmean": total / 3, "mean": total / (3 * 2 * 2)}  # B; B, K and M
    for reduction, value in expected.items():
        loss = ConstraintLoss(
            Centroid(classes=CLASSES),
            Quadratic(),
            reduction=reduction,  # type: ignore[arg-type]
            divide_by_voxels=divide,
        )
        assert loss(p, bounds).item() == pytest.approx(value, rel=1e-4), reduction


@pytest.mark.parametrize("penalty, psi", PENALTIES)
@pytest.mark.parametrize("statistic", LOOPS)
def test_gradient_is_that_of_the_loop(statistic: type[Statistic], penalty: Penalty, psi: loops.Loop) -> None:
    p, image = (0.1 + torch.rand(3, 4, 3, 5)).requires_grad_(), torch.randn(3, 1, 3, 5)
    loop = partial(loops.values, LOOPS[statistic], classes=CLASSES, image=image)
    bounds = bounds_around(loop(region=p))
    ConstraintLoss(statistic(classes=CLASSES), penalty)(p, bounds, image=image).backward()
    expected = loops.slope(lambda s: float(loops.sides(loop(region=s), bounds, psi).sum()) / (15 * 3), p)
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(p.grad.double(), expected, rtol=5e-3, atol=1e-6)


def test_a_group_is_the_volume() -> None:
    volume = torch.rand(1, 4, 5, 6, 7).softmax(1)
    slices = volume[0].movedim(-1, 0)
    bounds = torch.tensor([[[60.0, 62.0]], [[-INF, 40.0]]])
    for penalty, _ in PENALTIES:
        whole = ConstraintLoss(Size(classes=CLASSES), penalty, divide_by_voxels=False)
        grouped = ConstraintLoss(Size(classes=CLASSES), penalty, pooling="group", divide_by_voxels=False)
        expected = whole(volume, bounds[None])
        got = grouped(slices, bounds.expand(7, 2, 1, 2), group=["v"] * 7)
        torch.testing.assert_close(got, expected)


def test_groups_are_averaged_and_divided_by_the_voxels_of_a_slice() -> None:
    p, names = torch.rand(5, 3, 4, 6), ["b", "a", "b", "a", "a"]
    bounds = {"a": torch.tensor([[[0.0, 20.0]]]), "b": torch.tensor([[[30.0, 50.0]]])}
    loss = ConstraintLoss(Size(classes=[2]), Quadratic(), pooling="group")
    got = loss(p, torch.stack([bounds[name] for name in names]), group=names)
    total = 0.0
    for name in "ab":
        size = sum(loops.size(p[n, 2].double().numpy())[0] for n in range(5) if names[n] == name)
        a, b = bounds[name].flatten().tolist()
        total += loops.quadratic(a - size) + loops.quadratic(size - b)
    assert total > 0
    assert got.item() == pytest.approx(total / 2 / 24, rel=1e-4)


@pytest.mark.parametrize("penalty", [Quadratic(), Hinge(), LogBarrier(0.5), LogBarrier(1e4), StandardLogBarrier(3)])
@pytest.mark.parametrize("statistic", LOOPS)
def test_infinite_bounds_give_zero_loss_and_zero_gradient(statistic: type[Statistic], penalty: Penalty) -> None:
    logits = (30 * torch.randn(3, 4, 5, 6)).requires_grad_()
    m = 2 if statistic in (Centroid, Spread) else 1
    bounds = torch.tensor([-INF, INF]).expand(3, 2, m, 2)
    loss = ConstraintLoss(statistic(classes=CLASSES), penalty, softmax=True)
    value = loss(logits, bounds, image=torch.randn(3, 1, 5, 6))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("t", [1.0, 1e4, 1e9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_huge_volumes_under_autocast_stay_finite(dtype: torch.dtype, t: float) -> None:
    p = torch.full((1, 2, 300, 302), 0.5, dtype=dtype)  # a size of 45300, its complement's bound beyond float16's range
    p[:, 1] = 0.9
    p.requires_grad_()
    bounds = torch.tensor([[[[0.0, 10.0]], [[1e8, INF]]]])
    for penalty in (Quadratic(), Hinge(), LogBarrier(t, t_max=1e9)):
        loss = ConstraintLoss(Size(), penalty)
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(p, bounds)
        assert value.dtype == torch.float32 and value.isfinite()
        (gradient,) = torch.autograd.grad(value / t, p)
        assert gradient.isfinite().all()
    expected = (0.9 if dtype == torch.float32 else float(p[0, 1, 0, 0].detach())) * 300 * 302
    assert Size(classes=[1])(p).item() == pytest.approx(expected, rel=1e-6)


def test_a_users_penalty_runs_outside_autocast() -> None:
    class Watched(Penalty):
        def __call__(self, z: Tensor, index: Tensor | None = None) -> Tensor:
            assert z.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
            return z.relu()

    with torch.autocast("cpu", torch.bfloat16):
        ConstraintLoss(Size(), Watched(), softmax=True)(torch.randn(3, 4, 5, 6).bfloat16(), torch.zeros(3, 4, 1, 2))


def test_activations_and_temperature() -> None:
    logits, bounds = torch.randn(3, 4, 5, 6), torch.tensor([2.0, 3.0]).expand(3, 2, 1, 2)
    plain = ConstraintLoss(Size(classes=CLASSES), Quadratic())
    for softmax, probabilities in ((True, (5 * logits).softmax(1)), (False, (5 * logits).sigmoid())):
        loss = ConstraintLoss(Size(classes=CLASSES), Quadratic(), softmax=softmax, sigmoid=not softmax, temperature=5)
        torch.testing.assert_close(loss(logits, bounds), plain(probabilities, bounds))
    with pytest.raises(ValueError, match="softmax=True and sigmoid=True exclude each other"):
        ConstraintLoss(Size(), Quadratic(), softmax=True, sigmoid=True)
    with pytest.raises(ValueError, match="temperature must be > 0, got 0"):
        ConstraintLoss(Size(), Quadratic(), temperature=0)
    with pytest.raises(ValueError, match="softmax=True on one channel"):
        ConstraintLoss(Size(), Quadratic(), softmax=True)(logits[:, :1], bounds[:, :1])


def test_metatensors_give_a_plain_loss() -> None:
    logits, bounds = torch.randn(3, 4, 5, 6), torch.tensor([2.0, 3.0]).expand(3, 2, 1, 2)
    loss = ConstraintLoss(Size(classes=CLASSES), Quadratic(), softmax=True)
    got = loss(MetaTensor(logits), bounds)
    assert type(got) is Tensor and torch.equal(got, loss(logits, bounds))


def test_errors_name_the_shapes() -> None:
    p = torch.rand(3, 4, 5, 6)
    loss = ConstraintLoss(Size(classes=CLASSES), Quadratic())
    with pytest.raises(ValueError, match=r"bounds \(3, 4, 1, 2\) do not fit .*\(3, 2, 1\).*classes"):
        loss(p, torch.zeros(3, 4, 1, 2))
    for shape in ((2, 2, 1, 2), (3, 2, 2)):
        with pytest.raises(ValueError, match=r"for B=3 samples and classes=\(3, 1\); make them \(B, K, M, 2\)"):
            loss(p, torch.zeros(shape))
    with pytest.raises(ValueError, match=r"bounds \(3, 2, 2, 2\) do not fit .*\(3, 2, 1\)"):
        loss(p, torch.zeros(3, 2, 2, 2))
    with pytest.raises(ValueError, match=r"classes=\[4\], but the input has 4 channels"):
        ConstraintLoss(Size(classes=[4]), Quadratic())(p, torch.zeros(3, 1, 1, 2))
    with pytest.raises(ValueError, match=r"expected an input of \(B, C, H, W\).*got \(4, 5, 6\)"):
        loss(p[0], torch.zeros(3, 2, 1, 2))
    with pytest.raises(ValueError, match="no groups"):
        ConstraintLoss(Size(), Quadratic(), pooling="group")(p, torch.zeros(3, 4, 1, 2))
    with pytest.raises(ValueError, match="reduction='average'; choose batchmean, mean, sum, none"):
        ConstraintLoss(Size(), Quadratic(), reduction="average")  # type: ignore[arg-type]
