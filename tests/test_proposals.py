from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize
from torch import Tensor

from monai_constraints.constraints import Centroid, ExactProposals, LegacyProposals, Size, Statistic, tilting
from monai_constraints.constraints.statistic import Feature
from monai_constraints.losses import PartialCrossEntropy, ProposalCrossEntropy, Term, WeightedSum


class Halves(Statistic):
    """The sum in the left and, negative, in the right half: two linear values of different signs."""

    linear = True

    def features(self, coordinates: Sequence[Tensor], image: Tensor | None, boxes: Tensor | None) -> Sequence[Feature]:
        left = (coordinates[-1] < 0).float()
        return [left * 2, left - 1]

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        return sums


def softmax(seed: int, *shape: int, sharp: float = 2.0) -> Tensor:
    return (sharp * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).softmax(1)


def sums(y: Tensor, phi: Tensor, classes: Sequence[int]) -> Tensor:
    return y[:, list(classes)].flatten(2) @ phi.double().mT


@given(
    seed=st.integers(0, 10**6),
    channels=st.integers(2, 4),
    sharp=st.sampled_from([0.1, 2.0, 8.0]),
    two_values=st.booleans(),
    constrained=st.sets(st.integers(0, 3), min_size=1),
)
@example(seed=1209, channels=2, sharp=0.1, two_values=True, constrained={0, 1})  # a flat direction
@settings(max_examples=60, deadline=None)
def test_the_conditions_of_optimality(
    seed: int, channels: int, sharp: float, two_values: bool, constrained: set[int]
) -> None:
    """Karush, Kuhn and Tucker, for bounds that some distribution satisfies."""
    classes = sorted({k % channels for k in constrained})
    s = softmax(seed, 3, channels, 4, 5, sharp=sharp)
    statistic: Statistic = Halves(classes=classes) if two_values else Size(classes=classes)
    phi = statistic.feature_maps((4, 5), s.device, None)
    values = sums(softmax(seed + 1, 3, channels, 4, 5), phi, classes)
    margin = torch.rand((2, *values.shape), generator=torch.Generator().manual_seed(seed)).double() * 2
    bounds = torch.stack([values - margin[0], values + margin[1]], -1)
    bounds[0] = values[0, ..., None]  # a = b
    bounds[1, 0, 0, 0] = -torch.inf
    bounds[2, -1, -1, 1] = torch.inf
    exact = ExactProposals()
    y, eta = exact(s, phi, bounds, classes), exact.multipliers(s, phi, bounds, classes)
    torch.testing.assert_close(y.sum(1), torch.ones(3, 4, 5, dtype=torch.float64))
    f, (a, b) = sums(y, phi, classes), bounds.unbind(-1)
    assert (f >= a - 1e-9).all() and (f <= b + 1e-9).all()
    assert (torch.where(eta > 0, f - a, torch.where(eta < 0, f - b, 0.0)).abs() < 1e-9).all()
    # Stationarity (A.9): log y - log s + sum lambda a is the same for all classes of a voxel.
    stationary = (y.log() - s.log()).flatten(2)
    stationary[:, classes] -= eta @ phi.double()
    torch.testing.assert_close(stationary, stationary[:, :1].expand_as(stationary), rtol=0, atol=1e-8)


def test_inside_the_bounds_nothing_changes() -> None:
    s = softmax(0, 2, 3, 4, 5)
    wide = torch.tensor([0.0, 20.0]).expand(2, 2, 1, 2)
    for proposals in (ExactProposals(), LegacyProposals()):
        y = proposals(s, torch.ones(1, 20), wide, [1, 2])
        hard = torch.nn.functional.one_hot(s.argmax(1)).movedim(-1, 1)
        expected = s if isinstance(proposals, ExactProposals) else hard
        torch.testing.assert_close(y, expected.double(), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("bounds", "expected"), [((9.0, 11.0), 9.0), ((1.0, 2.0), 2.0), ((3.5, 3.5), 3.5)])
def test_one_size_is_the_root_of_one_equation(bounds: tuple[float, float], expected: float) -> None:
    s = softmax(3, 1, 2, 4, 5)
    logit = (s[0, 1] / s[0, 0]).log()
    root = brentq(lambda eta: float((logit + eta).sigmoid().sum()) - expected, -50, 50, xtol=1e-13)
    exact = ExactProposals()
    given_ = (s, torch.ones(1, 20), torch.tensor(bounds).reshape(1, 1, 1, 2), [1])
    assert exact.multipliers(*given_).item() == pytest.approx(root, rel=1e-10)
    torch.testing.assert_close(exact(*given_)[0, 1], (logit + root).sigmoid(), rtol=1e-9, atol=0)


