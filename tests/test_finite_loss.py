from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

import monai_constraints.handlers.finite_loss as finite_loss
from monai_constraints.handlers import FiniteLoss, ModelFile, Resume


class Loss(nn.Module):
    """Two terms, of which one is not finite at a step."""

    last: dict[str, torch.Tensor] = {}


def train(folder: Path, bad_step: int, *, value: float = math.nan, every: int = 1, device: str = "cpu") -> Engine:
    loss = Loss()
    network = nn.Linear(1, 1)

    def step(engine: Engine, batch: Any) -> dict[str, torch.Tensor]:
        here = value if engine.state.iteration == bad_step else 1.0
        loss.last = {"ce": torch.tensor(1.0, device=device), "size": torch.tensor(here, device=device)}
        return {"loss": loss.last["ce"] + loss.last["size"]}

    trainer = Engine(step)
    trainer.network = network  # type: ignore[attr-defined]
    Resume(folder / "checkpoint.pt", save={"network": network}).attach(trainer)
    FiniteLoss(loss, every=every).attach(trainer)
    ModelFile(folder / "model.pt", network).attach(trainer)
    data = [{"case": [f"a{n}", f"b{n}"], "slice": torch.tensor([n, 7])} for n in range(3)]
    trainer.run(data, max_epochs=3)
    return trainer


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_first_loss_that_is_not_finite_is_named(tmp_path: Path, value: float) -> None:
    (tmp_path / "model.pt").write_text("an earlier one")
    with pytest.raises(FloatingPointError) as error:
        train(tmp_path, 5, value=value)
    text = str(error.value)
    assert f"the term size is {value} in epoch 2, step 5, on a1 slice 1, b1 slice 7" in text
    assert "The last checkpoint is that of epoch 1" in text and "term ce" not in text
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["trainer"]["epoch"] == 1
    assert (tmp_path / "model.pt").read_text() == "an earlier one"
    train(tmp_path, 0)
    assert torch.load(tmp_path / "model.pt", weights_only=True)["bias"].shape == (1,)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    network = nn.Linear(2, 1)

    def step(engine: Engine, batch: Any) -> torch.Tensor:
        if engine.state.iteration == 4:
            network.bias.data.fill_(math.inf)
        return torch.tensor(1.0)

    trainer = Engine(step)
    trainer.network = network  # type: ignore[attr-defined]
    Resume(tmp_path / "checkpoint.pt", save={"network": network}).attach(trainer)
    FiniteLoss().attach(trainer)
    with pytest.raises(FloatingPointError, match="after epoch 2 weights of the network are not finite"):
        trainer.run(range(2), max_epochs=2)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["trainer"]["epoch"] == 1


def test_it_comes_before_what_follows_at_the_end_of_an_epoch(tmp_path: Path) -> None:
    done: list[int] = []
    trainer = Engine(lambda e, b: torch.tensor(math.nan))
    FiniteLoss().attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda e: done.append(e.state.epoch))
    with pytest.raises(FloatingPointError):
        trainer.run(range(2), max_epochs=1)
    assert done == []
    with pytest.raises(ValueError, match="every=0"):
        FiniteLoss(every=0)


@pytest.mark.parametrize(("every", "looks"), [(2, 6), (50, 3)])
def test_where_reading_waits_several_steps_are_looked_at_at_once(
    every: int, looks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's way, on tensors of the CPU: every so many steps and at the end of an epoch of three, not at each."""
    monkeypatch.setattr(finite_loss, "_reading_waits", lambda total: True)
    stack, seen = torch.stack, list[int]()

    def counting(tensors: Any) -> torch.Tensor:
        if tensors[0].dtype != torch.bool:  # of the weights
            seen.append(len(tensors))
        return stack(tensors)

    monkeypatch.setattr(torch, "stack", counting)
    train(tmp_path, 0, every=every)
    assert len(seen) == looks and sum(seen) == 9
    with pytest.raises(FloatingPointError, match="the term size is nan in epoch 2, step 5, on a1 slice 1"):
        train(tmp_path, 5, every=every)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_several_steps_at_once(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="step 5, on a1 slice 1"):
        train(tmp_path, 5, every=50, device="cuda")
