"""Constraint satisfaction during a validation."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys

from monai_constraints.constraints.plain import plain
from monai_constraints.keys import BOXES, CASE, INDEX, bounds_key
from monai_constraints.metrics import ConstraintSatisfaction

__all__ = ["Satisfaction"]


class Satisfaction:
    """Put a constraint's satisfaction, violation and stability among an evaluator's metrics.

    They are named `<name>_satisfied`, `<name>_lower_held` and `<name>_upper_held` (its sides), `<name>_violation` and
    `<name>_stability`. The evaluator must decollate; its output has `pred`, one-hot (C, *S), its batch
    `<name>_bounds`, `index`, and `case` for constraints on volumes.

    Args:
        metric: what measures.
        name: of the constraint, as in `<name>_bounds`.
    """

    def __init__(self, metric: ConstraintSatisfaction, name: str) -> None:
        self.metric, self.name = metric, name

    def attach(self, engine: Engine) -> None:
        """Follow `engine`, the evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self.metric.reset())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._compute)

    def _update(self, engine: Engine) -> None:
        output: Any = engine.state.output
        batch: Any = engine.state.batch
        needed = [bounds_key(self.name), INDEX, *([BOXES] if self.metric.statistic.needs_boxes else [])]
        missing = [key for key in needed if key not in batch[0]]
        if missing:
            raise KeyError(f"Satisfaction: the validation samples lack {missing}; add the transform that makes them")
        self.metric(
            torch.stack([plain(item[CommonKeys.PRED]) for item in output]),
            torch.stack([plain(item[bounds_key(self.name)]) for item in batch]),
            index=torch.as_tensor([int(item[INDEX]) for item in batch]),
            image=torch.stack([plain(item[CommonKeys.IMAGE]) for item in output]),
            boxes=torch.stack([plain(item[BOXES]) for item in batch]) if BOXES in needed else None,
            group=[item.get(CASE) for item in batch],
        )

    def _compute(self, engine: Engine) -> None:
        for quantity, value in self.metric.aggregate().items():
            engine.state.metrics[f"{self.name}_{quantity}"] = value