def test_no_distribution_within_the_bounds_is_nearer() -> None:
    """Against a general solver on the primal problem, without the dual."""
    s = softmax(5, 1, 3, 2, 3)
    bounds = torch.tensor([[2.5, 3.0], [0.2, 0.4]]).reshape(1, 2, 1, 2)
    y = ExactProposals()(s, torch.ones(1, 6), bounds, [1, 2]).flatten()
    q = s.flatten().numpy()

    def divergence(x: torch.Tensor) -> float:
        x = torch.as_tensor(x).clamp_min(1e-12)
        return float((x * (x.log() - torch.as_tensor(q).log())).sum())

    constraints = [{"type": "eq", "fun": lambda x: x.reshape(3, 6).sum(0) - 1}]
    for k, (a, b) in zip((1, 2), bounds[0, :, 0].tolist()):
        constraints.append({"type": "ineq", "fun": lambda x, k=k, a=a: x.reshape(3, 6)[k].sum() - a})
        constraints.append({"type": "ineq", "fun": lambda x, k=k, b=b: b - x.reshape(3, 6)[k].sum()})
    found = minimize(divergence, q, constraints=constraints, bounds=[(1e-9, 1)] * 18, method="SLSQP", tol=1e-12)
    assert found.success
    assert divergence(y.numpy()) == pytest.approx(found.fun, rel=1e-5)
    torch.testing.assert_close(y, torch.as_tensor(found.x), rtol=0, atol=1e-3)


@pytest.mark.parametrize("classes", [[1], [1, 2]])
@pytest.mark.parametrize("sharp", [1.0, 300.0])
def test_it_works_on_the_saturated_float32_of_a_network(classes: list[int], sharp: float) -> None:
    s = (sharp * torch.randn(4, 3, 16, 16)).softmax(1)
    bounds = torch.tensor([[90.0, 110.0], [0.0, 0.0], [5.0, 5.0], [-torch.inf, torch.inf]]).reshape(4, 1, 1, 2)
    bounds = bounds.expand(4, len(classes), 1, 2)
    y = ExactProposals()(s, torch.ones(1, 256), bounds, classes)
    assert y.dtype == torch.float32 and y.isfinite().all()
    f = sums(y.double(), torch.ones(1, 256), classes)[..., 0]
    assert (f[0] > 89.999).all() and (f[0] < 110.001).all()
    assert (f[1] == 0).all()
    torch.testing.assert_close(f[2], torch.full_like(f[2], 5), rtol=1e-5, atol=0)
    torch.testing.assert_close(y[3], s[3])


def test_impossible_bounds_leave_finite_targets() -> None:
    s = softmax(1, 2, 3, 4, 5).float()
    too_much = torch.tensor([15.0, 18.0]).expand(2, 2, 1, 2)  # of 20 voxels, for two classes
    y = ExactProposals()(s, torch.ones(1, 20), too_much, [1, 2])
    assert y.isfinite().all()
    torch.testing.assert_close(y.sum(1), torch.ones(2, 4, 5))
    all_of_it = ExactProposals()(s, torch.ones(1, 20), torch.tensor([30.0, 40.0]).expand(2, 1, 1, 2), [1])
    torch.testing.assert_close(all_of_it[:, 1], torch.ones(2, 4, 5))


