"""Curves of a training over its epochs, drawn from metrics.csv."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from monai_constraints.files import replacing

__all__ = ["COLOURS", "draw_panel", "line_style", "plot_curves"]

# Okabe and Ito's set, which colour-blind people can tell apart, without its yellow (invisible on white).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

# Title of a panel -> what the name of a validation metric contains.
_PANELS = {
    "Dice": "dice",
    "Constraints satisfied": "satisf",
    "Constraint violation": "violat",
    "Constraint stability": "stab",
}


def plot_curves(csv_path: str | Path, png_path: str | Path) -> None:
    """Draw ``metrics.csv`` as small panels: Dice, loss terms, what there is on constraints and
    their multipliers; nothing if empty.

    The best Dice is marked; positive losses have a logarithmic axis.
    """
    with open(csv_path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {name: np.array([float(row[name] or "nan") for row in rows]) for name in (rows or [{}])[0]}
    columns = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    panels: dict[str, dict[str, np.ndarray]] = {}
    for title, part in _PANELS.items():
        panels[title] = {k[4:]: v for k, v in columns.items() if k.startswith("val_") and part in k.lower()}
        if title == "Dice":
            panels["Loss"] = {k[5:] or "total": v for k, v in columns.items() if f"{k}_".startswith("loss_")}
    panels["Multipliers"] = {k[11:]: v for k, v in columns.items() if k.startswith("multiplier_")}
    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        return
    across = min(len(panels), 3)
    down = -(-len(panels) // across)
    figure = Figure(figsize=(7 * across, 4.8 * down), layout="constrained")
    for i, (title, lines) in enumerate(panels.items()):
        axes = figure.add_subplot(down, across, i + 1)
        draw_panel(axes, title, {name: (columns["epoch"], line) for name, line in lines.items()})
    with replacing(Path(png_path)) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def draw_panel(
    axes: Axes,
    title: str,
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    bands: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
    order: Sequence[str] = (),
    mark_best: bool = True,
    line_height: float = 0.075,
) -> None:
    """Draw lines (epochs, values) by name, each labelled at its end; Dice and shares from 0 to 1.

    Args:
        axes: where.
        title: also says what the values are.
        lines: (epochs, values) by label.
        bands: lowest and highest value at those epochs, by label.
        order: the place of each label among the colours, where that is not its place among the lines.
        mark_best: put a star at the best value of a panel of Dice.
        line_height: of the labels, as a part of the axes' height.
    """
    values = np.concatenate([line for _, line in lines.values()])
    values = values[np.isfinite(values)]
    if title == "Loss" and values.min() > 0:
        axes.set_yscale("log")
    elif title.startswith(("Dice", "Constraints satisfied", "Constraint stability")):
        axes.set_ylim(0, 1.02)
    ends: list[tuple[float, str, str, str]] = []
    for name, (epochs, line) in lines.items():
        there = np.isfinite(line)
        colour, style = line_style(list(order or lines).index(name))
        marker = "o" if there.sum() <= 20 else None
        axes.plot(epochs[there], line[there], style, color=colour, linewidth=2.5, marker=marker)
        if bands and name in bands:
            low, high = (edge[there] for edge in bands[name])
            axes.fill_between(epochs[there], low, high, color=colour, alpha=0.2, linewidth=0)
        text = name
        if title == "Dice" and mark_best:
            best = int(np.nanargmax(line))
            point = (epochs[best], line[best])
            axes.scatter(*point, s=350, marker="*", color=colour, edgecolors="white", zorder=5)
            text = f"{name}\nbest {line[best]:.3f} (epoch {epochs[best]:.0f})"
        ends.append((float(line[there][-1]), text, colour, style))
    axes.set_title(title, fontsize=20, loc="left")
    axes.set_xlabel("epoch", fontsize=17)
    axes.tick_params(labelsize=15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    left, right = axes.get_xlim()
    if right - left < 1:  # one epoch alone, around which there would be fractions of epochs
        axes.set_xlim((left + right) / 2 - 1, (left + right) / 2 + 1)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _label(axes, ends, line_height)


def line_style(i: int) -> tuple[str, str]:
    """Colour and dashes of the i-th line."""
    return COLOURS[i % len(COLOURS)], ("-", "--", ":")[i // len(COLOURS) % 3]


def _label(axes: Axes, ends: list[tuple[float, str, str, str]], line_height: float) -> None:
    """Write each line's name at its end, pushed apart so that none covers another, behind a piece of the line."""
    axes.set_ylim(axes.get_ylim())  # labels stand in fractions of the axis: freeze it
    to_fraction = axes.transData + axes.transAxes.inverted()
    ends = sorted(ends)
    heights = [line_height * (1 + text.count("\n")) for _, text, _, _ in ends]
    at = [float(to_fraction.transform((1.0, value))[1]) for value, *_ in ends]
    floor, ceiling = -1.0, 1.04
    for i, height in enumerate(heights):  # up from the lowest, then down from the top if that overflowed
        at[i] = max(at[i], floor + height / 2)
        floor = at[i] + height / 2
    for i in reversed(range(len(at))):
        at[i] = min(at[i], ceiling - heights[i] / 2)
        ceiling = at[i] - heights[i] / 2
    for fraction, (_, text, colour, style) in zip(at, ends):
        # Dashes tell apart two lines of one colour; three of them fit in here.
        axes.plot(
            [1.015, 1.06], [fraction] * 2, style, color=colour, linewidth=2.5, transform=axes.transAxes, clip_on=False,
            scalex=False, scaley=False,
        )  # fmt: skip
        axes.text(1.075, fraction, text, transform=axes.transAxes, color=colour, fontsize=15, va="center")
