from __future__ import annotations

import csv
import math
import random
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.transforms import RandLambda
from torch.utils.data import SequentialSampler

from monai_constraints.handlers import (
    Constant,
    EpochSeed,
    Exponential,
    IntervalValidation,
    Linear,
    MetricsLog,
    Schedule,
)


@given(epoch=st.integers(1, 200), start=st.floats(0.1, 10), factor=st.floats(0.5, 1.5))
def test_exponential_is_repeated_multiplication(epoch: int, start: float, factor: float) -> None:
    expected = start
    for _ in range(epoch - 1):
        expected *= factor
    assert Exponential(start, factor)(epoch) == pytest.approx(expected, rel=1e-9)
    assert Exponential(start, factor, maximum=2.0)(epoch) == pytest.approx(min(expected, 2.0), rel=1e-9)


def test_exponential_does_not_overflow() -> None:
    assert Exponential(5, 1.1)(1) == 5
    assert Exponential(5, 1.1, maximum=1e4)(10**6) == 1e4
    assert Exponential(5, 1.1)(10**6) == math.inf
    with pytest.raises(ValueError, match="positive"):
        Exponential(0, 1.1)


def test_linear_and_constant() -> None:
    assert [Linear(0.01, 0.01)(e) for e in (1, 2, 3)] == pytest.approx([0.01, 0.02, 0.03])
    assert [Linear(0.3, -0.1, minimum=0.1)(e) for e in (1, 2, 3, 9)] == pytest.approx([0.3, 0.2, 0.1, 0.1])
    assert Linear(0, 1, maximum=4)(99) == 4
    assert Constant(7)(1) == Constant(7)(300) == 7
    with pytest.raises(ValueError, match="minimum"):
        Linear(0, 1, minimum=2, maximum=1)


def run(engine: Engine, *, epochs: int, start: int = 0, length: int = 2) -> None:
    """Run as if ``start`` epochs had been done in a process before."""
    if start:
        state = {"epoch": start, "max_epochs": epochs, "epoch_length": length}
        engine.load_state_dict(state)
    engine.run(range(length), max_epochs=epochs)


def test_schedule_sets_attribute_key_and_buffer() -> None:
    module = torch.nn.Module()
    module.register_buffer("t", torch.zeros(()))
    weights = {"size": 0.0, "other": 3.0}
    target: Any = SimpleNamespace(penalty=SimpleNamespace(t=0.0), weights=weights, module=module)
    engine = Engine(lambda e, b: None)
    for attribute in ("penalty.t", "weights.size", "module.t"):
        Schedule(target, attribute, Exponential(5, 1.1)).attach(engine)
    run(engine, epochs=3)
    expected = pytest.approx(5 * 1.1**2)
    assert target.penalty.t == expected
    assert target.weights == {"size": expected, "other": 3.0}
    assert float(module.t) == expected


def test_schedule_of_several_attributes_relative_to_what_they_are() -> None:
    def weights(start: int) -> list[dict[str, float]]:
        target = SimpleNamespace(weights={"size": 40.0, "tight": 3.0, "off": 0.0, "ce": 1.0})
        engine = Engine(lambda e, b: None)
        ramp = Linear(-1, 1, minimum=0, maximum=1)
        names = [f"weights.{name}" for name in ("size", "tight", "off")]
        schedule = Schedule(target, names, ramp, relative=True)
        schedule.attach(engine)
        schedule.attach(engine)  # a trainer that attaches again must not take a weight of an epoch for the whole
        seen: list[dict[str, float]] = []
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append(dict(target.weights)))
        run(engine, epochs=4, start=start)
        return seen

    none, whole = ({"size": 40.0 * f, "tight": 3.0 * f, "off": 0.0, "ce": 1.0} for f in (0, 1))
    assert weights(0) == [none, none, whole, whole]
    assert weights(2) == weights(0)[2:]
    with pytest.raises(TypeError):
        Schedule(SimpleNamespace(t="no"), "t", Constant(1), relative=True).attach(Engine(lambda e, b: None))


def test_schedule_is_right_after_resuming() -> None:
    def values(start: int) -> list[float]:
        target = SimpleNamespace(t=0.0)
        engine = Engine(lambda e, b: None)
        Schedule(target, "t", Linear(1, 0.5)).attach(engine)
        seen: list[float] = []
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append(target.t))
        run(engine, epochs=5, start=start)
        return seen

    assert values(0) == [1, 1.5, 2, 2.5, 3]
    assert values(2) == values(0)[2:]


