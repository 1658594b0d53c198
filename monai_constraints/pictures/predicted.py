"""Predicted against true values of slices of patients who were held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from monai_constraints.data import Residuals
from monai_constraints.files import replacing
from monai_constraints.pictures.curves import COLOURS

__all__ = ["plot_predicted"]


def plot_predicted(residuals: Residuals, png_path: str | Path, *, unit: str, names: Sequence[str]) -> None:
    """Draw a panel for each class and value: the regressor, and grey the position prior where there is one.

    Args:
        residuals: of held-out patients.
        png_path: the picture.
        unit: of the values.
        names: of the classes.
    """
    _, classes, values = residuals.true.shape
    figure = Figure(figsize=(6.2 * values * classes, 6.4), layout="constrained")
    panels = figure.subplots(1, values * classes, squeeze=False)[0]
    for place, axes in enumerate(panels):
        k, m = divmod(place, values)
        true = residuals.true[:, k, m].numpy()
        known = np.isfinite(true)
        error = float(residuals.errors()[k, m])
        title = names[k] + (f", value {m}" if values > 1 else "")
        title += f": off by {error:.0f} {unit} on average"
        if residuals.prior is not None:
            prior = residuals.prior[:, k, m].numpy()
            axes.scatter(true[known], prior[known], s=45, color="0.75", label="place of the slice alone")
            title += f"\nplace of the slice alone: {float(residuals.errors(prior=True)[k, m]):.0f}"
        predicted = residuals.predicted[:, k, m].numpy()
        axes.scatter(true[known], predicted[known], s=45, color=COLOURS[0], label="regressor")
        ends = [min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])]
        axes.plot(ends, ends, color="0.3", linewidth=1.5)
        axes.set(xlim=ends, ylim=ends, aspect="equal")
        axes.set_xlabel(f"true, {unit}", fontsize=16)
        axes.set_ylabel("predicted, patient held out", fontsize=16)
        axes.set_title(title, fontsize=16, loc="left")
        axes.tick_params(labelsize=13)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=13, frameon=False, loc="upper left")
    with replacing(Path(png_path)) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
