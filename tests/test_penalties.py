from __future__ import annotations

import math
from collections.abc import Callable

import loops
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from monai_constraints.constraints import (
    Hinge,
    LogBarrier,
    Penalty,
    Quadratic,
    Size,
    StandardLogBarrier,
    duality_gap_bound,
)
from monai_constraints.losses import ConstraintLoss

PARAMETERS = st.floats(0.3, 1e4)
RESIDUALS = st.floats(-1e6, 1e6)


def value_and_slope(penalty: Penalty, z: Tensor) -> tuple[Tensor, Tensor]:
    z = z.clone().requires_grad_()
    value = penalty(z)
    value.sum().backward()
    return value.detach(), z.grad


def float64(*z: float) -> Tensor:
    return torch.tensor(z, dtype=torch.float64)


@pytest.mark.parametrize("t", [0.5, 1.0, 5.0, 37.0])
@pytest.mark.parametrize(
    "make, loop",
    [
        (lambda t: Quadratic(), loops.quadratic),
        (lambda t: Hinge(), loops.hinge),
        (lambda t: LogBarrier(t), loops.log_barrier),
    ],
)
def test_values_and_slopes_are_those_of_the_equation(
    make: Callable[[float], Penalty], loop: Callable[[float, float], float], t: float
) -> None:
    knee = -1 / t**2
    z = [-1e4, -30.0, -1.0, 3 * knee, 1.01 * knee, 0.99 * knee, 0.5 * knee, 0.25, 3.0, 1e4]
    value, gradient = value_and_slope(make(t), torch.tensor(z).reshape(2, 5))
    torch.testing.assert_close(value.flatten().double(), float64(*[loop(x, t) for x in z]), rtol=1e-5, atol=1e-6)
    steps = [(loop(x + h, t) - loop(x - h, t)) / (2 * h) for x, h in ((x, 1e-6 * abs(x)) for x in z)]
    torch.testing.assert_close(gradient.flatten().double(), float64(*steps), rtol=1e-4, atol=1e-6)


@given(t=PARAMETERS)
@settings(max_examples=100, deadline=None)
def test_the_barrier_is_continuously_differentiable_at_its_knee(t: float) -> None:
    knee = -1 / t**2
    value, gradient = value_and_slope(LogBarrier(t), float64(knee * (1 + 1e-9), knee, knee * (1 - 1e-9)))
    assert value[0].item() == pytest.approx(value[2].item(), abs=3e-9 / t)
    assert value[1].item() == pytest.approx(2 * math.log(t) / t, abs=1e-12)
    assert gradient.tolist() == pytest.approx([t, t, t], rel=1e-8)


def test_the_barrier_crosses_its_knee_smoothly_in_float32() -> None:
    for t in (1.0, 5.0, 100.0, 1e4):
        z = torch.linspace(1.001, 0.999, 2001) * -(t**-2)
        value, gradient = value_and_slope(LogBarrier(t), z)
        expected = torch.tensor([loops.log_barrier(x, t) for x in z.tolist()])
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(gradient, torch.full_like(z, t), rtol=1.1e-3, atol=0)
        assert (gradient.diff() >= -2e-7 * t).all()


@given(t=PARAMETERS, z=RESIDUALS)
@settings(max_examples=200, deadline=None)
def test_the_derivative_of_the_barrier_is_the_dual_variable(t: float, z: float) -> None:
    barrier = LogBarrier(t)
    _, gradient = value_and_slope(barrier, float64(z))
    assert gradient.item() == pytest.approx(loops.dual(z, t), rel=1e-9)
    assert barrier.dual(float64(z)).item() == pytest.approx(loops.dual(z, t), rel=1e-9)


@given(t=PARAMETERS, z=st.lists(RESIDUALS, min_size=2, max_size=9))
@settings(max_examples=200, deadline=None)
def test_the_dual_variable_is_monotone_and_in_its_range(t: float, z: list[float]) -> None:
    dual = LogBarrier(t).dual(float64(*sorted(z)))
    assert (dual.diff() >= -1e-12 * t).all()
    assert (dual > 0).all() and (dual <= t * (1 + 1e-12)).all()


@given(t=PARAMETERS, ends=st.tuples(RESIDUALS, RESIDUALS))
@settings(max_examples=200, deadline=None)
def test_the_barrier_is_convex(t: float, ends: tuple[float, float]) -> None:
    left, middle, right = LogBarrier(t)(float64(ends[0], sum(ends) / 2, ends[1])).tolist()
    assert middle <= (left + right) / 2 + 1e-9 * max(1, abs(left), abs(right))


