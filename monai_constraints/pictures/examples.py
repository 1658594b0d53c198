"""Pictures of predictions: image, weak label, prediction against ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from monai.data import MetaTensor
from scipy import ndimage
from torch import Tensor

from monai_constraints.files import replacing
from monai_constraints.keys import UNKNOWN
from monai_constraints.pictures.boxes import draw_boxes
from monai_constraints.pictures.curves import COLOURS

__all__ = [
    "PREDICTION",
    "TRUTH",
    "class_map",
    "draw_contours",
    "draw_image",
    "flat",
    "plot_examples",
    "shown_channel",
]

TRUTH, PREDICTION = "#56B4E9", "#E69F00"


def plot_examples(samples: Sequence[Mapping[str, Any]], png_path: str | Path, *, title: str = "") -> None:
    """Draw one column for each sample, worst first: image, weak label, prediction against ground truth.

    Args:
        samples: dicts of image, weak (or None), label, prediction: (H, W) or (1, H, W), or 3D, of which the
            slice along the last axis with the most foreground is drawn; dice in [0, 1]; case.
        png_path: the picture.
        title: above everything.

    Raises:
        ValueError: there is no sample.
    """
    if not samples:
        raise ValueError("plot_examples: expected one sample or more, got none.")
    rows = [flat(sample) for sample in sorted(samples, key=lambda sample: sample["dice"])]
    has_weak = any(row["weak"] is not None and (row["weak"] != UNKNOWN).any() for row in rows)
    heads = ["image", *(["weak label"] if has_weak else []), "prediction"]
    height, width = rows[0]["image"].shape
    panel = 3.2
    # Landscape, as a slide is; room for two lines of title.
    size = (max(panel * len(rows), 9) + 0.8, panel * height / width * len(heads) + 2.4)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(heads), len(rows), squeeze=False)
    for axes_column, row in zip(grid.T, rows):
        for axes in axes_column:
            draw_image(axes, row["image"])
        axes_column[0].set_title(f"Dice {row['dice']:.2f}\n{row['case'].replace('_', ' ')}", fontsize=15)
        if has_weak and row["weak"] is not None:
            _draw_weak(axes_column[1], row["weak"])
        if row["boxes"] is not None:
            draw_boxes(axes_column[1 if has_weak else 0], row["boxes"])
        draw_contours(axes_column[-1], row["label"], TRUTH)
        draw_contours(axes_column[-1], row["prediction"], PREDICTION)
        axes_column[-1].set(xlim=axes_column[0].get_xlim(), ylim=axes_column[0].get_ylim())
    for axes, head in zip(grid[:, 0], heads):
        axes.set_ylabel(head, fontsize=18, weight="bold")
    handles: list[Any] = [
        Line2D([], [], color=TRUTH, linewidth=4, label="ground truth"),
        Line2D([], [], color=PREDICTION, linewidth=4, label="prediction"),
    ]
    known = {int(k) for row in rows if row["weak"] is not None for k in np.unique(row["weak"])}
    for k in sorted(known - {UNKNOWN}):
        handles.append(Patch(color=_colour(k), label=f"known: class {k}" if k else "known: background"))
    columns = min(len(handles), len(rows) + 1)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=17)
    if title:
        figure.suptitle(title, fontsize=22)
    with replacing(Path(png_path)) as temporary:
        figure.savefig(temporary, format="png", dpi=80)


def flat(sample: Mapping[str, Any]) -> dict[str, Any]:
    """The sample with 2D arrays."""
    names = ("image", "weak", "label", "prediction")
    arrays = {k: None if sample.get(k) is None else np.asarray(sample[k]) for k in names}
    arrays = {k: v[0] if v is not None and v.ndim > 2 and v.shape[0] == 1 else v for k, v in arrays.items()}
    label, boxes = arrays["label"], sample.get("boxes")
    if label is not None and label.ndim == 3:
        counts = ((label > 0) & (label != UNKNOWN)).sum((0, 1))
        most = np.flatnonzero(counts == counts.max())
        place = most[len(most) // 2]
        arrays = {k: None if v is None else v[..., place] for k, v in arrays.items()}
        if boxes is not None:
            crossed = (boxes[..., 2, 0] <= place) & (place < boxes[..., 2, 1])
            boxes = np.where(crossed[..., None, None], boxes[..., :2, :], 0)
    return {**arrays, "boxes": boxes, "dice": float(sample["dice"]), "case": str(sample["case"])}


def _colour(k: int) -> str:
    return "#CC79A7" if k == 0 else [c for c in COLOURS if c not in ("#CC79A7", "#000000")][(k - 1) % 5]


def _draw_weak(axes: Axes, weak: np.ndarray) -> None:
    overlay = np.zeros((*weak.shape, 4))
    for k in np.unique(weak[weak != UNKNOWN]):
        mask = weak == k
        overlay[mask] = to_rgba(_colour(int(k)), 0.3 if k == 0 else 0.75)
        parts, n = ndimage.label(mask, np.ones((3, 3)))
        sizes = np.bincount(parts.ravel(), minlength=n + 1)
        small = [i for i in range(1, n + 1) if sizes[i] <= 25]
        if 0 < len(small) <= 20:  # rings around points that nobody would see
            y, x = np.array(ndimage.center_of_mass(mask, parts, small)).T
            axes.scatter(x, y, s=350, facecolors="none", edgecolors=_colour(int(k)), linewidths=3)
    axes.imshow(overlay, interpolation="nearest")


def draw_image(axes: Axes, image: np.ndarray) -> None:
    """The image (H, W) in grey from its 1st to its 99.5th percentile, without a frame."""
    low, high = np.percentile(image, (1, 99.5))
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def draw_contours(axes: Axes, classes: np.ndarray, colour: str) -> None:
    """The outlines of all foreground classes of a map (H, W)."""
    for k in np.unique(classes[(classes > 0) & (classes != UNKNOWN)]):
        # A frame of nothing closes regions at the border and keeps a full one drawable.
        mask = np.pad(classes == k, 1).astype(float)
        y, x = np.mgrid[-1 : mask.shape[0] - 1, -1 : mask.shape[1] - 1]
        axes.contour(x, y, mask, levels=[0.5], colors=[colour], linewidths=2.5)


def shown_channel(image: Tensor, channel: int) -> Tensor:
    """One channel (*S) of an image (C, *S)."""
    n = len(image)
    if not 0 <= channel < n:
        raise ValueError(f"image_channel={channel}, but the image has {n} channels; choose 0 to {n - 1}")
    return image[channel]


def class_map(tensor: Tensor) -> Tensor:
    """(*S) classes, the channel with the largest value or the first of several, of (K, *S), or those in (1, *S)."""
    tensor = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor  # its operations are slow
    best, *others = tensor
    if not others:
        return best
    # Comparing channels takes a tenth of the time of argmax across them.
    classes = torch.zeros_like(best, dtype=torch.uint8)
    for k, channel in enumerate(others, 1):
        larger = channel > best
        classes.masked_fill_(larger, k)
        if k < len(others):
            best = torch.maximum(best, channel)
    return classes
