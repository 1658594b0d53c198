"""Drawing: curves, predictions beside the truth, boxes and bands, proposals, and predicted against true values."""

from __future__ import annotations

from .bands import bands_of_files, plot_bands
from .curves import plot_curves
from .examples import plot_examples
from .predicted import plot_predicted
from .proposals import plot_proposals

__all__ = ["bands_of_files", "plot_bands", "plot_curves", "plot_examples", "plot_predicted", "plot_proposals"]
