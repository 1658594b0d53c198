"""Pictures of boxes and of their bands, over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from monai_constraints.data import LoadCased
from monai_constraints.files import replacing
from monai_constraints.keys import BOXES, CASE, IMAGE, SLICE, VOLUME_BOXES
from monai_constraints.pictures.boxes import BOX_COLOURS, draw_boxes
from monai_constraints.pictures.examples import TRUTH, draw_contours, draw_image
from monai_constraints.transforms import BoxesFromFiled, BoxesOfSliced

__all__ = ["bands_of_files", "draw_bands", "plot_bands"]


def draw_bands(axes: Axes, boxes: np.ndarray, width: int, axis: int) -> None:
    """The bands of `width` lines of boxes (K, J, 2, 2) along an axis: every second is darker."""
    draw_boxes(axes, boxes)
    for k, of_class in enumerate(boxes):
        colour = BOX_COLOURS[k % len(BOX_COLOURS)]
        for sides in of_class:
            if (sides[:, 1] <= sides[:, 0]).any():
                continue
            begin, end = (int(side) for side in sides[axis])
            for n, first in enumerate(range(begin, end, width)):
                part = sides.copy()
                part[axis] = first, min(first + width, end)
                (y0, y1), (x0, x1) = part
                corner, alpha = (x0 - 0.5, y0 - 0.5), 0.45 if n % 2 else 0.15
                axes.add_patch(Rectangle(corner, x1 - x0, y1 - y0, alpha=alpha, facecolor=colour, linewidth=0))


def plot_bands(samples: Sequence[Mapping[str, Any]], png_path: str | Path, *, width: int = 5, title: str = "") -> None:
    """A column for each sample: the image with its boxes, and the bands along either axis (thesis Fig. 6.2).

    Args:
        samples: dicts of image (H, W), boxes (K, J, 2, 2), case, and optionally label (H, W), whose outline is drawn.
        png_path: the picture.
        width: lines of a band.
        title: above everything.

    Raises:
        ValueError: there is no sample.
    """
    if not samples:
        raise ValueError("plot_bands: expected one sample or more, got none")
    heads = ["boxes", f"bands of {width} rows", f"bands of {width} columns"]
    height, breadth = np.shape(samples[0]["image"])
    size = (max(3.2 * len(samples), 5) + 0.8, 3.2 * height / breadth * len(heads) + 1.2)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(heads), len(samples), squeeze=False)
    for column, sample in zip(grid.T, samples):
        boxes = np.asarray(sample["boxes"])
        for axes in column:
            draw_image(axes, np.asarray(sample["image"]))
            if sample.get("label") is not None:
                draw_contours(axes, np.asarray(sample["label"]), TRUTH)
        column[0].set_title(str(sample["case"]).replace("_", " "), fontsize=13)
        draw_boxes(column[0], boxes)
        for axis, axes in enumerate(column[1:]):
            draw_bands(axes, boxes, width, axis)
    for axes, head in zip(grid[:, 0], heads):
        axes.set_ylabel(head, fontsize=15, weight="bold")
    if title:
        figure.suptitle(title, fontsize=18)
    with replacing(Path(png_path)) as temporary:
        figure.savefig(temporary, format="png", dpi=80)


def bands_of_files(
    images: Sequence[str | Path],
    boxes: str | Path,
    png_path: str | Path,
    *,
    width: int = 5,
    classes: int = 1,
    coordinates: str = "voxel",
    axis: int = -1,
) -> None:
    """The same of image files and a file of boxes: of each image the slice whose boxes are largest.

    Args:
        images: NIfTI or MetaImage files; their names without suffix are the cases of the file of boxes.
        boxes: CSV, JSON, or folder of Slicer markups, as `read_boxes` takes them.
        png_path, width: as in `plot_bands`.
        classes: K.
        coordinates: "voxel", or mm "LPS" or "RAS".
        axis: of the slices.

    Raises:
        ValueError, KeyError, FileNotFoundError: for wrong boxes, a case without any, or a missing file.
    """
    read, given = LoadCased([IMAGE]), BoxesFromFiled(boxes, classes=classes, coordinates=coordinates)
    cut, samples = BoxesOfSliced(max_boxes=8, axis=axis), []
    for path in images:
        volume = given(read({IMAGE: str(path)}))
        sides = (volume[VOLUME_BOXES][..., 1] - volume[VOLUME_BOXES][..., 0]).clamp_min(0)
        largest = int(sides.prod(-1).flatten().argmax())
        low, high = volume[VOLUME_BOXES].flatten(0, 1)[largest, axis].tolist()
        number = max(0, (low + high - 1) // 2)
        plane = torch.as_tensor(volume[IMAGE]).select(axis, number)
        of_slice = cut({**volume, IMAGE: plane, SLICE: number})
        case = f"{volume[CASE]} slice {number}"
        samples.append({"image": plane[0].numpy(), "boxes": of_slice[BOXES].numpy(), "case": case})
    plot_bands(samples, png_path, width=width)
