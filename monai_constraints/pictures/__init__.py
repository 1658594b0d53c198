"""Drawing: curves of a training, and predictions beside the truth."""

from __future__ import annotations

from .bands import bands_of_files, plot_bands
from .curves import plot_curves
from .examples import plot_examples

__all__ = ["bands_of_files", "plot_bands", "plot_curves", "plot_examples"]