@pytest.mark.parametrize("t", [10.0**n for n in range(10)])
def test_values_and_gradients_are_finite_everywhere(t: float) -> None:
    knee = -1 / t**2
    tiny = [0.0, -0.0, knee, 1e-45, -1e-45, 1e-38, -1e-38, -1e-30]
    z = torch.tensor([*tiny, *[sign * 10.0**n for sign in (1, -1) for n in range(-12, 9)]])
    for penalty in (Quadratic(), Hinge(), LogBarrier(t, t_max=1e9)):
        value, gradient = value_and_slope(penalty, z)
        assert value.isfinite().all() and gradient.isfinite().all(), (penalty, t)
        assert (gradient >= 0).all()


@pytest.mark.parametrize("t", [10.0**n for n in range(10)])
def test_gradients_of_the_loss_are_finite_under_autocast(t: float) -> None:
    """z from -1e8 to 1e8 through the whole loss, in half precision."""
    ends = [sign * 10.0**n for sign in (1, -1) for n in range(9)]
    bounds = torch.tensor([(end, end) for end in ends]).reshape(len(ends), 1, 1, 2)
    for penalty in (Quadratic(), Hinge(), LogBarrier(t, t_max=1e9)):
        logits = torch.randn(len(ends), 2, 4, 5, requires_grad=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = ConstraintLoss(Size(classes=[1]), penalty, softmax=True)(logits * 1, bounds)
        value.backward()
        assert value.dtype == torch.float32 and value.isfinite(), (penalty, t)
        assert logits.grad.isfinite().all() and logits.grad.any(), (penalty, t)


def test_only_the_barrier_pushes_back_on_a_satisfied_constraint() -> None:
    z = torch.tensor([-2.0, -0.5, -0.1])
    for penalty in (Quadratic(), Hinge()):
        value, gradient = value_and_slope(penalty, z)
        assert not value.any() and not gradient.any()
    _, gradient = value_and_slope(LogBarrier(5), z)
    assert gradient.tolist() == pytest.approx([0.1, 0.4, 2.0])


def test_t_is_capped_and_positive() -> None:
    barrier = LogBarrier(5)
    barrier.t = 5 * 1.1**178
    assert barrier.t == 1e4
    assert LogBarrier(1e12, t_max=1e9).t == 1e9
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="LogBarrier: t must be > 0, got"):
            barrier.t = wrong
        with pytest.raises(ValueError, match="StandardLogBarrier: t must be > 0, got"):
            StandardLogBarrier(wrong)
    assert barrier.t == 1e4


@given(t=PARAMETERS, z=st.floats(-1e6, -1e-6))
@settings(max_examples=100, deadline=None)
def test_the_standard_barrier_is_its_equation(t: float, z: float) -> None:
    value, gradient = value_and_slope(StandardLogBarrier(t), float64(z))
    assert value.item() == pytest.approx(loops.standard_log_barrier(z, t), rel=1e-9, abs=1e-12)
    assert gradient.item() == pytest.approx(-1 / (t * z), rel=1e-9)


def test_the_standard_barrier_says_why_it_needs_a_feasible_point() -> None:
    with pytest.raises(ValueError, match=r"2 of 4 constraints.*largest z=3\).*feasible starting point.*LogBarrier"):
        StandardLogBarrier(5)(torch.tensor([[-1.0, 3.0], [0.0, -2.0]]))


@pytest.mark.parametrize("t", [1.5, 5.0, 100.0, 1e4])
def test_the_gap_of_a_convex_problem_with_a_closed_form(t: float) -> None:
    # minimise x subject to x >= 1: the minimiser of x + psi_t(1 - x) is 1 + 1/t, its gap exactly PN/t = 1/t.
    barrier = LogBarrier(t)
    x = root(lambda x: 1 - barrier.dual(float64(1 - x)).item())
    assert x == pytest.approx(1 + 1 / t, abs=1e-9)
    assert x - 1 <= duality_gap_bound(1, 1, t) * (1 + 1e-6)
    assert x - 1 == pytest.approx(duality_gap_bound(1, 1, t), rel=1e-4)


@pytest.mark.parametrize("t", [2.0, 5.0, 100.0])
def test_the_gap_with_several_constraints_and_samples(t: float) -> None:
    # minimise the sum of three x_n subject to x_n >= 1 and x_n >= 0.5, so P = 2 and N = 3; the optimum is 3.
    barrier = LogBarrier(t)
    x = root(lambda x: 1 - barrier.dual(float64(1 - x, 0.5 - x)).sum().item())
    assert x >= 1
    assert 0 < 3 * x - 3 <= duality_gap_bound(2, 3, t)
    assert duality_gap_bound(2, 3, t) == 6 / t


def root(slope: Callable[[float], float]) -> float:
    """Where an increasing derivative is zero, in [0, 10]."""
    low, high = 0.0, 10.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return (low + high) / 2
