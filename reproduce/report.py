"""The table of a set of runs, in Markdown and CSV."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monai_constraints.files import replacing
from reproduce.figures import draw_figures
from reproduce.results import Group, Measured, constraint_names, measure
from reproduce.table_file import SHOWN, Selection

__all__ = ["Heading", "markdown_table", "write_report"]

logger = logging.getLogger(__name__)

# Name in the CSV -> heading, digits, factor.
COLUMNS: dict[str, tuple[str, int, float]] = {
    "dice_2d": ("Dice 2D", 3, 1),
    "dice_2d_present": ("Dice 2D, present", 3, 1),
    "left_empty": ("left empty %", 1, 100),
    "missed": ("missed %", 1, 100),
    "dice_3d": ("Dice 3D", 3, 1),
    "hd95": ("HD95 mm", 1, 1),
    "ms_per_batch": ("ms/batch", 1, 1),
    "seconds_per_epoch": ("s/epoch", 1, 1),
    "data_share": ("waiting for data %", 1, 100),
    "minutes": ("minutes", 1, 1),
    "epochs": ("epochs", 0, 1),
}
ALWAYS = ("ms_per_batch", "seconds_per_epoch", "data_share", "minutes", "epochs")
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
    measured: dict[str, list[Measured]] = {}
    for group in groups:
        measured[group.name] = []
        for folder in group.folders:
            try:
                run = measure(folder, selection=heading.selection)
                measured[group.name].append(run)
                if heading.selection == "last" and run.numbers["epoch"] < run.numbers["epochs"]:
                    group.problems.append(f"{folder.name}: last validated after epoch {run.numbers['epoch']:.0f}")
            except (OSError, ValueError, KeyError) as error:
                group.problems.append(f"{folder.name}: {error}")
    columns = _columns(groups, measured, heading)
    rows = [_row(group, measured, columns, heading.reference) for group in groups]
    ending = "_legacy" if heading.selection == "legacy" else ""
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / f"table{ending}.csv") as temporary:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
            writer.writeheader()
            writer.writerows(rows)
    pictures = draw_figures(groups, measured, out, reference=heading.reference)
    text = _text(groups, rows, columns, heading, pictures)
    with replacing(out / f"table{ending}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def _columns(
    groups: Sequence[Group], measured: Mapping[str, Sequence[Measured]], heading: Heading
) -> dict[str, tuple[str, int, float]]:
    runs = [run for these in measured.values() for run in these]
    there = list(dict.fromkeys(name for run in runs for name in run.numbers))
    names = [name for metric in heading.metrics for name in there if name == metric or name.startswith(f"{metric}/")]
    names += [name for name in heading.metrics if name not in names and any(g.published.get(name) for g in groups)]
    names += [f"val_{name}_satisfied" for name in constraint_names(there)]
    names += [name for name in ALWAYS if name in there and name not in names]
    columns = {}
    for name in dict.fromkeys(names):
        if name.endswith("_satisfied"):
            columns[name] = (f"{name[4:-10]} satisfied %", 1, 100.0)
        else:
            metric, _, part = name.partition("/")
            text, digits, factor = COLUMNS.get(metric, (name.removeprefix("val_"), 3, 1))
            columns[name] = (f"{text} {part}".strip(), digits, factor)
    if heading.selection == "legacy":
        columns["epoch"] = ("best epoch", 0, 1)
    return columns


def _row(
    group: Group, measured: Mapping[str, Sequence[Measured]], columns: Mapping[str, object], reference: str
) -> dict[str, str]:
    row = {"row": group.name, "label": group.label, "runs": str(len(measured[group.name]))}
    row["state"] = "; ".join([f"pending: {group.pending}"] * bool(group.pending) + group.problems)
    for name in columns:
        mean, deviation = _over_runs(measured[group.name], name)
        row |= {name: _number(mean), f"{name}_sd": _number(deviation)}
        published = group.published.get(name)
        if published is not None:
            row[f"{name}_published"] = _number(float(published))
        if reference and name in ("dice_2d", "dice_3d"):
            row[f"{name}_gap"] = _number(_over_runs(measured.get(reference, []), name)[0] - mean)
    if "dice_2d" in columns and len(measured[group.name]) == 1:
        row["dice_2d_last_5_sd"] = _number(measured[group.name][0].numbers["dice_2d_spread"])
    return row


def _over_runs(runs: Sequence[Measured], name: str) -> tuple[float, float]:
    values = [run.numbers[name] for run in runs if np.isfinite(run.numbers.get(name, np.nan))]
    mean = float(np.mean(values)) if values else np.nan
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def _number(value: float) -> str:
    return f"{value:.6g}" if np.isfinite(value) else ""


def _text(
    groups: Sequence[Group],
    rows: Sequence[Mapping[str, str]],
    columns: Mapping[str, tuple[str, int, float]],
    heading: Heading,
    pictures: Sequence[str],
) -> str:
    table = markdown_table(_cells(groups, rows, columns, heading))
    parts = [f"# {heading.title}", *heading.lines, LEGACY if heading.selection == "legacy" else LAST, table]
    notes = [*heading.notes, *_explained(columns, heading.reference)]
    parts += ["\n".join(f"- {note}" for note in notes)]
    parts += [f"![{name}]({name})" for name in pictures]
    for group in groups:
        if group.log:
            parts.append(f"## {group.label}: failed\n\n```\n{group.log}\n```")
    if any(group.command for group in groups):
        commands = "\n".join(f"# {group.label}\n{group.command}" for group in groups if group.command)
        parts.append(f"## One row\n\nWith the seed and the folder of your choice:\n\n```bash\n{commands}\n```")
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _cells(
    groups: Sequence[Group],
    rows: Sequence[Mapping[str, str]],
    columns: Mapping[str, tuple[str, int, float]],
    heading: Heading,
) -> list[list[str]]:
    legacy = " (legacy)" if heading.selection == "legacy" else ""
    several = any(int(row["runs"]) != 1 for row in rows)
    published = [name for name in columns if any(row.get(f"{name}_published") for row in rows)]
    gaps = [name for name in columns if any(row.get(f"{name}_gap") for row in rows)]
    heads = ["row"]
    for name, (text, _, _) in columns.items():
        heads += [text + legacy, *(["published"] if name in published else [])]
        heads += [f"below {heading.reference}"] if name in gaps else []
    remarks = any(row["state"] for row in rows)
    cells = [heads + ["runs"] * several + ["remarks"] * remarks]
    for group, row in zip(groups, rows):
        line = [group.label]
        for name, (_, digits, factor) in columns.items():
            line.append(_with_deviation(row[name], row[f"{name}_sd"], digits, factor))
            line += [_rounded(row.get(f"{name}_published", ""), digits, factor)] if name in published else []
            line += [_rounded(row.get(f"{name}_gap", ""), digits, factor)] if name in gaps else []
        line += [row["runs"]] * several
        cells.append([cell.replace("|", "/") or "–" for cell in line] + [row["state"].replace("|", "/")] * remarks)
    return cells


def _with_deviation(mean: str, deviation: str, digits: int, factor: float) -> str:
    text = _rounded(mean, digits, factor)
    return f"{text} ± {_rounded(deviation, digits, factor)}" if deviation else text


def _rounded(value: str, digits: int, factor: float) -> str:
    return f"{float(value) * factor:.{digits}f}" if value else ""


def _explained(columns: Mapping[str, object], reference: str) -> list[str]:
    texts = {
        "dice_2d": "Dice 2D: mean over all slices; a slice without the structure counts 1 if nothing is predicted, "
        "else 0.",
        "dice_2d_present": "Present: only slices with the structure.",
        "left_empty": "Left empty: the share of the slices without the structure where nothing is predicted.",
        "missed": "Missed: the share of the slices with the structure where nothing is predicted.",
        "dice_3d": "Dice 3D: mean over volumes, each measured whole (both empty: 1).",
        "hd95": "HD95: 95th percentile of the surface distance of each volume, the larger direction; one side empty: "
        "the diagonal of the volume, both: 0.",
        "data_share": "Waiting for data: the part of an epoch's time that training waits for batches.",
    }
    found = [text for name, text in texts.items() if name in columns]
    if any(name.endswith("_satisfied") for name in columns):
        found.append("Satisfied: the share of a row's own bounds that hard masks satisfy; bounds differ among rows.")
    if reference and "dice_2d" in columns:
        found.append(f"Below {reference}: the row's Dice subtracted from that of our own row {reference}.")
    return [*found, "± is the standard deviation over seeds; a row of one run has none."]


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first row is the heading, aligned as text."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text) + "\n"