def published(
    s: Tensor, known: list[int], a: float, b: float, steps: int, rate: float, early_stop: bool
) -> tuple[list[int], int]:
    """Algorithm 4 for one class of two, one image and number at a time, and how many steps it took."""
    fixed = [float(label) if label < 2 else p for p, label in zip(s.tolist(), known)]
    raising = lowering = 0.0
    a = -1.0 if a == b == 0 else a
    u: list[float] = []
    for step in range(steps):
        tilt = math.exp(raising - lowering)
        u = [p * tilt / (1 - p + p * tilt) for p in fixed]  # (A.12)
        new = max(0.0, lowering + rate * (sum(u) - b)), max(0.0, raising + rate * (a - sum(u)))  # (A.13)
        if early_stop and abs(lowering - new[0]) / (lowering + 1e-10) < 1e-3:
            break
        lowering, raising = new
    return [int(p > 0.5) for p in u], step


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("labelled", [0.0, 0.1])
@pytest.mark.parametrize("steps, rate, side", [(500, 5e-5, 48), (60, 5e-3, 20)])
def test_legacy_is_the_published_loop(steps: int, rate: float, side: int, labelled: float, early_stop: bool) -> None:
    voxels = side**2
    draw = torch.Generator().manual_seed(side)
    s = softmax(8, 6, 2, side, side, sharp=0.5)
    truth = (s[:, :1] < torch.rand(6, 1, side, side, generator=draw, dtype=torch.float64)).long()
    known = torch.where(torch.rand(truth.shape, generator=draw) < labelled, truth, 255)
    parts = torch.tensor([[0.0, 0.0], [0.7, 0.9], [0.05, 0.15], [0.25, 0.75], [0.3, 0.35], [0.45, 0.48]])
    bounds = parts * voxels
    y = LegacyProposals(steps=steps, rate=rate, early_stop=early_stop)(
        s, torch.ones(1, voxels), bounds.reshape(6, 1, 1, 2), [1], known=known if labelled else None
    )
    assert set(y.unique().tolist()) == {0.0, 1.0} and (y.sum(1) == 1).all()
    taken = []
    for image, labels, (a, b), mask in zip(s[:, 1].flatten(1), known.flatten(1), bounds.tolist(), y[:, 1].flatten(1)):
        expected, step = published(image, labels.tolist(), a, b, steps, rate, early_stop)
        taken.append(step)
        assert mask.tolist() == expected
    # A stop at once where the size starts below its upper bound, else somewhere on the way.
    assert (taken[1], taken[3]) == ((0, 0) if early_stop else (steps - 1, steps - 1))
    assert not early_stop or 10 < min(taken[0], taken[2], taken[4]) < steps - 1


def test_the_last_step_of_the_published_loop_is_not_used() -> None:
    s, bounds = softmax(8, 1, 2, 20, 20, sharp=0.5), torch.tensor([0.0, 40.0]).reshape(1, 1, 1, 2)
    made = [LegacyProposals(steps=n, rate=1e-3)(s, torch.ones(1, 400), bounds, [1]) for n in (1, 2, 3)]
    masks = [y[0, 1].flatten() for y in made]
    for n, mask in enumerate(masks, start=1):
        assert mask.tolist() == published(s[0, 1].flatten(), [255] * 400, 0.0, 40.0, n, 1e-3, True)[0]
    assert torch.equal(masks[0], (s[0, 1].flatten() > 0.5).double())
    assert masks[0].sum() > masks[1].sum() > masks[2].sum()


@pytest.mark.parametrize("classes", [[1], [2, 1]])
def test_labelled_voxels_keep_their_class_and_count(classes: list[int]) -> None:
    s = softmax(4, 3, 3, 6, 7)
    known = torch.where(torch.rand(3, 1, 6, 7, generator=torch.Generator().manual_seed(0)) < 0.3, 1, 255)
    known[:, :, 0], known[:, :, 1] = 2, 0
    bounds = torch.tensor([14.0, 15.0]).expand(3, len(classes), 1, 2)
    y = ExactProposals()(s, torch.ones(1, 42), bounds, classes, known=known)
    for k in range(3):
        assert (y[:, k : k + 1][known == k] == 1).all()
    f = sums(y, torch.ones(1, 42), classes)
    assert (f > 14 - 1e-6).all() and (f < 15 + 1e-6).all()
    torch.testing.assert_close(y.sum(1), torch.ones(3, 6, 7, dtype=torch.float64))
    # What is left is tilted by one number a class (A.12).
    free = (known == 255).expand_as(s)
    tilt = (y / s).log()
    for k in classes:
        differences = (tilt[:, k] - tilt[:, 0])[free[:, 0]].split(free[:, 0].flatten(1).sum(1).tolist())
        assert all(float(d.std()) < 1e-6 for d in differences)
    with pytest.raises(ValueError, match=r"known \(3, 6, 7\) .*expected integer classes .* = \(3, 1, 6, 7\)"):
        ExactProposals()(s, torch.ones(1, 42), bounds, classes, known=known[:, 0])


def test_the_published_early_stop_never_enlarges() -> None:
    s = softmax(8, 1, 2, 4, 5, sharp=0.5)
    bounds = torch.tensor([14.0, 18.0]).reshape(1, 1, 1, 2)  # both sizes start near 10
    sizes = [
        float(LegacyProposals(rate=5e-2, early_stop=stop)(s, torch.ones(1, 20), bounds, [1])[:, 1].sum())
        for stop in (True, False)
    ]
    assert sizes[0] == float((s[:, 1] > 0.5).sum()) < 13 < sizes[1]


