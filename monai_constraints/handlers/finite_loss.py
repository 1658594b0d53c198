"""The end of a training whose loss or weights are no longer finite."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from monai_constraints.keys import CASE, SLICE

__all__ = ["FiniteLoss"]

MAX_CASES = 5


class FiniteLoss:
    """Stop the training at its first loss that is NaN or infinite, and say which term, when, and on which cases.

    What was saved before stays: the error comes before the epoch's validation, checkpoint and model file. On a CPU
    each loss is looked at; on a GPU, where that would make every step wait for the device, those of `every` steps at
    once, and at the end of the epoch, so it names the first all the same. The weights are looked at once an epoch,
    since gradients may be infinite where the loss is not.

    Args:
        loss: the `WeightedSum`, for its terms; None: the total alone is named.
        every: steps between two looks on a GPU.

    Raises:
        ValueError: every < 1.
        FloatingPointError: while training, as above.
    """

    def __init__(self, loss: Any = None, *, every: int = 50) -> None:
        if every < 1:
            raise ValueError(f"FiniteLoss: every={every}; give 1 or more steps")
        self.loss, self.every = loss, every
        self._steps: list[tuple[int, Tensor, dict[str, Tensor], Any]] = []

    def attach(self, engine: Engine) -> None:
        """Follow `engine`, the trainer; attach it before what validates or saves at the end of an epoch."""
        if not engine.has_event_handler(self._note, Events.ITERATION_COMPLETED):
            engine.add_event_handler(Events.STARTED, self._forget)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._note)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)

    def _forget(self, engine: Engine) -> None:
        self._steps = []

    def _note(self, engine: Engine) -> None:
        output: Any = engine.state.output
        output = output[0] if isinstance(output, (list, tuple)) else output
        total = torch.as_tensor(output["loss"] if isinstance(output, dict) else output).detach()
        terms = dict(self.loss.last) if self.loss is not None else {}
        batch: Any = engine.state.batch
        batch = {CASE: [item.get(CASE) for item in batch]} if _decollated(batch) else batch
        named = {key: batch[key] for key in (CASE, SLICE) if key in batch} if isinstance(batch, dict) else {}
        self._steps.append((engine.state.iteration, total, terms, named))
        if not _reading_waits(total) or len(self._steps) >= self.every:
            self._look(engine)

    def _end_epoch(self, engine: Engine) -> None:
        self._look(engine)
        network = getattr(engine, "network", None)
        if isinstance(network, nn.Module):
            values = [p.detach() for p in network.parameters() if p.is_floating_point()]
            finite = [value.isfinite().all().to(values[0].device) for value in values]
            if finite and not bool(torch.stack(finite).all()):
                raise FloatingPointError(
                    f"FiniteLoss: after epoch {engine.state.epoch} weights of the network are not finite, though its "
                    f"losses are. {_remedy(engine)}"
                )

    def _look(self, engine: Engine) -> None:
        steps, self._steps = self._steps, []
        if not steps or bool(torch.stack([total.float() for _, total, _, _ in steps]).isfinite().all()):
            return
        iteration, total, terms, named = next(step for step in steps if not bool(step[1].isfinite()))
        wrong = {name: float(value) for name, value in terms.items() if not bool(torch.isfinite(value))}
        what = ", ".join(f"the term {name} is {value}" for name, value in wrong.items())
        what = what or f"the loss is {float(total)}"
        raise FloatingPointError(
            f"FiniteLoss: {what} in epoch {engine.state.epoch}, step {iteration}{_cases(named)}. {_remedy(engine)}"
        )


def _reading_waits(total: Tensor) -> bool:
    """Whether reading it would wait for the device."""
    return total.device.type != "cpu"


def _decollated(batch: Any) -> bool:
    return isinstance(batch, list) and all(isinstance(item, dict) for item in batch)


def _remedy(engine: Engine) -> str:
    saved = f"that of epoch {engine.state.epoch - 1}" if engine.state.epoch > 1 else "none of this run"
    return f"The last checkpoint is {saved}; lower the learning rate or the term's weight, or look at these cases"


def _cases(batch: dict[str, Any]) -> str:
    cases = [str(case) for case in batch.get(CASE, [])]
    if SLICE in batch:
        cases = [f"{case} slice {int(number)}" for case, number in zip(cases, batch[SLICE])]
    more = f" and {len(cases) - MAX_CASES} more" if len(cases) > MAX_CASES else ""
    return f", on {', '.join(cases[:MAX_CASES])}{more}" if cases else ""
