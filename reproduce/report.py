"""The table of a set of runs, in Markdown and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from monai_constraints.files import replacing
from reproduce.figures import draw_figures
from reproduce.results import Group, Measured, constraint_names, measure
from reproduce.table_file import SHOWN, Selection

__all__ = ["Heading", "write_report"]


class _Column(NamedTuple):
    """How a metric is shown; `note` explains it below the table."""

    heading: str
    digits: int = 1
    factor: float = 1
    note: str = ""


COLUMNS = {
    "dice_2d": _Column(
        "Dice 2D",
        3,
        note="mean over all slices; a slice without the structure counts 1 if nothing is predicted, else 0",
    ),
    "dice_2d_mean": _Column("Dice 2D, last 5", 3, note="the mean over the last five validations"),
    "dice_3d_mean": _Column("Dice 3D, last 5", 3, note="the mean over the last five validations"),
    "dice_2d_present": _Column("Dice 2D, present", 3, note="only slices with the structure"),
    "left_empty": _Column(
        "left empty %", 1, 100, "the share of the slices without the structure where nothing is predicted"
    ),
    "missed": _Column("missed %", 1, 100, "the share of the slices with the structure where nothing is predicted"),
    "dice_3d": _Column("Dice 3D", 3, note="mean over volumes, each measured whole (both empty: 1)"),
    "hd95": _Column(
        "HD95 mm",
        note="95th percentile of the surface distance of each volume, the larger direction; one side empty: the "
        "diagonal of the volume, both: 0",
    ),
    "ms_per_batch": _Column("ms/batch"),
    "seconds_per_epoch": _Column("s/epoch"),
    "seconds_per_update": _Column("s/update", note="of DeepCut's proposals; not in the seconds of an epoch"),
    "data_share": _Column(
        "waiting for data %", 1, 100, "the part of an epoch's time that training waits for batches"
    ),
    "minutes": _Column("minutes"),
    "epochs": _Column("epochs", 0),
}
ALWAYS = ("ms_per_batch", "seconds_per_epoch", "seconds_per_update", "data_share", "minutes", "epochs")
LEGACY = (
    "LEGACY SELECTION: every number is of the epoch with the best 2D Dice on the reported patients themselves, as in "
    "the papers. It is too good by what that choice gains. Pictures, 3D Dice and HD95 are not of that epoch."
)
LAST = "Every number is of the last epoch; nothing is chosen on the reported patients."


@dataclass(frozen=True)
class Heading:
    """What stands around a table."""

    title: str
    lines: Sequence[str] = ()
    notes: Sequence[str] = ()
    metrics: Sequence[str] = SHOWN
    reference: str = ""
    selection: Selection = "last"


def write_report(groups: Sequence[Group], out: Path, heading: Heading) -> str:
    """Write `table.md`, `table.csv` and the pictures into `out` (with legacy selection `table_legacy.*`).

    A row shows mean ± standard deviation over its runs (n - 1 in the denominator), the published value beside ours,
    and how far it is below the reference row. A folder that can't be read is a problem of its row, not of the report.

    Returns:
        the text of table.md.
    """
    measured = {group.name: _measure(group, heading.selection) for group in groups}
    columns = _columns(groups, measured, heading)
    table = _table(groups, measured, list(columns), heading.reference)
    ending = "_legacy" if heading.selection == "legacy" else ""
    with replacing(out / f"table{ending}.csv") as temporary:
        table.to_csv(temporary, float_format="%.6g")
    pictures = draw_figures(groups, measured, out, reference=heading.reference)
    text = _text(groups, table, columns, heading, pictures)
    with replacing(out / f"table{ending}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def _measure(group: Group, selection: Selection) -> list[Measured]:
    runs = []
    for folder in group.folders:
        try:
            run = measure(folder, selection=selection)
        except (OSError, ValueError, KeyError) as error:
            group.problems.append(f"{folder.name}: {error}")
            continue
        runs.append(run)
        if selection == "last" and run.numbers["epoch"] < run.numbers["epochs"]:
            group.problems.append(f"{folder.name}: last validated after epoch {run.numbers['epoch']:.0f}")
    return runs


def _columns(
    groups: Sequence[Group], measured: Mapping[str, Sequence[Measured]], heading: Heading
) -> dict[str, _Column]:
    """What the table shows of what the runs have and what was published."""
    there = list(dict.fromkeys(name for runs in measured.values() for run in runs for name in run.numbers))
    names = [name for metric in heading.metrics for name in there if name == metric or name.startswith(f"{metric}/")]
    names += [name for name in heading.metrics if name not in names and any(g.published.get(name) for g in groups)]
    columns = {}
    for name in names:
        metric, _, part = name.partition("/")
        column = COLUMNS.get(metric, _Column(name.removeprefix("val_"), 3))
        columns[name] = column._replace(heading=f"{column.heading} {part}", note="") if part else column
    for name in constraint_names(there):
        columns[f"val_{name}_satisfied"] = _Column(f"{name} satisfied %", 1, 100)
    columns |= {name: COLUMNS[name] for name in ALWAYS if name in there and name not in columns}
    if heading.selection == "legacy":
        columns["epoch"] = _Column("best epoch", 0)
    return columns


def _table(
    groups: Sequence[Group], measured: Mapping[str, Sequence[Measured]], columns: Sequence[str], reference: str
) -> pd.DataFrame:
    """A row a group: of each column the mean over its runs, their standard deviation, what was published, the gap."""
    names = pd.Index([group.name for group in groups], name="row")
    runs = [(name, run.numbers) for name, these in measured.items() for run in these]
    numbers = pd.DataFrame([one for _, one in runs], index=pd.Index([name for name, _ in runs]))
    by_row = numbers.reindex(columns=[*columns, "dice_2d_spread"]).groupby(level=0)
    mean, deviation = by_row.mean().reindex(names), by_row.std().reindex(names)
    table: dict[str, pd.Series[Any]] = {
        "label": pd.Series([group.label for group in groups], names),
        "runs": pd.Series([len(measured[name]) for name in names], names),
        "state": pd.Series(
            ["; ".join([f"pending: {g.pending}"] * bool(g.pending) + g.problems) for g in groups], names
        ),
    }
    for name in columns:
        published = pd.Series([group.published.get(name) for group in groups], names, dtype=float)
        table |= {name: mean[name], f"{name}_sd": deviation[name], f"{name}_published": published}
        if reference and name in ("dice_2d", "dice_3d"):
            table[f"{name}_gap"] = mean[name].get(reference, np.nan) - mean[name]
    if "dice_2d" in columns:
        table["dice_2d_last_5_sd"] = mean["dice_2d_spread"].where(table["runs"] == 1)
    return pd.DataFrame({name: column for name, column in table.items() if name == "runs" or column.notna().any()})


def _text(
    groups: Sequence[Group],
    table: pd.DataFrame,
    columns: Mapping[str, _Column],
    heading: Heading,
    pictures: Sequence[str],
) -> str:
    notes = [f"{one.heading[:1].upper()}{one.heading[1:]}: {one.note}." for one in columns.values() if one.note]
    if any(name.endswith("_satisfied") for name in columns):
        notes.append("Satisfied: the share of a row's own bounds that hard masks satisfy; bounds differ among rows.")
    if heading.reference and "dice_2d" in columns:
        notes.append(
            f"Below {heading.reference}: the row's Dice subtracted from that of our own row {heading.reference}."
        )
    notes.append("± is the standard deviation over seeds; a row of one run has none.")
    parts = [f"# {heading.title}", *heading.lines, LEGACY if heading.selection == "legacy" else LAST]
    parts += [_markdown(_cells(table, columns, heading)), "\n".join(f"- {note}" for note in [*heading.notes, *notes])]
    parts += [f"![{name}]({name})" for name in pictures]
    parts += [f"## {group.label}: failed\n\n```\n{group.log}\n```" for group in groups if group.log]
    commands = "\n".join(f"# {group.label}\n{group.command}" for group in groups if group.command)
    if commands:
        parts.append(f"## One row\n\nWith the seed and the folder of your choice:\n\n```bash\n{commands}\n```")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _cells(table: pd.DataFrame, columns: Mapping[str, _Column], heading: Heading) -> list[list[str]]:
    """The columns of the printed table, each from its heading on."""
    legacy = " (legacy)" if heading.selection == "legacy" else ""
    cells = [["row", *table["label"]]]
    for name, column in columns.items():

        def shown(which: str) -> list[str]:
            values = table.get(name + which, pd.Series(np.nan, table.index)) * column.factor
            return [f"{value:.{column.digits}f}" if np.isfinite(value) else "" for value in values]

        pairs = zip(shown(""), shown("_sd"))
        cells.append([column.heading + legacy, *(f"{mean} ± {sd}" if sd else mean for mean, sd in pairs)])
        for which, head in (("_published", "published"), ("_gap", f"below {heading.reference}")):
            if name + which in table:
                cells.append([head, *shown(which)])
    if (table["runs"] != 1).any():
        cells.append(["runs", *map(str, table["runs"])])
    cells = [[cell or "–" for cell in column] for column in cells]
    return cells + [["remarks", *table["state"]]] * bool(table["state"].any())


def _markdown(columns: Sequence[Sequence[str]]) -> str:
    """A Markdown table of columns that begin with their heading, aligned as text."""
    safe = [[cell.replace("|", "/") for cell in column] for column in columns]
    widths = [max(map(len, column)) for column in safe]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in zip(*safe)]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
