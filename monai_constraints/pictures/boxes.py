"""The outlines of boxes over an image."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

__all__ = ["BOX_COLOURS", "draw_boxes"]

BOX_COLOURS = ("#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00")


def draw_boxes(axes: Axes, boxes: np.ndarray) -> None:
    """The outlines of boxes (K, J, 2, 2), a colour a class; empty ones are left out."""
    for k, of_class in enumerate(boxes):
        for (y0, y1), (x0, x1) in of_class:
            if y1 > y0 and x1 > x0:
                corner, colour = (x0 - 0.5, y0 - 0.5), BOX_COLOURS[k % len(BOX_COLOURS)]
                axes.add_patch(Rectangle(corner, x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=2))
