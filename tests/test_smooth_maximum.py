"""Smooth maxima along straight and oblique lines of boxes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from monai_constraints.constraints import LogBarrier, Patch, SmoothMaximum, residuals
from monai_constraints.losses import ConstraintLoss

BOX = torch.tensor([[[[[2, 9], [3, 14]]]]])
SHAPE = (13, 17)


@pytest.mark.parametrize("kind", ["softmax", "quasimax"])
def test_each_line_against_a_loop(kind: Any) -> None:
    s, alpha = torch.rand(1, 1, *SHAPE), 6.0
    found = SmoothMaximum(kind=kind, alpha=alpha)(s, boxes=BOX)[0, 0].tolist()
    for number, line in enumerate([s[0, 0, i, 3:14] for i in range(2, 9)]):
        values = line.double().tolist()
        weights = [math.exp(alpha * v) for v in values]
        if kind == "softmax":
            expected = sum(v * w for v, w in zip(values, weights)) / sum(weights)
        else:
            expected = math.log(sum(weights)) / alpha - math.log(len(values)) / alpha
        assert found[number] == pytest.approx(expected, abs=1e-5)
    assert found[7] == 0 and len(found) == sum(SHAPE)


@pytest.mark.parametrize("angle", [10.0, 30.0, 45.0])
def test_oblique_lines_against_a_loop(angle: float) -> None:
    """A line goes one column on and round(slope) rows down; it counts if it stays in the box from side to side."""
    s = torch.rand(1, 1, *SHAPE)
    statistic = SmoothMaximum(angles=[angle])
    found = statistic(s, boxes=BOX)[0, 0]
    bounds = statistic.tight(BOX, SHAPE)[0, 0]
    (low, high), (left, right) = BOX[0, 0, 0].tolist()
    place = sum(SHAPE)
    for sign in (1, -1):
        for axis in (0, 1):
            a, b, c, d = (low, high, left, right) if axis == 0 else (left, right, low, high)
            side = SHAPE[1 - axis]
            shift = [int(np.float32(np.round(np.float32(sign * math.tan(math.radians(angle))) *
                     np.float32(x - (side - 1) / 2)))) for x in range(side)]  # fmt: skip
            lines = []
            for start in range(-40, 60):
                points = [(start + shift[x], x) for x in range(c, d)]
                if all(a <= y < b for y, _ in points):
                    lines.append(points)
            for number, points in enumerate(lines):
                values = torch.stack([s[0, 0][p if axis == 0 else p[::-1]] for p in points]).double()
                weights = torch.exp(4 * values)
                expected = float((values * weights).sum() / weights.sum())
                assert float(found[place + number]) == pytest.approx(expected, abs=1e-5)
                assert bounds[place + number].tolist() == [0.5, float("inf")]
            assert not bounds[place + len(lines) : place + SHAPE[axis]].isfinite().any()
            place += SHAPE[axis]
    assert place == len(found) == len(bounds)


def test_an_ellipse_satisfies_the_lines_of_its_box_also_of_a_loose_one() -> None:
    y, x = np.mgrid[:40, :48]
    mask = torch.from_numpy((((y - 19) / 12) ** 2 + ((x - 22) / 17) ** 2 <= 1).astype(np.float32))[None, None]
    statistic = SmoothMaximum(alpha=20, angles=[15, 30])
    rows, columns = mask[0, 0].any(1).nonzero().flatten(), mask[0, 0].any(0).nonzero().flatten()
    tight = torch.tensor([[int(rows[0]), int(rows[-1]) + 1], [int(columns[0]), int(columns[-1]) + 1]])
    for margin in (0, 4):
        boxes = (tight + margin * torch.tensor([-1, 1]))[None, None, None]
        bounds = statistic.tight(boxes, (40, 48), margin=margin)
        assert bounds.isfinite().sum() > 60
        assert float(residuals(statistic(mask, boxes=boxes), bounds).max()) <= 0
    boxes = (tight + 4 * torch.tensor([-1, 1]))[None, None, None]
    assert float(residuals(statistic(mask, boxes=boxes), statistic.tight(boxes, (40, 48))).max()) > 0


def test_of_several_boxes_each_has_its_values_together() -> None:
    two = torch.cat([BOX, torch.tensor([[[[[0, 5], [0, 5]]]]])], 2)
    s, statistic = torch.rand(1, 1, *SHAPE), SmoothMaximum(angles=[20])
    found, bounds = statistic(s, boxes=two).unflatten(-1, (2, -1)), statistic.tight(two, SHAPE).unflatten(2, (2, -1))
    for j in range(2):
        torch.testing.assert_close(found[:, :, j], statistic(s, boxes=two[:, :, j : j + 1]))
        torch.testing.assert_close(bounds[:, :, j], statistic.tight(two[:, :, j : j + 1], SHAPE))


def test_straight_lines_add_over_patches_and_oblique_ones_refuse_them() -> None:
    s, statistic = torch.rand(1, 1, *SHAPE), SmoothMaximum()
    parts = [
        statistic.measure(part, boxes=BOX, patch=Patch(torch.tensor([[first, 0]]), torch.tensor([SHAPE])))
        for part, first in ((s[:, :, :6], 0), (s[:, :, 6:], 6))
    ]
    torch.testing.assert_close(parts[0] + parts[1], statistic.measure(s, boxes=BOX))
    with pytest.raises(ValueError, match="pass it whole"):
        patch = Patch(torch.tensor([[0, 0]]), torch.tensor([SHAPE]))
        SmoothMaximum(angles=[20]).measure(s, boxes=BOX, patch=patch)


def test_gradients_are_finite_on_sharp_logits() -> None:
    for kind in ("softmax", "quasimax"):
        statistic = SmoothMaximum(kind=kind, alpha=60, angles=[20], classes=[1])  # type: ignore[arg-type]
        logits = (80 * torch.randn(1, 2, *SHAPE)).half().requires_grad_()
        loss = ConstraintLoss(statistic, LogBarrier(t=20), softmax=True)
        (gradient,) = torch.autograd.grad(loss(logits, statistic.tight(BOX, SHAPE), boxes=BOX), logits)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("given", [{"kind": "max"}, {"alpha": 0}, {"alpha": 100}, {"angles": [0]}, {"angles": [60]}])
def test_impossible_arguments_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="choose|give"):
        SmoothMaximum(**given)
