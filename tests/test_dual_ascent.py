from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bundles import train
from monai_constraints.constraints import Centroid, NuPI, Quadratic, Size, StandardLagrangian, residuals
from monai_constraints.engines import PrepareTargets
from monai_constraints.handlers import DualAscent, MetricsLog, Resume
from monai_constraints.losses import ConstraintLoss, Term, WeightedSum
from monai_constraints.pictures import plot_curves

SAMPLES = 5


def samples() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(SAMPLES, 1, 6, 7, generator=generator)
    bounds = {"size_bounds": torch.tensor([[[3.0, 8.0]]]), "place_bounds": torch.tensor([[[1.0, 1.5], [2.0, 6.0]]])}
    return [{"image": image, "index": i, **bounds} for i, image in enumerate(images)]


def make(**options: Any) -> tuple[SupervisedTrainer, WeightedSum, DualAscent]:
    torch.manual_seed(1)
    # Dropout and batch normalisation: the pass must see the network as it is used, and leave it as it was.
    network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Dropout(0.4), nn.Conv2d(3, 2, 1))
    terms = {
        "size": Term(
            ConstraintLoss(Size(classes=[1]), StandardLagrangian(SAMPLES, learning_rate=0.1)),
            "size_bounds",
            arguments={"index": "index"},
        ),
        "place": Term(
            ConstraintLoss(Centroid(classes=[1]), NuPI(SAMPLES, values=2, learning_rate=0.2)),
            "place_bounds",
            arguments={"index": "index"},
        ),
    }
    loss = WeightedSum(terms)
    dual = DualAscent(loss, **options)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=3,
        train_data_loader=DataLoader(samples(), batch_size=2),  # type: ignore[arg-type]
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.05),
        loss_function=loss,
        prepare_batch=PrepareTargets(loss.target_keys),
        decollate=False,
        train_handlers=[dual],
    )
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: torch.manual_seed(engine.state.epoch))
    return trainer, loss, dual


def numbers(loss: WeightedSum, term: str) -> Tensor:
    return loss.state_dict()[f"terms.{term}.loss.penalty.multipliers"].clone()


def test_an_epoch_of_ascent_follows_each_epoch_of_training() -> None:
    trainer, loss, _ = make()
    expected = torch.zeros(SAMPLES, 1, 1, 2)

    def follow(engine: Engine) -> None:
        network = trainer.network
        network.eval()
        every = samples()
        with torch.no_grad():
            s = network(torch.stack([sample["image"] for sample in every])).softmax(1)
        network.train()
        z = residuals(Size(classes=[1])(s), torch.stack([sample["size_bounds"] for sample in every]))
        expected.add_(0.1 * z).clamp_(min=0)
        torch.testing.assert_close(numbers(loss, "size"), expected)
        assert engine.state.times["DUAL_ASCENT"] > 0

    trainer.add_event_handler(Events.EPOCH_COMPLETED, follow)
    weights = trainer.network[0].weight.detach().clone()
    trainer.run()
    assert trainer.state.epoch == 3 and trainer.network.training
    assert expected.max() > 0 and not torch.equal(weights, trainer.network[0].weight)


def test_the_pass_changes_nothing_but_the_multipliers() -> None:
    trainer, loss, dual = make()
    trainer.run()
    state = {key: value.clone() for key, value in trainer.network.state_dict().items()}
    before = numbers(loss, "size")
    dual._ascend(trainer)
    assert trainer.network.training
    assert all(torch.equal(value, state[key]) for key, value in trainer.network.state_dict().items())
    assert not torch.equal(numbers(loss, "size"), before)
    assert not any(each.observing for each in dual.multipliers)


def test_without_a_pass_of_its_own_it_takes_what_training_saw() -> None:
    trainer, loss, _ = make(own_pass=False)
    expected, first = torch.zeros(SAMPLES, 1, 1, 2), []
    seen = torch.zeros(SAMPLES, 1, 1, 2)

    def follow(engine: Any) -> None:
        index = engine.state.batch["index"]
        sizes = Size(classes=[1])(engine.state.output["pred"].detach().softmax(1))
        seen[index] = residuals(sizes, engine.state.batch["size_bounds"])

    def compare(engine: Engine) -> None:
        expected.add_(0.1 * seen).clamp_(min=0)
        first.append(expected.max())
        torch.testing.assert_close(numbers(loss, "size"), expected)

    trainer.add_event_handler(Events.ITERATION_COMPLETED, follow)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, compare)
    trainer.run()
    assert len(first) == 3 and first[0] > 0