@pytest.mark.parametrize("attribute", ["temperature", "weights.size", "missing.t"])
def test_schedule_names_what_is_missing(attribute: str) -> None:
    target = SimpleNamespace(t=1.0, weights={"partial_ce": 1.0})
    with pytest.raises(AttributeError, match=f"no '{attribute}'"):
        Schedule(target, attribute, Constant(1)).attach(Engine(lambda e, b: None))
    assert target.weights == {"partial_ce": 1.0}


class Sampler(SequentialSampler):
    epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs = [*self.epochs, epoch]


def draws(start: int, *, workers: int = 0, length: int = 3, seed: int = 7) -> list[Any]:
    """What epochs start+1..4 draw: Python, NumPy, PyTorch, the shuffled and randomly transformed data."""
    torch.manual_seed(1000 + start)  # a new process is in another random state
    data = Dataset(list(range(6)), Noise())
    loader = DataLoader(data, batch_size=2, shuffle=True, num_workers=workers)
    seen: list[Any] = []

    def step(engine: Engine, batch: torch.Tensor) -> None:
        drawn = (random.random(), np.random.rand(), torch.rand(()).item())
        seen.append((engine.state.epoch, batch.tolist(), *drawn))

    engine = Engine(step)
    EpochSeed(seed, data_loader=loader).attach(engine)
    if start:
        engine.load_state_dict({"epoch": start, "max_epochs": 4, "epoch_length": length})
    engine.run(loader, max_epochs=4, epoch_length=length)
    return seen


class Noise(RandLambda):
    """A value that shows the random state of the transform."""

    def __init__(self) -> None:
        super().__init__(func=None)

    def __call__(self, data: Any) -> Any:  # type: ignore[override]
        return float(data) + float(self.R.uniform()) / 2


@pytest.mark.parametrize(("workers", "length"), [(0, 3), (0, 2), (0, 5), (2, 3)])
def test_epoch_seed_draws_the_same_after_resuming(workers: int, length: int) -> None:
    whole = draws(0, workers=workers, length=length)
    resumed = draws(2, workers=workers, length=length)
    assert resumed == whole[2 * length :]
    assert whole[0][1:] != whole[length][1:]  # another epoch, other numbers
    assert len({x for _, batch, *_ in whole for x in batch}) == 2 * len(whole)  # the transforms go on drawing
    assert draws(0, workers=workers, length=length, seed=8) != whole


def test_epoch_seed_sets_the_epoch_of_samplers() -> None:
    data = Dataset([0, 1, 2, 3])
    sampler = Sampler(data)
    engine = Engine(lambda e, b: None)
    EpochSeed(0, data_loader=DataLoader(data, sampler=sampler)).attach(engine)
    run(engine, epochs=3, length=4)
    assert sampler.epochs[::2] == [1, 2, 3]  # seen as the loader's and as its batch sampler's


def test_epoch_seed_refuses_persistent_workers() -> None:
    loader = DataLoader(Dataset([0]), num_workers=1, persistent_workers=True)
    with pytest.raises(ValueError, match="persistent_workers=False"):
        EpochSeed(0, data_loader=loader)
    with pytest.raises(ValueError, match="0 or more"):
        EpochSeed(-1)


class Loss:
    def __init__(self) -> None:
        self.last: dict[str, torch.Tensor] = {}


