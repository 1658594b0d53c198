from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler
from torch import nn
from torch.optim import lr_scheduler as schedules

from monai_constraints.handlers import EpochSeed, Resume


class Killed(BaseException):
    """What an exception handler of a library does not stop, like SIGKILL."""


class Parts:
    """A small MONAI training with dropout, Adam, a learning rate schedule and shuffling."""

    def __init__(
        self,
        path: Path,
        *,
        epochs: int,
        resume: bool = False,
        init: int = 0,
        width: int = 5,
        schedule: Callable[[Any, int], Any] = lambda optimizer, _: schedules.StepLR(optimizer, 1, gamma=0.5),
    ) -> None:
        torch.manual_seed(init)
        self.network = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.Dropout(0.5), nn.Conv2d(width, 2, 1)
        )  # fmt: skip
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-2)
        self.scheduler = schedule(self.optimizer, epochs)
        g = torch.Generator().manual_seed(3)
        shapes = {"image": (1, 4, 6), "label": (2, 4, 6)}
        data = [{key: torch.rand(shape, generator=g) for key, shape in shapes.items()} for _ in range(6)]
        loader = DataLoader(Dataset(data), batch_size=2, shuffle=True)
        self.trainer = SupervisedTrainer(
            device="cpu", max_epochs=epochs, train_data_loader=loader, network=self.network,
            optimizer=self.optimizer, loss_function=nn.MSELoss(), decollate=False,
        )  # fmt: skip
        save: dict[str, Any] = {
            "network": self.network, "optimizer": self.optimizer, "scheduler": self.scheduler
        }  # fmt: skip
        self.resume = Resume(path, save=save, resume=resume)
        # The saver first: it has to come last at the end of an epoch by itself.
        self.resume.attach(self.trainer)
        self.resume.attach(self.trainer)
        EpochSeed(5, data_loader=loader).attach(self.trainer)
        LrScheduleHandler(self.scheduler, print_lr=False).attach(self.trainer)

    def result(self) -> dict[str, torch.Tensor]:
        tensors = dict(self.network.state_dict())
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"{i}.{name}": torch.as_tensor(value) for name, value in state.items()}
        tensors["lr"] = torch.tensor(self.optimizer.param_groups[0]["lr"])
        return tensors


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("how", ["completed", "killed"])
def test_resumed_training_is_bit_identical(tmp_path: Path, how: str) -> None:
    straight = Parts(tmp_path / "a.pt", epochs=4)
    straight.trainer.run()

    path = tmp_path / "b.pt"
    first = Parts(path, epochs=2 if how == "completed" else 4)
    if how == "killed":

        def kill(engine: Any) -> None:
            raise Killed

        first.trainer.add_event_handler(Events.ITERATION_STARTED(once=2 * 3 + 2), kill)
        with pytest.raises(Killed):
            first.trainer.run()
    else:
        first.trainer.run()
    second = Parts(path, epochs=4, resume=True, init=99)
    epochs: list[int] = []
    second.trainer.add_event_handler(Events.EPOCH_STARTED, lambda e: epochs.append(e.state.epoch))
    second.trainer.run()
    assert epochs == [3, 4]
    assert second.trainer.state.iteration == straight.trainer.state.iteration == 12
    assert same(second.result(), straight.result())
    assert not same(first.result(), straight.result())
    a, b = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in "ab")
    assert a["trainer"] == b["trainer"] == {"epoch": 4, "iteration": 12, "epoch_length": 3}


