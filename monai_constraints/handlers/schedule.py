"""Closed forms of the epoch, and the handler that sets an attribute to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, MutableMapping, Sequence
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
        attribute: its name, or those of several; dots go deeper, and a mapping is entered by key: "weights.size".
        form: a function of the epoch, which counts from 1.
        relative: the form is a factor of what the attribute is when a training attaches this.

    Raises:
        AttributeError: at ``attach``, when there is no such attribute.
        TypeError: at ``attach``, when a relative one is no number.
    """

    def __init__(
        self,
        target: Any,
        attribute: str | Sequence[str],
        form: Callable[[int], float],
        *,
        relative: bool = False,
    ) -> None:
        self.target = target
        self.attributes = [attribute] if isinstance(attribute, str) else list(attribute)
        self.form, self.relative = form, relative
        self._wholes: dict[str, float] = {}

    def attach(self, engine: Engine) -> None:
        """Follow the epochs of ``engine``, the trainer."""
        for attribute in self.attributes:
            whole = self._holder(attribute)[2]
            if self.relative and attribute not in self._wholes:
                if not isinstance(whole, (int, float, Tensor)):
                    raise TypeError(f"Schedule: {attribute!r} is {whole!r}; a relative form needs a number to multiply")
                self._wholes[attribute] = float(whole)
        if not engine.has_event_handler(self, Events.EPOCH_STARTED):
            engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        value = self.form(engine.state.epoch)
        for attribute in self.attributes:
            self._set(attribute, value * self._wholes[attribute] if self.relative else value)

    def _set(self, attribute: str, value: float) -> None:
        holder, name, current = self._holder(attribute)
        if isinstance(current, Tensor):  # a module refuses a float in place of its buffer
            current.detach().fill_(value)
        elif isinstance(holder, MutableMapping):
            holder[name] = value
        else:
            setattr(holder, name, value)

    def _holder(self, attribute: str) -> tuple[Any, str, Any]:
        """The object that holds the value, the value's name in it, and the value."""
        holder, value, name = None, self.target, ""
        for name in attribute.split("."):
            holder = value
            is_mapping = isinstance(holder, Mapping)
            if not (name in holder if is_mapping else hasattr(holder, name)):
                known = sorted(str(k) for k in (holder if is_mapping else getattr(holder, "__dict__", {})))
                raise AttributeError(
                    f"Schedule: {type(self.target).__name__} has no {attribute!r}: no {name!r} in "
                    f"{type(holder).__name__}; it has {', '.join(known) or 'nothing'}."
                )
            value = holder[name] if is_mapping else getattr(holder, name)
        return holder, name, value
