"""Pictures of a table: curves, satisfaction, box plots over patients, and a panel of examples."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from monai_constraints.columns import DICE
from monai_constraints.files import replacing
from monai_constraints.pictures.curves import draw_panel, line_style
from monai_constraints.pictures.examples import PREDICTION, TRUTH, draw_contours, draw_image
from reproduce.results import PER_PATIENT, Group, Measured, constraint_names

__all__ = ["around", "draw_cases", "draw_curves", "draw_figures"]

Runs = Mapping[str, Sequence[Measured]]


def draw_figures(groups: Sequence[Group], measured: Runs, out: Path, *, reference: str = "") -> list[str]:
    """Draw what there is data for, and name the pictures: curves, satisfaction, patients, panel (.png); remove others.

    Args:
        groups: the rows; those without a finished run are left out, and keep their colour unless they are pending.
        measured: the runs of each row.
        out: the folder.
        reference: the row whose Dice says which cases the panel shows.
    """
    shown = {group.name: textwrap.fill(group.label, 26) for group in groups}
    order = [shown[group.name] for group in groups if not group.pending]
    there = {shown[name]: runs for name, runs in measured.items() if runs}
    figures = {
        "curves.png": draw_curves(there, order),
        "satisfaction.png": _satisfaction(there, order),
        "patients.png": _patients(there, order),
        "panel.png": draw_cases(groups, measured, reference),
    }
    for name, figure in figures.items():
        if figure is None:
            (out / name).unlink(missing_ok=True)  # an earlier report's, of runs that count no longer
        else:
            with replacing(out / name) as temporary:
                figure.savefig(temporary, format="png", dpi=100)
    return [name for name, figure in figures.items() if figure is not None]


def draw_curves(runs: Runs, order: Sequence[str]) -> Figure | None:
    """2D Dice over the epochs, a line for each label of `order` that has runs, with its last value."""
    if not runs:
        return None
    figure = Figure(figsize=(13, 7.3), layout="constrained")
    _draw_lines(figure.subplots(), "Dice of validation slices", "val_dice", runs, order, numbers=True)
    return figure


def _satisfaction(runs: Runs, order: Sequence[str]) -> Figure | None:
    names = constraint_names(dict.fromkeys(c for these in runs.values() for run in these for c in map(str, run.epochs)))
    if not names:
        return None
    figure = Figure(figsize=(20, 7.3 * len(names)), layout="constrained")
    grid = figure.subplots(len(names), 2, squeeze=False)
    for row, name in zip(grid, names):
        for axes, (title, quantity) in zip(row, (("s satisfied", "satisfied"), (" stability", "stability"))):
            _draw_lines(axes, f"Constraint{title}: {name}", f"val_{name}_{quantity}", runs, order)
    return figure


def _draw_lines(
    axes: Axes, title: str, column: str, runs: Runs, order: Sequence[str], *, numbers: bool = False
) -> None:
    """One line a row, the mean over its runs, and a band from the lowest to the highest."""
    lines, bands, names = {}, {}, dict(zip(order, order))
    for label, these in runs.items():
        found = [run.epochs.set_index("epoch")[column].dropna() for run in these if column in run.epochs]
        found = [one for one in found if len(one)]
        # Only the epochs that all runs have: a mean over fewer would jump.
        values = pd.concat(found, axis=1, join="inner").sort_index() if found else pd.DataFrame()
        if values.empty:
            continue
        mean = values.mean(axis=1)
        names[label] = f"{label} {mean.iloc[-1]:.3f}" if numbers else label
        lines[names[label]] = (mean.index.to_numpy(), mean.to_numpy())
        if len(found) > 1:
            bands[names[label]] = (values.min(axis=1).to_numpy(), values.max(axis=1).to_numpy())
    if lines:
        height = 0.052
        draw_panel(axes, title, lines, bands=bands, order=list(names.values()), mark_best=False, line_height=height)
    else:
        axes.set_axis_off()


def _patients(runs: Runs, order: Sequence[str]) -> Figure | None:
    panels = {title: _per_case(runs, metric) for metric, title in (("dice_3d", "Dice in 3D"), ("hd95", "HD95 (mm)"))}
    panels = {title: values for title, values in panels.items() if values}
    if not panels:
        return None
    rows = [label for label in order if label in next(iter(panels.values()))]
    figure = Figure(figsize=(9 * len(panels) + 2, 0.95 * len(rows) + 2), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)
    for axes, (title, values) in zip(grid[0], panels.items()):
        for i, label in enumerate(rows):
            colour, _ = line_style(list(order).index(label))
            axes.boxplot(
                [values[label]], positions=[i], orientation="horizontal", widths=0.6, patch_artist=True,
                boxprops={"facecolor": colour, "alpha": 0.5, "edgecolor": colour}, whiskerprops={"color": colour},
                capprops={"color": colour}, medianprops={"color": "black", "linewidth": 3},
                flierprops={"marker": "o", "markeredgecolor": colour, "markersize": 5},
            )  # fmt: skip
        axes.set_title(f"{title}, one value a case", fontsize=20, loc="left")
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(labelsize=15)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_xlim((-0.02, 1.02) if "Dice" in title else (0, None))
    grid[0, 0].invert_yaxis()
    return figure


def _per_case(runs: Runs, metric: str) -> dict[str, list[float]]:
    """A value for each case and run, the mean over classes, by row."""
    found = {
        label: [v for run in these for v in _case_means(run, PER_PATIENT[metric]).values() if np.isfinite(v)]
        for label, these in runs.items()
    }
    return {label: values for label, values in found.items() if values}


def _case_means(run: Measured, column: str) -> dict[str, float]:
    """The mean over the classes of each case; none where the run has no patients.csv."""
    return {str(case): part[column].mean() for case, part in run.patients.groupby("case")} if len(run.patients) else {}


def draw_cases(groups: Sequence[Group], measured: Runs, reference: str) -> Figure | None:
    """Rows: the worst, the median and the best case of the reference; columns: ground truth, then each method."""
    columns = {group.name: (group.label, planes) for group in groups if (planes := _predictions(group)) is not None}
    columns = {name: column for name, column in columns.items() if measured.get(name)}
    if not columns:
        return None
    judge = reference if reference in columns else list(columns)[-1]
    dice = {name: _case_means(measured[name][0], DICE) for name in columns}
    shown = [{key[6:] for key in planes if key.startswith("image/")} for _, planes in columns.values()]
    cases = sorted(set(dice[judge]).intersection(*shown), key=lambda case: (dice[judge][case], case))
    if not cases:
        return None
    cases = list(dict.fromkeys([cases[0], cases[len(cases) // 2], cases[-1]]))
    heads = [textwrap.fill(head, 17) for head in ("ground truth", *(label for label, _ in columns.values()))]
    limits = [
        around([columns[judge][1][f"label/{case}"], *(planes[f"pred/{case}"] for _, planes in columns.values())])
        for case in cases
    ]
    tallest = max(abs(np.diff(one["ylim"]).item() / np.diff(one["xlim"]).item()) for one in limits)
    height = (2.7 * tallest + 0.2) * len(cases) + 1.9 + 0.3 * max(head.count("\n") + 1 for head in heads)
    width = 2.7 * (len(columns) + 1) + 0.6
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(len(cases), len(columns) + 1, squeeze=False)
    for row, case, seen in zip(grid, cases, limits):
        planes = columns[judge][1]
        image, label = planes[f"image/{case}"].astype(np.float32), planes[f"label/{case}"]
        for axes, name in zip(row, ["", *columns]):
            draw_image(axes, image)
            draw_contours(axes, label, TRUTH)
            if name:
                draw_contours(axes, columns[name][1][f"pred/{case}"], PREDICTION)
                axes.set_xlabel(f"Dice {dice[name][case]:.2f}" if case in dice[name] else "", fontsize=14)
            axes.set(**seen)
        row[0].set_ylabel(case.replace("_", "\n", 1), fontsize=14)
    for axes, head in zip(grid[0], heads):
        axes.set_title(head, fontsize=15)
    handles = [Line2D([], [], color=TRUTH, linewidth=4, label="ground truth")]
    handles += [Line2D([], [], color=PREDICTION, linewidth=4, label="prediction")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=16)
    title = f"Worst, median and best case of: {columns[judge][0]}"
    figure.suptitle(textwrap.fill(title, int(7 * width)), fontsize=18)  # letters an inch, at this size
    return figure


def _predictions(group: Group) -> dict[str, np.ndarray] | None:
    for folder in group.folders:
        if (folder / "predictions.npz").is_file():
            with np.load(folder / "predictions.npz") as planes:
                return dict(planes)
    return None


def around(maps: Sequence[np.ndarray]) -> dict[str, tuple[float, float]]:
    """Limits of axes: a square around the structures of all maps, of half the image or more.

    So no prediction is cut off.
    """
    label = np.maximum.reduce(maps)
    where = np.argwhere(label > 0)
    low, high = (where.min(0), where.max(0)) if len(where) else (np.zeros(2), np.array(label.shape) - 1)
    centre, side = (low + high) / 2, max(1.1 * float((high - low).max() + 1), max(label.shape) / 2)
    start = np.clip(centre - side / 2, 0, np.maximum(np.array(label.shape) - side, 0))  # inside the image
    stop = np.minimum(start + side, label.shape)
    return {"xlim": (start[1] - 0.5, stop[1] - 0.5), "ylim": (stop[0] - 0.5, start[0] - 0.5)}
