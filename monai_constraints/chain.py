"""The regressor with its predictions, then the segmentation, each from where it stopped (thesis 5.3)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from monai_constraints.files import replacing

__all__ = ["Stage", "run_stages", "stages_of"]

REGRESSOR, SEGMENTATION, ALONE = "acdc_size", "acdc_semi", "full_few"
SIZES, RECORD, GAIN = "datalist.json", "semi.json", "gain.png"  # the first is what the regressor's training writes
# Who is annotated the regressor's list says; the segmentation reads it there.
CHOICE = ("datalist_file", "annotated_count", "patients", "draw")
BOTH = ("dataset_dir", "seed", "device", "progress", "structure", "label_classes", "class_names", "slice_axis")
MAY_CHANGE = ("progress", "device")


class Stage(NamedTuple):
    """A step of the chain: arguments of `python -m`, and the file that is there once it is finished."""

    name: str
    arguments: Sequence[str]
    made: Path


def stages_of(
    folder: Path,
    *,
    options: Mapping[str, Any],
    regressor: Mapping[str, Any] | None = None,
    rows: str = "",
    regressor_rows: str = "",
    alone: bool = False,
) -> list[Stage]:
    """The stages in a folder: size/ with its datalist, segmentation/, and with `alone` the annotated cases themselves.

    Args:
        folder: of the chain.
        options: of the configurations. Who is annotated is the regressor's, data and device are of both, all others
            the segmentation's.
        regressor: further options of the regressor.
        rows: of the segmentation, with commas between; its folder is called after them.
        regressor_rows: those of the regressor, such as what to predict of several structures or of whole volumes.
        alone: train the row `full_few` too, of which `gain.png` shows the difference.
    """
    size = folder / "size"
    sizes = size / SIZES
    first = {key: value for key, value in options.items() if key in (*CHOICE, *BOTH)} | dict(regressor or {})
    second = {key: value for key, value in options.items() if key not in CHOICE} | {"datalist_file": sizes}
    found = [
        _training("regressor", REGRESSOR, regressor_rows, size, first)._replace(made=sizes),
        _training("segmentation", SEGMENTATION, rows, folder / "_".join(["segmentation", *_listed(rows)]), second),
    ]
    if alone:
        found.append(_training("annotated cases alone", SEGMENTATION, ALONE, folder / "alone", second))
    return found


def run_stages(folder: Path, stages: Sequence[Stage], options: Mapping[str, Any]) -> int:
    """Run what is not finished, in order; the same call goes on after an interruption.

    A stage whose file is there is skipped. That of the regressor is the list with its predictions, which need no
    regressor any more and may come from elsewhere.

    Args:
        folder: of the chain.
        stages: from `stages_of`.
        options: all that it was told, kept beside the stages.

    Returns:
        The exit code of the first stage that fails, or 0.

    Raises:
        ValueError: the folder was begun with other options.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _check_record(folder / RECORD, options)
    for stage in stages:
        if stage.made.is_file():
            sys.stdout.write(f"{stage.name}: finished, {stage.made}\n")
            continue
        sys.stdout.write(f"{stage.name}: python -m {' '.join(stage.arguments)}\n")
        sys.stdout.flush()
        resume = ["--resume", "True"] if (stage.made.parent / "checkpoint.pt").is_file() else []
        code = subprocess.run([sys.executable, "-m", *stage.arguments, *resume]).returncode
        if code:
            sys.stderr.write(f"{stage.name} ended with {code}; the same command goes on from there\n")
            return code
    return 0


def draw_gain(folder: Path, segmentation: Path) -> None:
    """`gain.png`: the validation's Dice over the epochs, of the annotated cases alone and with the others."""
    import csv

    import numpy as np
    from matplotlib.figure import Figure

    from monai_constraints.pictures.curves import draw_panel

    lines = {}
    for label, run in (("annotated alone", folder / "alone"), ("with the others", segmentation)):
        with open(run / "metrics.csv", newline="", encoding="utf-8") as file:
            found = [(float(row["epoch"]), float(row["val_dice"])) for row in csv.DictReader(file) if row["val_dice"]]
        lines[label] = (np.array([epoch for epoch, _ in found]), np.array([dice for _, dice in found]))
    figure = Figure(figsize=(13, 7.3), layout="constrained")
    draw_panel(figure.subplots(), "Dice of validation slices", lines, mark_best=False)
    with replacing(folder / GAIN) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _training(name: str, bundle: str, rows: str, out: Path, options: Mapping[str, Any]) -> Stage:
    given = [part for key, value in options.items() for part in (f"--{key}", _text(value))]
    arguments = ["monai_constraints", "train", bundle, "--output_dir", str(out)]
    return Stage(name, [*arguments, *(["--rows", rows] if rows else []), *given], out / "model.pt")


def _check_record(path: Path, options: Mapping[str, Any]) -> None:
    now = {key: _text(value) for key, value in options.items() if key not in MAY_CHANGE}
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else now
    differing = [key for key in dict.fromkeys([*now, *before]) if now.get(key) != before.get(key)]
    if differing:
        lines = "; ".join(f"{key} is {now.get(key)}, was {before.get(key)}" for key in differing)
        raise ValueError(
            f"semi: {path.parent} was begun with other options ({lines}); give them as they were, or choose another "
            "folder"
        )
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")


def _listed(rows: str) -> list[str]:
    return [row for row in rows.split(",") if row]


def _text(value: Any) -> str:
    """What the command line turns into the value again."""
    return str(value) if isinstance(value, (str, Path)) else repr(value)
