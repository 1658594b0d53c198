"""Validation every few epochs, and after the last."""

from __future__ import annotations

from ignite.engine import Engine, Events
from monai.handlers import ValidationHandler

__all__ = ["IntervalValidation"]


class IntervalValidation(ValidationHandler):
    """MONAI's `ValidationHandler` by epochs, which validates after the last epoch too.

    MONAI's knows multiples of the interval only: 130 epochs with an interval of 20 would end with a model that no
    line of `metrics.csv` measures. A training that is resumed after its last epoch, because it was killed before it had
    drawn and written its results, is validated once more for them.

    Args:
        validator: the engine that validates; `set_validator` may give it later.
        interval: epochs from validation to validation.

    Raises:
        ValueError: for an interval below 1.
    """

    def attach(self, engine: Engine) -> None:
        """Follow `engine`, the trainer."""
        if self.interval < 1:
            raise ValueError(f"IntervalValidation: interval={self.interval}; give a whole number of epochs >= 1")
        due = lambda engine, epoch: epoch % self.interval == 0 or epoch == engine.state.max_epochs  # noqa: E731
        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=due), self)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def __call__(self, engine: Engine) -> None:
        super().__call__(engine)
        self._validated = True

    def _start(self, engine: Engine) -> None:
        self._validated = False

    def _finish(self, engine: Engine) -> None:
        if not self._validated:
            self(engine)
