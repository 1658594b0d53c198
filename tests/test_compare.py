from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from monai_constraints.experiments.compare import compare_runs


def _run(folder: Path, dices: list[str], satisfied: str = "0.5") -> Path:
    folder.mkdir()
    lines = [f"{i + 1},{10 + i},{dice},{satisfied}" for i, dice in enumerate(dices)]
    text = "\n".join(["epoch,seconds,val_dice,val_size_satisfied", *lines]) + "\n"
    (folder / "metrics.csv").write_text(text, encoding="utf-8")
    return folder


def test_the_table_has_a_row_a_run_with_its_last_dice(tmp_path: Path) -> None:
    runs = [_run(tmp_path / "penalty", ["0.1", "0.2", "0.3"]), _run(tmp_path / "barrier", ["0.7", "0.9", ""], "1")]
    table = compare_runs(runs, tmp_path / "out", last=2)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert rows[0] == ["row", "epochs", "Dice", "last 2 epochs", "size satisfied", "s per epoch"]
    assert rows[2] == ["penalty", "3", "0.300", "0.250 ± 0.050", "50%", "11.0"]
    assert rows[3] == ["barrier", "3", "0.900", "0.800 ± 0.100", "100%", "11.0"]
    assert (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8") == table
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 5000


def test_a_run_without_epochs_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.*train into"):
        compare_runs([tmp_path / "nowhere"], tmp_path)
    with pytest.raises(FileNotFoundError, match="no epoch yet"):
        compare_runs([_run(tmp_path / "young", [])], tmp_path)


def test_the_command_prints_the_table(tmp_path: Path) -> None:
    run = _run(tmp_path / "barrier", ["0.1", "0.25"])
    command = [sys.executable, "-m", "monai_constraints.experiments.compare", str(run), "--out", str(tmp_path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout
    assert "| barrier |" in printed and "0.250" in printed and "comparison.png" in printed
