"""Figures 5.2 to 5.4 from the runs of table 5.1: `python -m reproduce.chapter_5 OUT [--case NAME]`."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from monai_constraints.files import replacing
from monai_constraints.pictures.curves import draw_panel, line_style
from monai_constraints.pictures.examples import PREDICTION, TRUTH, draw_contours, draw_image
from reproduce.results import Measured, measure

__all__ = ["draw_chapter_5", "main"]

logger = logging.getLogger(__name__)

NAMES = {
    "fs": "FS", "proposals": "Proposals", "proposed": "Proposed", "oracle": "Oracle", "prior": "Position prior",
    "fs_consistency": "FS, consistency", "proposed_consistency": "Proposed, consistency",
}  # fmt: skip
Runs = Mapping[tuple[str, int], Sequence[tuple[Path, Measured]]]


def draw_chapter_5(out: Path, *, case: str = "") -> list[str]:
    """Draw what the finished runs of a table 5.1 in `out` have: 5_2.png, 5_3.png, 5_4.png.

    5.2: Dice of each method over the number of annotated patients, in 2D and 3D, mean and standard deviation over the
    runs (the thesis's bars are over the last 50 epochs of one), and that of the row full. 5.3: 2D Dice over the epochs,
    at the fewest and at the most patients. 5.4: one slice, methods by number of patients, first seed.

    Args:
        out: of `python -m reproduce.table`.
        case: of 5.4; by default the first that all runs show.

    Raises:
        FileNotFoundError: no finished run whose name is a method and a number, such as fs_5.
        ValueError: a case that not all runs show.
    """
    runs = _runs(out)
    if not runs:
        raise FileNotFoundError(f"chapter_5: no finished runs such as runs/fs_5/seed0 in {out}; make table 5.1 first")
    full = [measure(path.parent) for path in sorted((out / "runs" / "full").glob("seed*/model.pt"))]
    over = _over_patients(runs, full)
    figures = {"5_2.png": over, "5_3.png": _over_epochs(runs), "5_4.png": _one_slice(runs, case)}
    for name, figure in figures.items():
        with replacing(out / name) as temporary:
            figure.savefig(temporary, format="png", dpi=100)
    return list(figures)


def _runs(out: Path) -> Runs:
    found = defaultdict(list)
    for path in sorted((out / "runs").glob("*/seed*/model.pt")):
        name = re.fullmatch(r"(\w+?)_(\d+)", path.parents[1].name)
        if name and name[1] in NAMES:
            found[name[1], int(name[2])].append((path.parent, measure(path.parent)))
    return found


def _over_patients(runs: Runs, full: Sequence[Measured]) -> Figure:
    figure = Figure(figsize=(18, 7.3), layout="constrained")
    lowest = 1.0
    for axes, metric, title in zip(figure.subplots(1, 2), ("dice_2d", "dice_3d"), ("Dice 2D", "Dice 3D")):
        for place, (method, label) in enumerate(NAMES.items()):
            counts = sorted(count for name, count in runs if name == method)
            values = [[run.numbers[metric] for _, run in runs[method, count]] for count in counts]
            if counts:
                lowest = min(lowest, *(v for group in values for v in group))
                colour, style = line_style(place)
                axes.errorbar(
                    counts, [np.mean(v) for v in values], [np.std(v) for v in values], color=colour, linestyle=style,
                    linewidth=2.5, marker="o", capsize=4, label=label,
                )  # fmt: skip
        if full:
            height = np.mean([run.numbers[metric] for run in full])
            axes.axhline(height, color="0.3", linewidth=1.5, linestyle=":", label="all annotated")
        axes.set_title(f"{title}, mean and sd over runs", fontsize=20, loc="left")
        axes.set_xlabel("annotated patients", fontsize=17)
        axes.tick_params(labelsize=15)
        axes.grid(color="0.9")
        axes.set_ylim(max(0, np.floor(10 * lowest - 1) / 10), 1)
    axes.legend(fontsize=15, loc="lower right")
    return figure


def _over_epochs(runs: Runs) -> Figure:
    counts = sorted({count for _, count in runs})
    lines = {}
    for (method, count), these in runs.items():
        if count in (counts[0], counts[-1]):
            epochs = these[0][1].epochs.dropna(subset=["val_dice"])
            lines[f"{NAMES[method]}, {count}"] = (epochs["epoch"].to_numpy(), epochs["val_dice"].to_numpy())
    figure = Figure(figsize=(14, 8), layout="constrained")
    draw_panel(figure.subplots(), "Dice of validation slices", lines, mark_best=False, line_height=0.05)
    return figure


def _one_slice(runs: Runs, case: str) -> Figure:
    planes = {key: np.load(these[0][0] / "predictions.npz") for key, these in runs.items()}
    shown = sorted(set.intersection(*({k[6:] for k in one.files if k.startswith("image/")} for one in planes.values())))
    if not shown or (case and case not in shown):
        raise ValueError(f"chapter_5: not all runs show the case {case!r}; choose among {shown[:8]}")
    case = case or shown[0]
    counts, methods = sorted({count for _, count in runs}), [name for name in NAMES if any(m == name for m, _ in runs)]
    figure = Figure(figsize=(2.7 * len(counts) + 1.6, 2.7 * len(methods) + 1.2), layout="constrained")
    grid = figure.subplots(len(methods), len(counts), squeeze=False)
    for row, method in zip(grid, methods):
        for axes, count in zip(row, counts):
            axes.set(xticks=[], yticks=[])
            if (method, count) in planes:
                plane = planes[method, count]
                draw_image(axes, plane[f"image/{case}"].astype(np.float32))
                draw_contours(axes, plane[f"label/{case}"], TRUTH)
                draw_contours(axes, plane[f"pred/{case}"], PREDICTION)
            else:
                axes.spines[:].set_visible(False)  # not run
        row[0].set_ylabel(NAMES[method], fontsize=14)
    for axes, count in zip(grid[0], counts):
        axes.set_title(f"{count} patients", fontsize=15)
    return figure


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    parser = argparse.ArgumentParser(prog="python -m reproduce.chapter_5", description="Figures 5.2 to 5.4.")
    parser.add_argument("out", type=Path, help="the folder of table 5.1")
    parser.add_argument("--case", default="", help="of figure 5.4")
    given = parser.parse_args()
    logger.info("%s written in %s", ", ".join(draw_chapter_5(given.out, case=given.case)), given.out)


if __name__ == "__main__":
    main()