@pytest.mark.parametrize("proposals", [ExactProposals(), LegacyProposals(rate=5e-2, early_stop=False)])
def test_loss_is_the_cross_entropy_towards_a_fixed_proposal(proposals: ExactProposals | LegacyProposals) -> None:
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    bounds = torch.tensor([[[9.0, 11.0]], [[2.0, 3.0]]]).expand(2, 2, 1, 2)
    loss = ProposalCrossEntropy(Size(classes=[1, 2]), proposals, softmax=True)
    got = loss(logits, bounds)
    s = logits.softmax(1).detach()
    y = proposals(s, torch.ones(1, 20), bounds, [1, 2])
    assert got.item() == pytest.approx(float(-(y * s.log()).sum() / 40), rel=1e-5)
    got.backward()
    torch.testing.assert_close(logits.grad, (s - y) / 40, rtol=1e-4, atol=1e-7)
    whole = ProposalCrossEntropy(Size(classes=[1, 2]), proposals, softmax=True, reduction="none")(logits, bounds)
    assert whole.shape == (2, 1, 4, 5) and whole.mean().item() == pytest.approx(got.item())


def test_a_size_is_reached_by_training_on_proposals() -> None:
    logits = torch.randn(2, 2, 8, 8).requires_grad_()
    loss = WeightedSum(
        {
            "ce": Term(PartialCrossEntropy(), "weak", weight=0.1),
            "size": Term(ProposalCrossEntropy(Size(classes=[1])), "size_bounds"),
        }
    )
    bounds = torch.tensor([[9.0, 11.0], [0.0, 0.0]]).reshape(2, 1, 1, 2)
    targets = {"weak": torch.full((2, 1, 8, 8), 255), "size_bounds": bounds}
    optimizer = torch.optim.SGD([logits], lr=64)
    for _ in range(60):
        optimizer.zero_grad()
        loss(logits, targets).backward()
        optimizer.step()
    size = logits.softmax(1)[:, 1].sum((1, 2)).tolist()
    assert size[0] == pytest.approx(11, abs=0.1) and size[1] < 2


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="Centroid is not a sum over voxels.*use ConstraintLoss"):
        ProposalCrossEntropy(Centroid(classes=[1]))
    s, one = softmax(0, 1, 2, 4, 5), torch.ones(1, 20)
    with pytest.raises(ValueError, match=r"bounds \(1, 1, 2, 2\), expected \(B, K, M, 2\) = \(1, 1, 1, 2\)"):
        ExactProposals()(s, one, torch.zeros(1, 1, 2, 2), [1])
    with pytest.raises(ValueError, match="one channel has no distribution"):
        ExactProposals()(s[:, :1], one, torch.zeros(1, 1, 1, 2), [0])
    with pytest.raises(ValueError, match="reduction='average'"):
        ProposalCrossEntropy(Size(), reduction="average")  # type: ignore[arg-type]


def test_one_class_everywhere_leaves_nothing_for_the_others() -> None:
    s = softmax(1, 2, 3, 4, 5).float()
    bounds = torch.tensor([[20.0, 20.0], [0.0, 20.0]]).reshape(1, 2, 1, 2).expand(2, 2, 1, 2)
    y = ExactProposals()(s, torch.ones(1, 20), bounds, [2, 0])
    torch.testing.assert_close(y[:, 2], torch.ones(2, 4, 5))
    assert y.isfinite().all() and not y[:, :2].any()


def test_voxels_that_are_alike_are_solved_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    evaluate = tilting._negative_dual

    def counting(*problem: Any) -> Any:
        counted.append(1)
        return evaluate(*problem)

    monkeypatch.setattr(tilting, "_negative_dual", counting)
    probabilities = torch.tensor([0.4, 0.3, 0.2, 0.1]).reshape(1, 4, 1, 1).expand(1, 4, 8, 8)
    bounds = torch.tensor([[3.0, 4.0], [20.0, 22.0], [9.0, 9.0]]).reshape(1, 3, 1, 2)
    y = ExactProposals()(probabilities, torch.ones(1, 64), bounds, [1, 2, 3])
    assert torch.allclose(y[0, 1:].sum((1, 2)), torch.tensor([4.0, 20.0, 9.0]))
    assert len(counted) == 2
