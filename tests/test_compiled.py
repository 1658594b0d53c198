"""A compiled loss follows the schedules of its weights and penalties."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine

from monai_constraints.constraints import LogBarrier, Size
from monai_constraints.handlers import Linear, Schedule
from monai_constraints.losses import ConstraintLoss, PartialCrossEntropy, Term, WeightedSum

EPOCHS = 4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("backend", "through"), [("eager", "loss"), ("aot_eager", "compiled")])
def test_a_scheduled_weight_takes_effect(backend: str, through: str) -> None:
    torch._dynamo.reset()
    penalty = LogBarrier(t=5)
    loss = WeightedSum({
        "ce": Term(PartialCrossEntropy(classes=[1])),
        "size": Term(ConstraintLoss(Size(classes=[1]), penalty), weight=0.0),
    })  # fmt: skip
    compiled = torch.compile(loss, backend=backend)
    x = torch.randn(2, 2, 6, 5)
    targets = {
        "weak": torch.randint(0, 2, (2, 1, 6, 5)),
        "size_bounds": torch.tensor([[[[1.0, 3.0]]], [[[2.0, 4.0]]]]),
    }
    trainer, seen = Engine(lambda engine, batch: step()), []

    def step() -> None:
        values = []
        for one in (compiled, loss):
            given = x.clone().requires_grad_()
            value = one(given, targets)
            value.backward()
            values.append((value.detach(), given.grad, dict(loss.last)))
        (found, slope, terms), (expected, expected_slope, expected_terms) = values
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(slope, expected_slope)
        torch.testing.assert_close(terms, expected_terms)
        seen.append(float(found))

    Schedule(loss if through == "loss" else compiled, "weights.size", Linear(0.0, 1.0)).attach(trainer)
    Schedule(penalty, "t", Linear(5.0, 1.0)).attach(trainer)
    trainer.run([0], max_epochs=EPOCHS)
    assert len(set(seen)) == EPOCHS
