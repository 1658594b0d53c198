"""What a finished run measured, read from its metrics.csv and patients.csv."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reproduce.table_file import Selection

__all__ = ["Group", "Measured", "constraint_names", "measure", "read_run"]

PER_PATIENT = {"dice_2d": "dice_2d", "dice_3d": "dice", "hd95": "hd95"}  # metric -> column of patients.csv


@dataclass
class Group:
    """A row of a report: the folders of its finished runs, and what is known of it besides."""

    name: str
    label: str
    folders: list[Path] = field(default_factory=list)
    published: dict[str, float | None] = field(default_factory=dict)
    pending: str = ""
    problems: list[str] = field(default_factory=list)  # failed, not run yet, changed: one line each
    log: str = ""
    command: str = ""


@dataclass
class Measured:
    """One run: the columns of metrics.csv over its epochs, the rows of patients.csv, and the numbers of a table."""

    columns: dict[str, np.ndarray]
    patients: list[dict[str, str]]
    numbers: dict[str, float]


def read_run(folder: str | Path) -> dict[str, np.ndarray]:
    """The columns of a run's metrics.csv; NaN where a cell is empty.

    Raises:
        FileNotFoundError: where the folder has no metrics.csv with at least one epoch.
        ValueError: where no epoch was validated.
    """
    path = Path(folder) / "metrics.csv"
    if not path.is_file():
        raise FileNotFoundError(f"report: {path} does not exist; train into {folder} first")
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise FileNotFoundError(f"report: {path} has no epoch yet; let the training finish one")
    columns = {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
    if not np.isfinite(columns.get("val_dice", np.array([]))).any():
        raise ValueError(f"report: {path} has no val_dice yet; let the training reach a validation")
    return columns


def measure(folder: str | Path, *, selection: Selection = "last", last: int = 5) -> Measured:
    """The numbers of a run.

    `dice_2d`, `dice_3d` and `hd95` are means over cases and classes of patients.csv, of the last validation (2D Dice
    weighs slices equally, as metrics.csv does; `dice_3d/CLASS` and `hd95/CLASS` stand beside them where there are
    several). Where a slice lacks a class: `dice_2d_present`, the 2D Dice of the others; `left_empty`, the share of such
    slices where nothing is predicted; `missed`, the share of the others where nothing is predicted. `val_*`
    are columns of metrics.csv. With `legacy` the epoch is the one with the best 2D Dice on these very patients, as in
    the papers; patients.csv is not of that epoch, so what comes from it is left out.

    Args:
        folder: of the run.
        selection: the epoch.
        last: `dice_2d_spread` is the standard deviation over so many last validations.
    """
    columns = read_run(folder)
    validated = np.flatnonzero(np.isfinite(columns["val_dice"]))
    dice = columns["val_dice"][validated]
    at = validated[int(dice.argmax())] if selection == "legacy" else validated[-1]
    numbers = {name: float(values[at]) for name, values in columns.items() if name.startswith("val_")}
    numbers |= {"dice_2d": float(columns["val_dice"][at]), "epoch": float(columns["epoch"][at])}
    numbers |= {"epochs": float(columns["epoch"][-1]), "dice_2d_spread": float(dice[-last:].std())}
    numbers |= _times(columns)
    patients = _patients(Path(folder) / "patients.csv")
    if selection == "last" and patients:
        numbers |= _per_patient(patients) | _empty_slices(patients)
    if "left_empty" in numbers and "val_dice_present" in numbers:
        numbers["dice_2d_present"] = numbers["val_dice_present"]
    return Measured(columns, patients, numbers)


def constraint_names(columns: Sequence[str]) -> list[str]:
    """The constraints whose satisfaction a metrics.csv has."""
    return [name[4:-10] for name in columns if name.startswith("val_") and name.endswith("_satisfied")]


def _times(columns: dict[str, np.ndarray]) -> dict[str, float]:
    seconds = columns["seconds"]
    steady = slice(1, None) if len(seconds) > 1 else slice(None)  # the first epoch warms up
    numbers = {"seconds_per_epoch": float(np.median(seconds[steady]))}
    if "batches" in columns:
        numbers["ms_per_batch"] = 1000 * float(np.median(seconds[steady] / columns["batches"][steady]))
        numbers["data_share"] = float(np.median(columns["data_share"][steady]))
    validation = columns.get("seconds_validation", np.zeros(1))
    numbers["minutes"] = float(seconds.sum() + np.nansum(validation)) / 60
    return numbers


def _patients(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _per_patient(rows: Sequence[dict[str, str]]) -> dict[str, float]:
    numbers = {}
    classes = list(dict.fromkeys(row["class"] for row in rows))
    for metric, column in PER_PATIENT.items():
        slices = np.array([float(row["slices"]) for row in rows])
        values = np.array([float(row[column] or "nan") for row in rows])
        numbers[metric] = float(np.average(values, weights=slices if metric == "dice_2d" else None))
        if len(classes) > 1 and metric != "dice_2d":
            for name in classes:
                inside = np.array([row["class"] == name for row in rows])
                numbers[f"{metric}/{name}"] = float(values[inside].mean())
    return {name: value for name, value in numbers.items() if np.isfinite(value)}


def _empty_slices(rows: Sequence[dict[str, str]]) -> dict[str, float]:
    """Shares of the slices without a class and of those with it; none where every slice has it."""
    if "absent" not in rows[0]:  # of an older version
        return {}
    slices, absent, left, missed = (
        sum(int(row[name]) for row in rows) for name in ("slices", "absent", "left_empty", "missed")
    )
    shares = {"left_empty": left / absent} if absent else {}
    return shares | ({"missed": missed / (slices - absent)} if 0 < absent < slices else {})
