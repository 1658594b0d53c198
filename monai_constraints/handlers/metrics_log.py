"""One row of numbers for each epoch: CSV, TensorBoard and a line in the log."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

import monai_constraints.columns as columns
from monai_constraints.files import replacing
from monai_constraints.handlers.dual_ascent import DUAL_SECONDS
from monai_constraints.losses import WeightedSum

__all__ = ["MetricsLog"]

logger = logging.getLogger(__name__)


class MetricsLog:
    """Write ``metrics.csv`` and ``tensorboard/`` in ``output_dir``, one row for each epoch.

    Columns: epoch; seconds (training), seconds_validation and seconds_dual; batches; data_share, the part of the
    training's seconds that this process waited for batches (a GPU may have been busy meanwhile: it is idle for at
    most that part); lr; loss and ``loss_<term>``, unweighted, means over the iterations and ranks; ``weight_<term>``;
    ``multiplier_<term>_mean`` and ``_max`` of explicit multipliers; ``val_<metric>`` (``val_<metric>_<i>`` for a
    vector); seconds_proposals and ``filled_<k>`` of `DeepCut`; and what ``extra`` gives. An epoch without validation
    or new proposals leaves those cells empty. A resumed training keeps the rows up to its epoch and drops later ones.
    The row is made after validation, whatever the order of attaching.

    Args:
        output_dir: the folder.
        evaluator: the engine that validates.
        loss: the ``WeightedSum``, for its ``last`` and its multipliers.
        optimizer: for its first learning rate.
        extra: columns by name, each read at the end of the epoch, e.g. a scheduled value.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        evaluator: Engine | None = None,
        loss: Any = None,
        optimizer: torch.optim.Optimizer | None = None,
        extra: Mapping[str, Callable[[], float]] | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.evaluator = evaluator
        self.loss = loss
        self.optimizer = optimizer
        self.extra = dict(extra or {})
        self._rows: list[dict[str, str]] | None = None
        self._sums: dict[str, tuple[Tensor, int]] = {}
        self._batches = 0
        self._waited = self._asked = 0.0
        self._lr: Any = None
        self._validated = False
        self._writer: SummaryWriter | None = None

    def attach(self, engine: Engine) -> None:
        """Follow ``engine``, the trainer."""
        if engine.has_event_handler(self._start, Events.STARTED):
            return
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin_epoch)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._ask)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._receive)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._accumulate)
        engine.add_event_handler(Events.COMPLETED, self._close)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.COMPLETED, self._note_validation)

    def _start(self, engine: Engine) -> None:
        self._rows = None
        if not engine.has_event_handler(self._end_epoch, Events.EPOCH_COMPLETED):
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)

    def _begin_epoch(self, engine: Engine) -> None:
        if self._rows is None:  # not when the run starts: only now is a checkpoint certainly loaded
            done = engine.state.epoch - 1
            self._rows = self._read(done)
            if idist.get_rank() == 0:
                self._writer = SummaryWriter(str(self.output_dir / "tensorboard"), purge_step=done + 1)
        self._sums = {}
        self._batches, self._waited = 0, 0.0
        self._validated = False

    def _ask(self, engine: Engine) -> None:
        self._asked = time.time()

    def _receive(self, engine: Engine) -> None:
        self._waited += time.time() - self._asked
        self._batches += 1

    def _accumulate(self, engine: Engine) -> None:
        if self.optimizer is not None:
            self._lr = self.optimizer.param_groups[0]["lr"]
        terms = {columns.LOSS: _total(engine.state.output)}
        if self.loss is not None:
            terms |= {columns.term_column(name): value for name, value in self.loss.last.items()}
        for name, value in terms.items():
            if value is not None:  # added where it lies: reading it would wait for the device
                total, count = self._sums.get(name, (0.0, 0))
                self._sums[name] = (total + torch.as_tensor(value).detach().float(), count + 1)

    def _note_validation(self, evaluator: Engine) -> None:
        self._validated = True

    def _end_epoch(self, engine: Engine) -> None:
        seconds = engine.state.times[Events.EPOCH_COMPLETED.name] or 0.0
        row: dict[str, Any] = {columns.EPOCH: float(engine.state.epoch), columns.SECONDS: seconds}
        if self._batches:  # an engine that makes its own data asks for none
            row |= {columns.BATCHES: float(self._batches), columns.DATA_SHARE: self._waited / max(seconds, 1e-9)}
        if self._validated and self.evaluator is not None:
            row[columns.SECONDS_VALIDATION] = self.evaluator.state.times[Events.COMPLETED.name]
        if DUAL_SECONDS in engine.state.times:
            row[columns.SECONDS_DUAL] = engine.state.times[DUAL_SECONDS]
        row |= engine.state.__dict__.pop(columns.PROPOSED, {})  # of this epoch alone
        if self._lr is not None:
            row[columns.LR] = float(self._lr)
        row |= self._means()
        if isinstance(self.loss, WeightedSum):
            row |= {columns.weight_column(term): weight for term, weight in self.loss.weights.items()}
            for term, multipliers in self.loss.multipliers().items():
                row |= {columns.multiplier_column(term, which): value for which, value in multipliers.summary().items()}
        if self._validated and self.evaluator is not None:
            row |= {columns.validation_column(name): value for name, value in _scalars(self.evaluator.state.metrics)}
        row |= {name: float(read()) for name, read in self.extra.items()}
        if self._writer is None or self._rows is None:
            return
        self._rows.append({name: f"{value:.9g}" for name, value in row.items()})
        self._write()
        for name, value in row.items():
            if name != columns.EPOCH:
                self._writer.add_scalar(_tag(name), value, engine.state.epoch)
        self._writer.flush()
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name != columns.EPOCH)
        logger.info("epoch %d/%s: %s", engine.state.epoch, engine.state.max_epochs, numbers)

    def _means(self) -> dict[str, float]:
        values = [float(total) for total, _ in self._sums.values()] + [n for _, n in self._sums.values()]
        if idist.get_world_size() > 1 and values:
            values = torch.as_tensor(idist.all_reduce(torch.tensor(values, dtype=torch.float64))).tolist()
        half = len(values) // 2
        return {name: values[i] / values[half + i] for i, name in enumerate(self._sums)}

    def _close(self, engine: Engine) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _read(self, done: int) -> list[dict[str, str]]:
        path = self.output_dir / "metrics.csv"
        if done == 0 or not path.is_file():
            return []
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if columns.EPOCH not in (reader.fieldnames or []):
                raise ValueError(f"MetricsLog: {path} has no column 'epoch'; move the file away.")
            return [row for row in reader if int(row[columns.EPOCH]) <= done]

    def _write(self) -> None:
        rows = self._rows or []
        with replacing(self.output_dir / "metrics.csv") as temporary:
            with open(temporary, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
                writer.writeheader()
                writer.writerows(rows)


def _total(output: Any) -> Any:
    """The loss in a trainer's output: MONAI's dict, the same decollated, or the number itself."""
    first = output[0] if isinstance(output, (list, tuple)) else output
    return first.get(CommonKeys.LOSS) if isinstance(first, Mapping) else first


def _scalars(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Metrics as named numbers, a vector's elements by position."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):  # ignite lists its pieces as well
            continue
        values = np.ravel(value.detach().cpu() if isinstance(value, Tensor) else value).tolist()
        for i, number in enumerate(values):
            yield (name if len(values) == 1 else f"{name}_{i}"), number


def _tag(name: str) -> str:
    """The column's name in TensorBoard, which groups by what stands before the slash."""
    group, _, rest = name.partition("_")
    return f"{group}/{rest}" if rest and group in ("loss", "val") else f"train/{name}"
