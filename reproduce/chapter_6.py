"""Figures 6.2 to 6.4 and B.1 from the runs of a table 6.1: `python -m reproduce.chapter_6 OUT [--case NAME]`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.image
import numpy as np
import torch
from matplotlib.figure import Figure
from monai.bundle import ConfigParser

from monai_constraints.columns import filled_column
from monai_constraints.files import replacing
from monai_constraints.keys import BOXES, CASE, LABEL
from monai_constraints.pictures.bands import draw_bands
from monai_constraints.pictures.curves import draw_panel
from monai_constraints.pictures.examples import TRUTH, draw_contours, draw_image
from reproduce.figures import around, draw_cases, draw_curves
from reproduce.results import Group, Measured, measure

__all__ = ["draw_chapter_6", "main"]

logger = logging.getLogger(__name__)

NAMES = {
    "box_as_label": "Box as label", "deepcut": "DeepCut", "deepcut_anew": "DeepCut, network anew",
    "tightness_emptiness": "Tightness, emptiness", "tightness_size": "Tightness, size",
    "masked_ce": "Tightness, size, masked CE", "emptiness": "Tightness, size, emptiness", "both": "All four",
    "no_ellipse": "All four, and CRF energy", "ellipse_as_label": "Ellipse as label",
    "default": "The default, with ellipses", "full": "Full supervision",
}  # fmt: skip


def draw_chapter_6(out: Path, *, case: str = "") -> list[str]:
    """Draw what the finished runs of a table 6.1 in `out` have: 6_2.png, 6_3.png, 6_4.png, and b_1.png of DeepCut.

    6.2: lines and bands of a box on one slice. 6.3: 2D Dice of the validation over the epochs, a line a row, seeds as a
    band. 6.4: the worst, the median and the best case of full supervision, or of the last row that there is, by rows,
    first seed. B.1: the slices that DeepCut shows, and which part of its boxes is the target of each class.

    Args:
        out: of `python -m reproduce.table`.
        case: of 6.2; by default the first of the run.

    Raises:
        FileNotFoundError: no finished run of a row that the figures show.
        ValueError: a case that the run does not show, or one without structure.
    """
    groups = [Group(name, label, folders=_finished(out, name)) for name, label in NAMES.items()]
    groups = [group for group in groups if group.folders]
    if not groups:
        raise FileNotFoundError(f"chapter_6: no finished runs such as runs/full/seed0 in {out}; make table 6.1 first")
    measured = {group.name: [measure(folder) for folder in group.folders] for group in groups}
    lines = {NAMES[name]: runs for name, runs in measured.items()}
    figures = {
        "6_2.png": _bands(groups[-1].folders[0], case),
        "6_3.png": draw_curves(lines, list(lines)),
        "6_4.png": draw_cases(groups, measured, "full"),
        "b_1.png": _proposals(groups, measured),
    }
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    for name, figure in drawn.items():
        with replacing(out / name) as temporary:
            figure.savefig(temporary, format="png", dpi=100)
    return list(drawn)


def _finished(out: Path, row: str) -> list[Path]:
    return [path.parent for path in sorted((out / "runs" / row).glob("seed*/model.pt"))]


def _bands(run: Path, case: str) -> Figure:
    """A slice four times, with the box of its largest structure: rows and columns, one by one and in bands."""
    planes = np.load(run / "predictions.npz")
    cases = sorted(name[6:] for name in planes.files if name.startswith("image/"))
    if not cases or (case and case not in cases):
        raise ValueError(f"chapter_6: {run} does not show the case {case!r}; choose among {cases[:8]}")
    case = case or cases[0]
    parser = ConfigParser(ConfigParser.load_config_file(run / "config.yaml"))
    image, label = planes[f"image/{case}"].astype(np.float32), planes[f"label/{case}"]
    sample = {LABEL: torch.from_numpy(label.astype(np.int64))[None], CASE: case}
    boxes = np.asarray(parser.get_parsed_content("boxes")(sample)[BOXES])
    areas = np.ptp(boxes, axis=-1).prod(-1).max(-1)
    if not areas.any():
        raise ValueError(f"chapter_6: the slice of the case {case!r} has no structure; choose another of {cases[:8]}")
    of_class, width = boxes[areas.argmax()][None], int(parser.get_parsed_content("band_width"))
    figure = Figure(figsize=(18, 5.6), layout="constrained")
    panels = [(lines, axis) for lines in (1, width) for axis in (0, 1)]
    for axes, (lines, axis) in zip(figure.subplots(1, len(panels)), panels):
        draw_image(axes, image)
        draw_contours(axes, label * (label == parser.get_parsed_content("classes")[areas.argmax()]), TRUTH)
        draw_bands(axes, of_class, lines, axis)
        axes.set(**around([label]))
        what = ("row", "column")[axis]
        text = f"{what}s, each with\na pixel" if lines == 1 else f"bands of {lines} {what}s, each with\na pixel a line"
        axes.set_title(f"{text} or more", fontsize=17)
    return figure


def _proposals(groups: Sequence[Group], measured: Mapping[str, Sequence[Measured]]) -> Figure | None:
    """Above the picture that DeepCut left, below the parts that are filled, of the first seed of its first row."""
    row = next((group for group in groups if group.name.startswith("deepcut")), None)
    if row is None:
        return None
    folder, epochs = row.folders[0], measured[row.name][0].epochs
    names = ConfigParser(ConfigParser.load_config_file(folder / "config.yaml")).get_parsed_content("class_names")
    columns = {name: filled_column(k) for k, name in enumerate(names, 1)}
    lines = {name: epochs[["epoch", c]].dropna().to_numpy().T for name, c in columns.items() if c in epochs}
    shares = {name: (at - 1, part) for name, (at, part) in lines.items()}  # an update comes before its epoch
    path = folder / "proposals.png"
    picture = matplotlib.image.imread(path) if path.is_file() else None
    heights = {} if picture is None else {"picture": min(14 * picture.shape[0] / picture.shape[1], 10)}
    heights |= {"shares": 6} if shares else {}
    if not heights:
        return None
    figure = Figure(figsize=(14, sum(heights.values())), layout="constrained")
    grid = figure.subplots(len(heights), 1, squeeze=False, height_ratios=list(heights.values()))
    if picture is not None:
        grid[0, 0].imshow(picture)
        grid[0, 0].set_axis_off()
    if shares:
        grid[-1, 0].set_ylim(0, 1.02)
        draw_panel(grid[-1, 0], f"{row.label}: part of its boxes that is a class's target", shares, line_height=0.06)
    return figure


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    parser = argparse.ArgumentParser(prog="python -m reproduce.chapter_6", description="Figures 6.2 to 6.4 and B.1.")
    parser.add_argument("out", type=Path, help="the folder of a table 6.1")
    parser.add_argument("--case", default="", help="of figure 6.2")
    given = parser.parse_args()
    logger.info("%s written in %s", ", ".join(draw_chapter_6(given.out, case=given.case)), given.out)


if __name__ == "__main__":
    main()
