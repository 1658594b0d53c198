from __future__ import annotations

import loops
import pytest
import torch
from torch import Tensor

from monai_constraints.constraints import GroupPooling, Individual, LogBarrier, Quadratic, Root, Size, Spread, Statistic
from monai_constraints.losses import ConstraintLoss
from monai_constraints.metrics import ConstraintSatisfaction
from monai_constraints.transforms import ConstraintBoundsd

INF = float("inf")


@pytest.mark.parametrize("statistic, loop", [(Size, loops.size), (Spread, loops.spread)])
@pytest.mark.parametrize("shape", [(3, 5, 6, 7), (2, 4, 5, 6, 7)])
def test_the_loss_is_that_of_the_roots(statistic: type[Statistic], loop: loops.Loop, shape: tuple[int, ...]) -> None:
    p, classes = torch.rand(shape).softmax(1), [3, 1]
    f = loops.values(loop, p, classes)
    bounds = (f[..., None] * torch.tensor([1.2, 0.7], dtype=torch.float64)).sort().values.float()
    bounds[0, :, :, 0], bounds[1, :, :, 1] = -INF, INF
    root = Root(statistic(classes=classes))
    got = ConstraintLoss(root, Quadratic(), reduction="none")(p, root.link(bounds))
    rooted = torch.where(bounds.isfinite(), bounds.clamp_min(0).sqrt(), bounds)
    expected = loops.sides(f.sqrt(), rooted, loops.quadratic)
    torch.testing.assert_close(got.double(), expected / p[0, 0].numel(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("wanted", [9.0, 400.0])
def test_a_voxel_feels_how_far_off_the_size_is_relative_to_its_bound(wanted: float) -> None:
    slopes = []
    for statistic in (Size(), Root(Size())):
        p = torch.full((1, 1, 25, 24), 1.02 * wanted / 600, requires_grad=True)
        bounds = statistic.link(torch.tensor([0.0, wanted]).reshape(1, 1, 1, 2))
        ConstraintLoss(statistic, Quadratic(), divide_by_voxels=False)(p, bounds).backward()
        assert p.grad is not None
        slopes.append(p.grad[0, 0, 3, 4].item())
    assert slopes[0] == pytest.approx(2 * 0.02 * wanted, rel=1e-3)
    assert slopes[1] == pytest.approx(0.02 / 2, rel=0.02)


def test_an_absent_class_costs_what_is_predicted() -> None:
    p = torch.rand(1, 1, 4, 5, requires_grad=True)
    loss = ConstraintLoss(Root(Size()), Quadratic(), divide_by_voxels=False)
    assert loss(p, torch.zeros(1, 1, 1, 2)).item() == pytest.approx(p.sum().item(), rel=1e-4)
    for lower in (0.0, 3.0):
        empty = torch.zeros(1, 1, 4, 5, requires_grad=True)
        value = loss(empty, torch.tensor([lower, INF]).reshape(1, 1, 1, 2))
        value.backward()
        assert empty.grad is not None and empty.grad.isfinite().all()
        assert value.item() == pytest.approx(lower**2, abs=1e-6)


@pytest.mark.parametrize("size", [4.0, 40.0, 400.0])
def test_the_barrier_on_the_root_wants_the_middle_of_the_bounds_the_penalty_any_size_in_them(size: float) -> None:
    root = Root(Size())
    bounds = root.link(torch.tensor([[[[0.9 * size, 1.1 * size]]]]))
    factors = torch.linspace(0.8, 1.2, 401)
    fields = [torch.full((1, 1, 32, 32), float(f) * size / 1024) for f in factors]
    barrier, penalty = (
        torch.stack([ConstraintLoss(root, psi)(field, bounds) for field in fields])
        for psi in (LogBarrier(t=5), Quadratic())
    )
    assert float(factors[barrier.argmin()]) == pytest.approx(1.0, abs=0.01)
    inside = (factors > 0.901) & (factors < 1.099)
    assert not penalty[inside].any() and (penalty[(factors < 0.899) | (factors > 1.101)] > 0).all()


def volume() -> tuple[Tensor, Tensor]:
    """Probabilities of four slices (B, C, H, W), and the label (1, H, W, B) of their volume."""
    label = torch.zeros(1, 8, 9, 4, dtype=torch.uint8)
    label[:, 2:5, 3:7, 1:] = 1
    return torch.rand(4, 2, 8, 9).softmax(1), label


def test_the_root_of_a_volume_is_of_the_sum_over_its_slices() -> None:
    p, label = volume()
    root = Root(Size(classes=[1]))
    bounds = ConstraintBoundsd(root, Individual(relative=0.1), "size")({"label": label})["size_bounds"]
    assert bounds.flatten().tolist() == pytest.approx([(0.9 * 36) ** 0.5, (1.1 * 36) ** 0.5])
    loss = ConstraintLoss(root, Quadratic(), pooling="group", divide_by_voxels=False)
    got = loss(p, bounds.expand(4, 1, 1, 2), group=["v"] * 4)
    assert got.item() == pytest.approx((float(p[:, 1].sum()) ** 0.5 - (1.1 * 36) ** 0.5) ** 2, rel=1e-4)
    pooled, _ = GroupPooling()(root.measure(p), bounds.expand(4, 1, 1, 2), ["v"] * 4)
    assert root.value(pooled, root.centre((8, 9), p.device)).item() == pytest.approx(float(p[:, 1].sum()) ** 0.5)


def test_roots_are_satisfied_where_the_sizes_are() -> None:
    p, label = volume()
    results = []
    for statistic in (Size(classes=[1]), Root(Size(classes=[1]))):
        bounds = ConstraintBoundsd(statistic, Individual(relative=0.4), "size")({"label": label[..., 2]})["size_bounds"]
        metric = ConstraintSatisfaction(statistic)
        metric((p > 0.5).float(), bounds.expand(4, 1, 1, 2), index=torch.arange(4))
        results.append(metric.aggregate())
    for share in ("satisfied", "lower_held", "upper_held"):
        assert results[0][share] == results[1][share]
    assert 0 < results[0]["lower_held"] + results[0]["upper_held"] < 2
    assert 0 < results[1]["violation"] < results[0]["violation"]
