"""Closed forms of the epoch, and the handler that sets an attribute to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from ignite.engine import Engine, Events
from torch import Tensor

__all__ = ["Constant", "Exponential", "Linear", "Schedule"]


@dataclass(frozen=True)
class Constant:
    """The same value at every epoch."""

    value: float

    def __call__(self, epoch: int) -> float:
        return float(self.value)


@dataclass(frozen=True)
class Exponential:
    """t = min(start * factor^(epoch - 1), maximum), the first epoch being 1.

    Thesis 3.3 raises the barrier's t with start = 5 and factor = 1.1; give ``maximum``, since that reaches
    8.6e8 after 200 epochs.

    Raises:
        ValueError: ``start`` or ``factor`` is not positive.
    """

    start: float
    factor: float
    maximum: float = field(default=math.inf, kw_only=True)

    def __post_init__(self) -> None:
        if self.start <= 0 or self.factor <= 0:
            got = f"start {self.start}, factor {self.factor}"
            raise ValueError(f"Exponential: start and factor must be positive, got {got}.")

    def __call__(self, epoch: int) -> float:
        try:
            value = self.start * float(self.factor) ** (epoch - 1)
        except OverflowError:
            value = math.inf
        return float(min(value, self.maximum))


@dataclass(frozen=True)
class Linear:
    """start + step * (epoch - 1), kept within [minimum, maximum], the first epoch being 1."""

    start: float
    step: float
    minimum: float = field(default=-math.inf, kw_only=True)
    maximum: float = field(default=math.inf, kw_only=True)

    def __post_init__(self) -> None:
        if self.minimum > self.maximum:
            raise ValueError(f"Linear: minimum {self.minimum} is above maximum {self.maximum}.")

    def __call__(self, epoch: int) -> float:
        return float(min(max(self.start + self.step * (epoch - 1), self.minimum), self.maximum))


class Schedule:
    """Set ``target.attribute`` to ``form(epoch)`` when an epoch starts; no state, so resuming needs nothing.

    Args:
        target: the object that has the attribute.
        attribute: its name; dots go deeper, and a mapping is entered by key: "weights.size".
        form: a function of the epoch, which counts from 1.

    Raises:
        AttributeError: at ``attach``, when there is no such attribute.
    """

    def __init__(self, target: Any, attribute: str, form: Callable[[int], float]) -> None:
        self.target = target
        self.attribute = attribute
        self.form = form

    def attach(self, engine: Engine) -> None:
        """Follow the epochs of ``engine``, the trainer."""
        self._holder()
        if not engine.has_event_handler(self, Events.EPOCH_STARTED):
            engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        holder, name, current = self._holder()
        value = self.form(engine.state.epoch)
        if isinstance(current, Tensor):  # a module refuses a float in place of its buffer
            current.detach().fill_(value)
        elif isinstance(holder, MutableMapping):
            holder[name] = value
        else:
            setattr(holder, name, value)

    def _holder(self) -> tuple[Any, str, Any]:
        """The object that holds the value, the value's name in it, and the value."""
        holder, value, name = None, self.target, ""
        for name in self.attribute.split("."):
            holder = value
            is_mapping = isinstance(holder, Mapping)
            if not (name in holder if is_mapping else hasattr(holder, name)):
                known = sorted(str(k) for k in (holder if is_mapping else getattr(holder, "__dict__", {})))
                raise AttributeError(
                    f"Schedule: {type(self.target).__name__} has no {self.attribute!r}: no {name!r} in "
                    f"{type(holder).__name__}; it has {', '.join(known) or 'nothing'}."
                )
            value = holder[name] if is_mapping else getattr(holder, name)
        return holder, name, value
