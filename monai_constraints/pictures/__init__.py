"""Drawing: curves of a training, and predictions beside the truth."""

from __future__ import annotations

from .curves import plot_curves
from .examples import plot_examples

__all__ = ["plot_curves", "plot_examples"]