def warmed_up(optimizer: Any, epochs: int) -> Any:
    parts = [schedules.LinearLR(optimizer, 0.1, total_iters=2), schedules.CosineAnnealingLR(optimizer, epochs)]
    return schedules.SequentialLR(optimizer, parts, milestones=[2])


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.CosineAnnealingLR,
        lambda optimizer, epochs: schedules.MultiStepLR(optimizer, [epochs - 2]),
        lambda optimizer, epochs: schedules.LambdaLR(optimizer, lambda epoch: (1 - epoch / epochs) ** 0.9),
        lambda optimizer, epochs: schedules.OneCycleLR(optimizer, 0.01, total_steps=epochs + 1),
        warmed_up,
    ],
)
def test_a_longer_training_goes_on_by_its_own_schedule(tmp_path: Path, schedule: Callable[[Any, int], Any]) -> None:
    """Six epochs, or three and then three more: the last three have the rates of six."""

    def rates(epochs: int, path: str, resume: bool = False) -> list[float]:
        parts = Parts(tmp_path / path, epochs=epochs, resume=resume, schedule=schedule)
        found: list[float] = []
        parts.trainer.add_event_handler(
            Events.EPOCH_STARTED, lambda: found.append(parts.optimizer.param_groups[0]["lr"])
        )
        parts.trainer.run()
        return found

    whole = rates(6, "a.pt")
    rates(3, "b.pt")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Detected call of")
        assert rates(6, "b.pt", resume=True) == whole[3:] and len(set(whole)) > 1


def test_other_epochs_are_no_resume(tmp_path: Path) -> None:
    Parts(tmp_path / "a.pt", epochs=1).trainer.run()
    second = Parts(tmp_path / "a.pt", epochs=2, resume=True)
    with pytest.raises(ValueError, match="an epoch has 2 iterations now and had 3"):
        second.trainer.state.epoch_length = 2
        second.trainer.run()


def test_finished_training_stays_finished(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = Parts(tmp_path / "a.pt", epochs=2)
    first.trainer.run()
    second = Parts(tmp_path / "a.pt", epochs=2, resume=True, init=99)
    second.trainer.run()
    assert same(first.result(), second.result())
    assert "all 2 epochs are done" in caplog.text


def test_nothing_to_resume_starts_afresh(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Parts(tmp_path / "new" / "a.pt", epochs=1, resume=True).trainer.run()
    assert f"{tmp_path / 'new' / 'a.pt'} does not exist" in caplog.text
    assert (tmp_path / "new" / "a.pt").is_file()


def test_kill_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt"
    Parts(path, epochs=1).trainer.run()
    before = path.read_bytes()

    def half(state: Any, file: Path) -> None:
        Path(file).write_bytes(b"half")
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(torch, "save", half)
        Parts(path, epochs=2, resume=True).trainer.run()
    assert path.read_bytes() == before
    # SIGKILL leaves the temporary file, of this name, behind; another file's stays
    (tmp_path / ".a.pt.123.tmp").write_bytes(b"half")
    (tmp_path / ".b.pt.123.tmp").write_bytes(b"half")
    with path.open("rb") as old:
        Parts(path, epochs=2, resume=True).trainer.run()
        assert old.read() == before  # replaced, not written into
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.pt.123.tmp", "a.pt"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("truncated", "can't be read .*Remove it"),
        ("text", "can't be read .*Remove it"),
        ("foreign", r"holds \[\]; .*remove it"),
        ("other names", r"holds \['net', 'trainer'\]; .*remove it"),
    ],
)
def test_damaged_file_is_named(tmp_path: Path, damage: str, message: str) -> None:
    path = tmp_path / "a.pt"
    Parts(path, epochs=1).trainer.run()
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "text":
        path.write_text("hello")
    elif damage == "foreign":
        torch.save([1, 2], path)
    else:
        torch.save({"trainer": {}, "net": {}}, path)
    with pytest.raises(ValueError, match=f"a.pt .*{message}"):
        Parts(path, epochs=2, resume=True)  # before anything runs


def test_other_network_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    Parts(path, epochs=1).trainer.run()
    with pytest.raises(ValueError, match="the network in .*a.pt does not fit"):
        Parts(path, epochs=2, resume=True, width=7).trainer.run()
    with pytest.raises(ValueError, match="trainer"):
        Resume(path, save={"trainer": nn.Linear(1, 1)})
