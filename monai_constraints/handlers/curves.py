"""curves.png of a run, while it trains."""

from __future__ import annotations

from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Engine, Events

from monai_constraints.pictures.curves import plot_curves

__all__ = ["Curves"]


class Curves:
    """Draw ``curves.png`` from ``metrics.csv`` in ``output_dir`` every few epochs and at the end, on rank 0.

    Args:
        output_dir: the folder of ``MetricsLog``; attach that first.
        every: epochs between two drawings.
    """

    def __init__(self, output_dir: str | Path, *, every: int = 5) -> None:
        if every < 1:
            raise ValueError(f"Curves: every must be 1 or more, got {every}.")
        self.output_dir = Path(output_dir)
        self.every = every

    def attach(self, engine: Engine) -> None:
        """Follow ``engine``, the trainer."""
        if not engine.has_event_handler(self._start, Events.STARTED):
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.COMPLETED, self._draw)

    def _start(self, engine: Engine) -> None:
        # Now, so that it stands behind MetricsLog's row, which is queued at the same event.
        if not engine.has_event_handler(self._draw_some, Events.EPOCH_COMPLETED):
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw_some)

    def _draw_some(self, engine: Engine) -> None:
        if engine.state.epoch % self.every == 0:
            self._draw(engine)

    def _draw(self, engine: Engine) -> None:
        path = self.output_dir / "metrics.csv"
        if idist.get_rank() == 0 and path.is_file():
            plot_curves(path, self.output_dir / "curves.png")
