"""Save a training after each epoch, and go on from there."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from monai_constraints.files import remove_stray, replacing
from monai_constraints.handlers.satisfaction import Satisfaction

__all__ = ["Resume", "Stateful"]

logger = logging.getLogger(__name__)


class Stateful(Protocol):
    """What can be saved: a network, an optimiser, a learning rate scheduler, a loss with multipliers."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class Resume:
    """Save the training to ``path`` after each epoch; with ``resume``, load it before the first.

    The file holds the state of every object in ``save``, of the trainer (epoch, iteration, length of an
    epoch) and of its AMP scaler. The number of epochs is not in it, so a longer training can be asked for: a learning
    rate schedule goes on as the one that it is now, such as over more epochs, at the step that it had come to.
    The file is read when this is attached, so that a damaged one is refused before anything is written, and loaded when
    the run starts, on every rank. Saving happens on rank 0, after all other handlers of the end of an epoch, whatever
    the order they were attached in: validation, learning rate schedulers and logs have had their turn. Random numbers
    are not saved; attach ``EpochSeed``. The file is replaced as a whole, so a kill at any time leaves a usable one.

    Args:
        path: the file.
        save: the objects to save by name; parallel wrappers are saved as the network inside.
        resume: load ``path`` if it exists, else start afresh with a warning.

    Raises:
        ValueError: from ``attach``, if the file is damaged or not of this class; when the run starts, if it does not
            fit ``save`` or epochs have another length.
    """

    def __init__(self, path: str | Path, *, save: Mapping[str, Stateful], resume: bool = False) -> None:
        if "trainer" in save:
            raise ValueError("Resume: 'trainer' is saved by itself; take it out of save.")
        self.path = Path(path)
        self.save = {
            name: item.module if isinstance(item, (DataParallel, DistributedDataParallel)) else item
            for name, item in save.items()
        }
        self.resume = resume

    def attach(self, engine: Engine, handlers: Sequence[Any] | None = None) -> None:
        """Follow ``engine``, the trainer; a second time changes nothing.

        Args:
            engine: the trainer.
            handlers: of the evaluator; what those with a state remember of earlier epochs is saved too.
        """
        for handler in handlers or ():
            if isinstance(handler, Satisfaction):
                self.save[f"{handler.name}_satisfaction"] = handler.metric
        if self.resume and self.path.is_file():
            self._read()
        if not engine.has_event_handler(self._start, Events.STARTED):
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.EPOCH_STARTED, self._come_last)

    def _start(self, engine: Engine) -> None:
        if idist.get_rank() == 0:
            remove_stray(self.path)
        if not self.resume:
            return
        if self.path.is_file():
            self._load(engine)
        else:
            logger.warning("Resume: nothing to resume, %s does not exist; training starts afresh.", self.path)

    def _come_last(self, engine: Engine) -> None:
        # When an epoch starts, every other handler is attached: this one goes to the end of the queue.
        if not engine.has_event_handler(self._save, Events.EPOCH_COMPLETED):
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def _save(self, engine: Engine) -> None:
        if idist.get_rank() != 0:
            return
        state = engine.state
        trainer = {"epoch": state.epoch, "iteration": state.iteration, "epoch_length": state.epoch_length}
        scaler = getattr(engine, "scaler", None)
        if scaler is not None:
            trainer["scaler"] = scaler.state_dict()
        with replacing(self.path) as temporary:
            torch.save({"trainer": trainer, **{k: v.state_dict() for k, v in self.save.items()}}, temporary)

    def _load(self, engine: Engine) -> None:
        checkpoint = self._read()
        fresh = {name: item.state_dict() for name, item in self.save.items() if _is_schedule(item)}
        for name, item in self.save.items():
            try:
                if name in fresh:
                    _replay(item, fresh[name], checkpoint[name]["last_epoch"])
                else:
                    item.load_state_dict(checkpoint[name])
            except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
                raise ValueError(
                    f"Resume: the {name} in {self.path} does not fit this configuration ({error}); "
                    "resume with the configuration that wrote the file, or remove it."
                ) from error
        trainer, state = checkpoint["trainer"], engine.state
        scaler = getattr(engine, "scaler", None)
        if scaler is not None and "scaler" in trainer:
            scaler.load_state_dict(trainer["scaler"])
        if state.epoch_length is None:
            state.epoch_length = trainer["epoch_length"]
        elif state.epoch_length != trainer["epoch_length"]:
            raise ValueError(
                f"Resume: an epoch has {state.epoch_length} iterations now and had {trainer['epoch_length']} when "
                f"{self.path} was written; resume with the same cases, batch size and number of processes"
            )
        state.epoch = trainer["epoch"]
        state.iteration = state.epoch * state.epoch_length
        logger.info("Resume: goes on after epoch %d of %s from %s.", state.epoch, state.max_epochs, self.path)
        if state.max_epochs is not None and state.epoch >= state.max_epochs:
            logger.warning("Resume: all %d epochs are done; ask for more to train on.", state.max_epochs)

    def _read(self) -> dict[str, Any]:
        try:
            checkpoint = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file fails in many ways
            raise ValueError(
                f"Resume: {self.path} can't be read ({type(error).__name__}): damaged, or no checkpoint. "
                "Remove it to start afresh."
            ) from error
        found = set(checkpoint) if isinstance(checkpoint, dict) else set()
        expected = {"trainer", *self.save}
        if found != expected:
            raise ValueError(
                f"Resume: {self.path} should hold {sorted(expected)}, holds {sorted(map(str, found))}; "
                "resume with the configuration that wrote it, or remove it."
            )
        return checkpoint


def _is_schedule(item: Any) -> bool:
    """A learning rate that is a function of the step alone."""
    return isinstance(item, LRScheduler) and not isinstance(item, ReduceLROnPlateau)


def _replay(scheduler: Any, fresh: Mapping[str, Any], steps: int) -> None:
    """Bring the schedule to this step from its start: what was saved are also the old one's settings, as its period."""
    for group, rate in zip(scheduler.optimizer.param_groups, fresh["_last_lr"]):
        group["lr"] = rate
    with warnings.catch_warnings():
        # That the optimiser has made no step yet is not so: those were before.
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        for _ in range(steps - scheduler.last_epoch):
            scheduler.step()
