"""Finished runs side by side: one table and one figure from their metrics.csv.

    python -m monai_constraints.experiments.compare RUN [RUN ...] --out FOLDER
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from monai_constraints.handlers.atomic import replacing
from monai_constraints.handlers.curves import draw_panel

__all__ = ["compare_runs", "read_run"]

logger = logging.getLogger(__name__)


def read_run(folder: str | Path) -> dict[str, np.ndarray]:
    """The columns of a run's metrics.csv; NaN where a cell is empty.

    Raises:
        FileNotFoundError: where the folder has no metrics.csv with at least one epoch.
        ValueError: where no epoch was validated.
    """
    path = Path(folder) / "metrics.csv"
    if not path.is_file():
        raise FileNotFoundError(f"compare: {path} does not exist; train into {folder} first")
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise FileNotFoundError(f"compare: {path} has no epoch yet; let the training finish one")
    columns = {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
    if not np.isfinite(columns.get("val_dice", np.array([]))).any():
        raise ValueError(f"compare: {path} has no val_dice yet; let the training reach a validation")
    return columns


def compare_runs(folders: Sequence[str | Path], out: str | Path, *, last: int = 5) -> str:
    """Write comparison.md and comparison.png into `out`, and return the table.

    Args:
        folders: the runs' output folders; the row's name is the folder's.
        out: where to write.
        last: Dice is shown as the last epoch's, and as mean and standard deviation over so many last epochs.
    """
    runs = {Path(folder).name: read_run(folder) for folder in folders}
    constraints = [
        name[4:-10] for name in next(iter(runs.values())) if name.startswith("val_") and name.endswith("_satisfied")
    ]
    heads = ["row", "epochs", "Dice", f"last {last} epochs", *[f"{name} satisfied" for name in constraints]]
    heads += ["s per epoch"]
    lines = []
    for name, run in runs.items():
        dice = run["val_dice"][np.isfinite(run["val_dice"])]
        satisfied = [f"{_final(run, f'val_{c}_satisfied'):.0%}" for c in constraints]
        spread = f"{dice[-last:].mean():.3f} ± {dice[-last:].std():.3f}"
        seconds = f"{np.median(run['seconds']):.1f}"
        lines.append([name, f"{run['epoch'][-1]:.0f}", f"{dice[-1]:.3f}", spread, *satisfied, seconds])
    table = _markdown([heads, *lines])
    Path(out).mkdir(parents=True, exist_ok=True)
    with replacing(Path(out) / "comparison.md") as temporary:
        temporary.write_text(table, encoding="utf-8")
    _draw(runs, ["dice", *[f"{c}_satisfied" for c in constraints]], Path(out) / "comparison.png")
    return table


def _final(run: dict[str, np.ndarray], column: str) -> float:
    values = run.get(column, np.array([np.nan]))
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else float("nan")


def _draw(runs: dict[str, dict[str, np.ndarray]], quantities: Sequence[str], path: Path) -> None:
    figure = Figure(figsize=(7.2 * len(quantities), 5), layout="constrained")
    for i, quantity in enumerate(quantities):
        lines = {name: (run["epoch"], run[f"val_{quantity}"]) for name, run in runs.items() if f"val_{quantity}" in run}
        title = "Dice" if quantity == "dice" else f"Constraints satisfied: {quantity.removesuffix('_satisfied')}"
        draw_panel(figure.add_subplot(1, len(quantities), i + 1), title, lines)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text) + "\n"


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    parser = argparse.ArgumentParser(
        prog="python -m monai_constraints.experiments.compare", description="Compare finished runs."
    )
    parser.add_argument("runs", nargs="+", help="output folders with a metrics.csv")
    parser.add_argument("--out", required=True, help="folder for comparison.md and comparison.png")
    arguments = parser.parse_args()
    logger.info("\n%s", compare_runs(arguments.runs, arguments.out))
    for picture in [Path(arguments.out) / "comparison.png", *[Path(r) / "examples.png" for r in arguments.runs]]:
        if picture.is_file():
            logger.info("look at %s", picture)


if __name__ == "__main__":
    main()
