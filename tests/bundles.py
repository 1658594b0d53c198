"""The bundles in YAML with what makes a run of each quick: miniature data and a small network."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np
import yaml
from bundle_data import (
    BUNDLES,
    FEATURES,
    make_acdc,
    make_acdc_semi,
    make_atlas,
    make_hippocampus,
    make_isles,
    make_promise12,
    make_stroke_flair,
    make_vertebral_bodies,
    make_wmh,
    read_csv,
)

from monai_constraints.data.datasets.acdc import acdc_datalist
from monai_constraints.data.datasets.atlas import atlas_datalist
from monai_constraints.data.datasets.circles import circles_datalist
from monai_constraints.data.datasets.hippocampus import hippocampus_datalist
from monai_constraints.data.datasets.isles import isles_datalist
from monai_constraints.data.datasets.promise12 import promise12_datalist
from monai_constraints.data.datasets.stroke_flair import stroke_flair_datalist
from monai_constraints.data.datasets.vertebral_bodies import vertebral_bodies_datalist
from monai_constraints.data.datasets.wmh import wmh_datalist

Datalist = Callable[[Path], dict[str, list[dict[str, Any]]]]
# One axis of the miniature images (48 x 40) is cropped, the other padded.
GRID = {"padded_size": [44, 44], "spatial_size": [32, 32]}
SHORT: dict[str, Any] = {"max_epochs": 1, "val_interval": 1, "progress": False, "device": "cpu"}
WRITTEN = {"metrics.csv", "curves.png", "examples.png", "model.pt", "checkpoint.pt", "tensorboard", "patients.csv"}
WRITTEN |= {"predictions.npz", "config.yaml", "evaluate.yaml", "inference.yaml", "metadata.json", "logging.conf"}


@dataclass(frozen=True)
class Bundle:
    """How a bundle is tried.

    Args:
        make: writes miniature data in the layout of the data set to a folder; None: it needs no files.
        datalist: of that folder.
        tiny: settings of a small network and grid.
        other_network: settings that make another network.
        rows: settings of single rows; None takes one of `tiny` away.
        earlier: rows that go on from another run, by the option that names its folder.
        lines: that its train file may have above the ruler.
    """

    make: Callable[[Path], Path] | None
    datalist: Datalist
    tiny: dict[str, Any]
    other_network: dict[str, Any]
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    earlier: dict[str, str] = field(default_factory=dict)
    lines: int = 120


SMALL_UNET = {**GRID, "network_def#features": FEATURES}
LARGER_UNET = {"network_def#features": [8] * 6}
TABLE = {
    "acdc": Bundle(
        make_acdc, acdc_datalist, {**GRID, "voxel_size": 1.5, "trunk#features": FEATURES}, {"trunk#features": [8] * 6},
        lines=150,
    ),
    "acdc_lv": Bundle(
        make_acdc,
        acdc_datalist,
        {**GRID, "trunk#features": FEATURES},
        {"trunk#features": [8] * 6},
        {"hybrid": {"full_count": 1}, "scribbles": {"size_rule#upper": 60, "size_rule#lower": 2}},
    ),
    "acdc_boxes": Bundle(
        make_acdc, acdc_datalist, {**GRID, "trunk#features": FEATURES}, {"trunk#features": [8] * 6}, lines=140,
    ),
    "acdc_semi": Bundle(
        make_acdc_semi,
        acdc_datalist,
        {
            **GRID, "trunk#features": FEATURES, "annotated_count": 2, "patients": "first", "epoch_steps": 2,
            "sizes": {"_target_": "monai_constraints.data.OracleSizes", "classes": "@structure"},
        },
        {"trunk#features": [8] * 6},
        {row: {"sizes": None} for row in ("position_prior", "unbounded", "proposals", "second_round")},
        earlier={"proposals": "proposals_from"},
        lines=140,
    ),
    "atlas_boxes": Bundle(make_atlas, atlas_datalist, SMALL_UNET, LARGER_UNET, lines=140),
    "hippocampus_boxes": Bundle(
        make_hippocampus, hippocampus_datalist,
        {"padded_size": [32] * 3, "spatial_size": [32] * 3, "trunk#features": FEATURES}, {"trunk#features": [8] * 6},
        lines=140,
    ),
    "isles": Bundle(make_isles, isles_datalist, SMALL_UNET, LARGER_UNET),
    "stroke_flair": Bundle(make_stroke_flair, stroke_flair_datalist, SMALL_UNET, LARGER_UNET),
    "stroke_boxes": Bundle(make_stroke_flair, stroke_flair_datalist, SMALL_UNET, LARGER_UNET, lines=140),
    "wmh": Bundle(make_wmh, wmh_datalist, SMALL_UNET, LARGER_UNET),
}
TABLE["promise12_points"] = Bundle(
    make_promise12,
    promise12_datalist,
    {**GRID, "trunk#features": FEATURES},
    {"trunk#features": [8] * 6},
    {"thesis_individual": {"network_def#channels": [4, 4, 8, 8, 8]}},
)
TABLE["promise12_boxes"] = Bundle(
    make_promise12, promise12_datalist, {**GRID, "trunk#features": FEATURES}, {"trunk#features": [8] * 6}, lines=140,
)
TABLE["vertebral_bodies"] = Bundle(
    make_vertebral_bodies,
    vertebral_bodies_datalist,
    {**GRID, "trunk#features": FEATURES},
    {"trunk#features": [8] * 6},
    {"sagittal": {"batch_size": 5}},  # 9 slices; a batch of one has no variance
)
TABLE["two_circles"] = Bundle(
    None, partial(circles_datalist, count=9, validation_count=7, size=32, radius=4),
    {"image_size": 32, "radius": 4, "train_count": 9, "validation_count": 7, "network_def#features": FEATURES},
    {"network_def#features": [8] * 6},
    {
        "enet": {"network_def#features": 4},
        "thesis": {"network_def#features": 4},
    },
)
REGRESSION = ["acdc_size"]  # bundles that predict numbers, with a plumbing of their own (test_bundle_size.py)
ALL = sorted(path.parts[-3] for path in BUNDLES.glob("*/configs/train.yaml"))
NAMES = [name for name in ALL if name not in REGRESSION]


def rows_of(names: list[str]) -> list[tuple[str, str]]:
    """The rows of bundles, (bundle, row)."""
    return [(name, path.stem) for name in names for path in sorted((BUNDLES / name / "configs/rows").glob("*.yaml"))]


ROWS = rows_of(NAMES)


def configs(bundle: str, *names: str) -> list[str]:
    """Paths of train, rows/full, evaluate, ... of a bundle."""
    return [str(BUNDLES / bundle / "configs" / f"{name}.yaml") for name in names]


@cache
def row_notes(bundle: str, row: str) -> dict[str, Any]:
    """What an overlay says of itself: name, needs, not_with."""
    content = yaml.safe_load(Path(configs(bundle, f"rows/{row}")[0]).read_text(encoding="utf-8"))
    return next((notes for notes in content.get("+rows", []) if notes.get("name") == row), {})


def with_needs(bundle: str, row: str) -> list[str]:
    """The row after those that it needs."""
    needs = row_notes(bundle, row).get("needs")
    return [*(with_needs(bundle, needs) if needs else []), row]


def settings(bundle: str, *rows: str, **options: Any) -> dict[str, Any]:
    """Options of a quick run; None takes one away."""
    given = {"bundle_root": str(BUNDLES / bundle), **SHORT, **TABLE[bundle].tiny}
    for row in rows:
        given |= TABLE[bundle].rows.get(row, {})
    return {key: value for key, value in {**given, **options}.items() if value is not None}


def run(*files: str | Path, **options: Any) -> None:
    """What `python -m monai.bundle run` does, here in this process."""
    names = [str(file) for file in files]
    monai.bundle.run(config_file=names, logging_file=False, **options)  # type: ignore[arg-type]


def train(bundle: str, data: Path | None, out: Path, *rows: str, **options: Any) -> None:
    """Train a bundle with these rows."""
    where = {} if data is None else {"dataset_dir": str(data)}
    run(
        *configs(bundle, "train", *(f"rows/{row}" for row in rows)),
        **settings(bundle, *rows, **where, output_dir=str(out), **options),
    )


def messages(error: BaseException | None) -> str:
    """All that is said, since MONAI wraps errors of a configuration."""
    return "" if error is None else f"{error}\n{messages(error.__cause__)}"


class Runs:
    """Data and one training of each bundle, made when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def data(self, bundle: str) -> Path | None:
        """The folder of its miniature data."""
        make, folder = TABLE[bundle].make, self.folder / "data" / bundle
        if make is not None and not folder.is_dir():
            make(folder)
        return folder if make is not None else None

    def cases(self, bundle: str) -> dict[str, list[dict[str, Any]]]:
        """Its datalist."""
        return TABLE[bundle].datalist(self.data(bundle) or self.folder)

    def trained(self, bundle: str) -> Path:
        """The folder of a run of one epoch; read only."""
        out = self.folder / "runs" / bundle
        if not (out / "model.pt").is_file():
            shutil.rmtree(out, ignore_errors=True)
            train(bundle, self.data(bundle), out, learning_rate=0.05)
        return out


def check_written(folder: Path) -> None:
    """All files of a training of one epoch are there, with a finite loss."""
    assert {path.name for path in folder.iterdir()} == WRITTEN
    (row,) = read_csv(folder / "metrics.csv")
    assert np.isfinite(float(row["loss"])) and 0 <= float(row["val_dice"]) <= 1


def evaluated(folder: Path) -> set[str]:
    """The cases that an evaluation measured."""
    return {row["case"] for row in read_csv(folder / "patients.csv")}
