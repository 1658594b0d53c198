"""What a finished run measured, read from its metrics.csv and patients.csv."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from monai_constraints.columns import (
    BATCHES,
    CLASS,
    DATA_SHARE,
    DICE,
    DICE_2D,
    HD95,
    SECONDS,
    SECONDS_PROPOSALS,
    SECONDS_VALIDATION,
)
from reproduce.table_file import Selection

__all__ = ["PER_PATIENT", "Group", "Measured", "constraint_names", "measure", "read_run"]

VOLUME_DICE = "val_dice_3d"  # of bundles with the handler VolumeDice
PER_PATIENT = {"dice_3d": DICE, "hd95": HD95}  # metric -> column of patients.csv


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
    """One run: its metrics.csv, its patients.csv (empty where there is none), and the numbers of a table."""

    epochs: pd.DataFrame
    patients: pd.DataFrame
    numbers: dict[str, float]


def read_run(folder: str | Path) -> pd.DataFrame:
    """A run's metrics.csv; NaN where a cell is empty.

    Raises:
        FileNotFoundError: where the folder has no metrics.csv with at least one epoch.
        ValueError: where no epoch was validated.
    """
    path = Path(folder) / "metrics.csv"
    if not path.is_file():
        raise FileNotFoundError(f"report: {path} does not exist; train into {folder} first")
    epochs = pd.read_csv(path, dtype=float)
    if epochs.empty:
        raise FileNotFoundError(f"report: {path} has no epoch yet; let the training finish one")
    if "val_dice" not in epochs or epochs["val_dice"].isna().all():
        raise ValueError(f"report: {path} has no val_dice yet; let the training reach a validation")
    return epochs


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
        last: `dice_2d_mean` and `dice_2d_spread` are mean and standard deviation over so many last validations, and
            `dice_3d_mean` likewise where the bundle measures volumes in each validation.
    """
    epochs = read_run(folder)
    validated = epochs[epochs["val_dice"].notna()]
    dice = validated["val_dice"].to_numpy()
    at = validated.iloc[int(dice.argmax()) if selection == "legacy" else -1]
    numbers = {str(name): value for name, value in at.items() if str(name).startswith("val_")}
    numbers |= {"dice_2d": at["val_dice"], "epoch": at["epoch"], "epochs": epochs["epoch"].iloc[-1]}
    numbers |= {"dice_2d_spread": dice[-last:].std(), "dice_2d_mean": dice[-last:].mean(), **_times(epochs)}
    if VOLUME_DICE in validated:
        numbers["dice_3d_mean"] = validated[VOLUME_DICE].to_numpy()[-last:].mean()
    path = Path(folder) / "patients.csv"
    text = dict.fromkeys(["case", "patient", CLASS], str)
    # A case or a class may be called "NA".
    patients = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""]) if path.is_file() else None
    if patients is None or patients.empty:
        patients = pd.DataFrame()
    elif selection == "last":
        numbers |= _per_patient(patients) | _empty_slices(patients)
    if "left_empty" in numbers and "val_dice_present" in numbers:
        numbers["dice_2d_present"] = numbers["val_dice_present"]
    return Measured(epochs, patients, {name: float(value) for name, value in numbers.items()})


def constraint_names(columns: Iterable[str]) -> list[str]:
    """The constraints whose satisfaction a metrics.csv has."""
    return [name[4:-10] for name in columns if name.startswith("val_") and name.endswith("_satisfied")]


def _times(epochs: pd.DataFrame) -> dict[str, float]:
    steady = epochs.iloc[1:] if len(epochs) > 1 else epochs  # the first epoch warms up
    updates = steady.reindex(columns=[SECONDS_PROPOSALS])[SECONDS_PROPOSALS]
    seconds = steady[SECONDS] - updates.fillna(0)
    numbers = {"seconds_per_epoch": seconds.median()}
    if updates.notna().any():
        numbers["seconds_per_update"] = updates.median()
    if BATCHES in epochs:
        numbers["ms_per_batch"] = 1000 * (seconds / steady[BATCHES]).median()
        numbers["data_share"] = steady[DATA_SHARE].median()
    numbers["minutes"] = epochs.reindex(columns=[SECONDS, SECONDS_VALIDATION]).sum().sum() / 60
    return numbers


def _per_patient(patients: pd.DataFrame) -> dict[str, float]:
    """Means over patients.csv; a metric with an empty cell has none."""
    numbers = {"dice_2d": np.average(patients[DICE_2D], weights=patients["slices"])}
    by_class = {str(name): part for name, part in patients.groupby(CLASS, sort=False)}
    for metric, column in PER_PATIENT.items():
        numbers[metric] = patients[column].mean(skipna=False)
        if len(by_class) > 1:
            numbers |= {f"{metric}/{name}": part[column].mean(skipna=False) for name, part in by_class.items()}
    return {name: value for name, value in numbers.items() if np.isfinite(value)}


def _empty_slices(patients: pd.DataFrame) -> dict[str, float]:
    """Shares of the slices without a class and of those with it; none where every slice has it."""
    if "absent" not in patients:  # of an older version
        return {}
    slices, absent, left, missed = patients[["slices", "absent", "left_empty", "missed"]].sum()
    shares = {"left_empty": left / absent} if absent else {}
    return shares | ({"missed": missed / (slices - absent)} if 0 < absent < slices else {})
