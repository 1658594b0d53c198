"""Drawing: curves of a training, predictions beside the truth, and proposals over the epochs."""

from __future__ import annotations

from .bands import bands_of_files, plot_bands
from .curves import plot_curves
from .examples import plot_examples
from .proposals import plot_proposals

__all__ = ["bands_of_files", "plot_bands", "plot_curves", "plot_examples", "plot_proposals"]