def test_every_second_epoch() -> None:
    trainer, loss, _ = make(every=2)
    history = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: history.append(numbers(loss, "place")))
    trainer.run()
    assert not history[0].any() and history[1].any() and torch.equal(history[1], history[2])


def test_resuming_is_exact(tmp_path: Path) -> None:
    whole, loss, _ = make()
    whole.run()
    trainer, half, _ = make()
    trainer.state.max_epochs = 2
    save = {"network": trainer.network, "optimizer": trainer.optimizer, "loss": half}
    Resume(tmp_path / "checkpoint.pt", save=save).attach(trainer)
    trainer.run()
    trainer, resumed, _ = make()
    save = {"network": trainer.network, "optimizer": trainer.optimizer, "loss": resumed}
    Resume(tmp_path / "checkpoint.pt", save=save, resume=True).attach(trainer)
    trainer.run()
    assert trainer.state.epoch == 3
    assert set(loss.state_dict()) == set(resumed.state_dict()) and len(loss.state_dict()) == 4
    for key, value in loss.state_dict().items():
        assert value.any() and torch.equal(value, resumed.state_dict()[key])
    for key, value in whole.network.state_dict().items():
        assert torch.equal(value, trainer.network.state_dict()[key])


def test_multipliers_are_logged_and_drawn(tmp_path: Path) -> None:
    trainer, loss, dual = make()
    MetricsLog(tmp_path, loss=loss).attach(trainer)
    trainer.run()
    with open(tmp_path / "metrics.csv", newline="", encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    for term, each in loss.multipliers().items():
        for name, value in each.summary().items():
            assert float(last[f"multiplier_{term}_{name}"]) == pytest.approx(value, rel=1e-6)
    assert float(last["seconds_dual"]) > 0
    plot_curves(tmp_path / "metrics.csv", tmp_path / "with.png")
    text = (tmp_path / "metrics.csv").read_text().replace("multiplier_", "other_")
    (tmp_path / "metrics.csv").write_text(text)
    plot_curves(tmp_path / "metrics.csv", tmp_path / "without.png")
    assert (tmp_path / "with.png").stat().st_size > 1.5 * (tmp_path / "without.png").stat().st_size


def test_the_bundle_saves_and_resumes_multipliers(tmp_path: Path) -> None:
    penalty = {"_target_": "monai_constraints.constraints.NuPI", "samples": 5, "learning_rate": 0.01, "kappa": 1.0}
    options: Any = {
        "train_count": 5, "validation_count": 3, "lr_scheduler#T_max": 3, "loss#terms#size#loss#penalty": penalty,
        "loss#terms#centroid#loss#penalty": {**penalty, "values": 2, "learning_rate": 0.1},
    }  # fmt: skip
    train("two_circles", None, tmp_path / "whole", "multipliers", max_epochs=3, **options)
    train("two_circles", None, tmp_path / "parts", "multipliers", max_epochs=2, **options)
    train("two_circles", None, tmp_path / "parts", "multipliers", max_epochs=3, resume=True, **options)
    whole, parts = (torch.load(tmp_path / name / "checkpoint.pt")["loss"] for name in ("whole", "parts"))
    assert {key.rsplit(".", 1)[1] for key in whole} == {"multipliers", "smoothed", "started"}
    for key, value in whole.items():
        assert value.any() and torch.equal(value, parts[key]), key


def test_errors_say_what_to_do() -> None:
    plain = ConstraintLoss(Size(classes=[1]), Quadratic())
    with pytest.raises(ValueError, match="found 0 multipliers in ConstraintLoss, every=1; give a constraint"):
        DualAscent(plain)
    _, loss, dual = make()
    with pytest.raises(ValueError, match="found 2 multipliers in WeightedSum, every=0"):
        DualAscent(loss, every=0)
    with pytest.raises(TypeError, match="expected a trainer of MONAI, got Engine"):
        dual.attach(Engine(lambda engine, batch: None))