def log(folder: Path, *, epochs: int, start: int = 0, decollated: bool = False) -> list[dict[str, str]]:
    loss = Loss()
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.5)

    def step(engine: Engine, batch: int) -> Any:
        e = engine.state.epoch
        loss.last = {"ce": torch.tensor(float(batch)), "size": torch.tensor(10.0 * e)}
        total = parameter.sum() + float(batch + e)
        return [{"loss": total.item()}] * 2 if decollated else {"loss": total}

    def validate(engine: Engine, batch: int) -> None:
        engine.state.metrics.update(dice=0.1 * trainer.state.epoch, per_class=torch.tensor([0.25, 0.5]))

    trainer, evaluator = Engine(step), Engine(validate)
    extra = {"t": lambda: 2.0 * trainer.state.epoch}
    MetricsLog(folder, evaluator=evaluator, loss=loss, optimizer=optimizer, extra=extra).attach(trainer)
    # attached after the log, and every second epoch only
    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=2), lambda: evaluator.run([0]))
    run(trainer, epochs=epochs, start=start, length=3)
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("decollated", [False, True])
def test_metrics_log_rows(tmp_path: Path, decollated: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "monai_constraints")
    rows = log(tmp_path, epochs=4, decollated=decollated)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    for e, row in enumerate(rows, 1):
        assert float(row["loss"]) == pytest.approx(1 + e)
        assert float(row["loss_ce"]) == 1
        assert float(row["loss_size"]) == 10 * e
        assert (row["lr"], float(row["t"])) == ("0.5", 2 * e)
        assert float(row["seconds"]) >= 0
    assert [row["val_dice"] for row in rows] == ["", "0.2", "", "0.4"]
    assert [row["val_per_class_1"] for row in rows] == ["", "0.5", "", "0.5"]
    assert [bool(row["seconds_validation"]) for row in rows] == [False, True, False, True]
    assert any(line.startswith("epoch 3/4: ") and "loss_size 30" in line for line in caplog.messages)
    assert list((tmp_path / "tensorboard").glob("events*"))
    assert not list(tmp_path.glob(".*.tmp"))


def test_metrics_log_drops_rows_after_the_resumed_epoch(tmp_path: Path) -> None:
    log(tmp_path, epochs=4)
    path = tmp_path / "metrics.csv"
    path.write_text(path.read_text().replace("0.5,", "0.75,"))  # to tell old rows from new ones
    rows = log(tmp_path, epochs=5, start=2)
    assert [(row["epoch"], row["lr"]) for row in rows] == [
        ("1", "0.75"), ("2", "0.75"), ("3", "0.5"), ("4", "0.5"), ("5", "0.5")
    ]  # fmt: skip
    assert len(log(tmp_path, epochs=2)) == 2  # a fresh start forgets all


def test_metrics_log_refuses_a_foreign_file(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no column 'epoch'"):
        log(tmp_path, epochs=3, start=1)
    assert len(log(tmp_path, epochs=1)) == 1  # a fresh start replaces it


def _reduce(rank: int, folder: str) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    engine = Engine(lambda e, b: {"loss": torch.tensor(float(b + 10 * rank))})
    MetricsLog(Path(folder) / f"rank{rank}").attach(engine)
    engine.run([1, 2, 3], max_epochs=2)
    dist.destroy_process_group()


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_metrics_log_averages_over_ranks(tmp_path: Path) -> None:
    # forked, because importing MONAI twice more takes 20 s
    torch.multiprocessing.start_processes(_reduce, (str(tmp_path),), nprocs=2, start_method="fork")
    with open(tmp_path / "rank0" / "metrics.csv", newline="") as file:
        assert [row["loss"] for row in csv.DictReader(file)] == ["7", "7"]
    assert not (tmp_path / "rank1").exists()


def test_metrics_log_says_how_long_the_data_took(tmp_path: Path) -> None:
    class Slow:
        def __iter__(self) -> Any:
            for i in range(4):
                time.sleep(0.06)
                yield i

        def __len__(self) -> int:
            return 4

    engine = Engine(lambda e, b: time.sleep(0.03))
    MetricsLog(tmp_path).attach(engine)
    engine.run(Slow(), max_epochs=2)
    for row in csv.DictReader(open(tmp_path / "metrics.csv")):
        assert row["batches"] == "4" and 0.4 < float(row["data_share"]) < 0.9


@pytest.mark.parametrize(
    ("start", "last", "expected"), [(0, 7, [3, 6, 7]), (0, 6, [3, 6]), (4, 8, [6, 8]), (0, 2, [2])]
)
def test_interval_validation_measures_the_last_epoch(start: int, last: int, expected: list[int]) -> None:
    data = DataLoader(Dataset([{"image": torch.zeros(1, 4, 4)}]), batch_size=1)
    evaluator = SupervisedEvaluator("cpu", data, torch.nn.Identity())
    validated: list[int] = []
    evaluator.add_event_handler(Events.STARTED, lambda engine: validated.append(engine.state.epoch + 1))
    engine = Engine(lambda engine, batch: None)
    IntervalValidation(3, evaluator).attach(engine)
    run(engine, epochs=last, start=start)
    assert validated == expected


def test_interval_validation_refuses_an_impossible_interval() -> None:
    with pytest.raises(ValueError, match="interval=0"):
        IntervalValidation(0).attach(Engine(lambda engine, batch: None))
