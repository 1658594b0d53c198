"""A picture of proposals over the epochs: what becomes of the boxes that a training began with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from monai_constraints.files import replacing
from monai_constraints.pictures.curves import COLOURS
from monai_constraints.pictures.examples import draw_contours, draw_image

__all__ = ["plot_proposals"]

COLUMNS = 6


def plot_proposals(
    images: np.ndarray, boxes: np.ndarray, proposals: np.ndarray, epochs: Sequence[int], png_path: str | Path
) -> None:
    """Draw a row for each slice: its image with the boxes as outlines, and the targets after some epochs as areas.

    As Fig. B.1 of the thesis. Of more than six epochs six are shown, the first and the last among them; the parts of
    the slices that are far from every box are cut off.

    Args:
        images: (N, *S), S = H, W or a volume's, of which the middle slice of the boxes along the last axis is shown.
        boxes: (N, K, *S), masks of the boxes of each foreground class.
        proposals: (U, N, *S), classes after each of `epochs`.
        epochs: U numbers; epoch 0 is what the training began with.
        png_path: the picture.

    Raises:
        ValueError: the shapes do not fit.
    """
    count, _, *spatial = boxes.shape
    if images.shape != (count, *spatial) or proposals.shape != (len(epochs), *images.shape) or not len(epochs):
        raise ValueError(
            f"plot_proposals: images {images.shape}, boxes {boxes.shape}, proposals {proposals.shape}, {len(epochs)} "
            "epochs; expected (N, *S), (N, K, *S), (U, N, *S) and U"
        )
    if len(spatial) == 3:
        places = [_middle(box.any(0)) for box in boxes]
        images = np.stack([image[..., z] for image, z in zip(images, places)])
        boxes = np.stack([box[..., z] for box, z in zip(boxes, places)])
        proposals = np.stack([targets[..., z] for targets, z in zip(proposals.swapaxes(0, 1), places)], axis=1)
    columns = np.unique(np.linspace(0, len(epochs) - 1, COLUMNS).round().astype(int))
    figure = Figure(figsize=(2.9 * len(columns) + 0.2, 2.9 * count + 0.7), layout="constrained")
    grid = figure.subplots(count, len(columns), squeeze=False)
    for axes_row, image, box, targets in zip(grid, images, boxes, proposals.swapaxes(0, 1)):
        where = np.argwhere(box.any(0))
        centre, side = (where.min(0) + where.max(0)) / 2, 1.5 * float(np.ptp(where, axis=0).max() + 8)
        low, high = centre - side / 2, centre + side / 2
        for axes, column in zip(axes_row, columns):
            draw_image(axes, image)
            overlay = np.zeros((*image.shape, 4))
            for k, mask in enumerate(box, 1):
                colour = COLOURS[k % len(COLOURS)]
                overlay[targets[column] == k] = to_rgba(colour, 0.55)
                draw_contours(axes, mask.astype(np.uint8), colour)
            axes.imshow(overlay, interpolation="nearest")
            axes.set(xlim=(low[1], high[1]), ylim=(high[0], low[0]))
    for axes, column in zip(grid[0], columns):
        axes.set_title(f"after epoch {epochs[column]}" if epochs[column] else "at the start", fontsize=17)
    with replacing(Path(png_path)) as temporary:
        figure.savefig(temporary, format="png", dpi=80)


def _middle(mask: np.ndarray) -> int:
    """The middle one of the slices with the most voxels."""
    counts = mask.sum((0, 1))
    most = np.flatnonzero(counts == counts.max())
    return int(most[len(most) // 2])
