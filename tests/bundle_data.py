"""Miniature data in ACDC's layout, and settings for a quick run of a bundle."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel as nib
import numpy as np

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
# As in ACDC: the affine says 1 mm, the header of the image another voxel size.
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
SPACING = (1.5, 1.25, 8.0)
# Slices by patient. Numbers 13 and 14 validate; the row "common" takes its bounds from patient 3.
PATIENTS = {1: 4, 3: 3, 13: 5, 14: 3}
SHAPE = (48, 40)
FEATURES = [4, 4, 8, 8, 8, 4]
# One axis is cropped, the other padded, and both resampled.
TINY: dict[str, dict[str, Any]] = {
    "acdc": {"padded_size": [44, 44], "spatial_size": [32, 32], "network_def#features": FEATURES, "val_interval": 1},
    "acdc_lv": {"padded_size": [44, 44], "spatial_size": [32, 32], "network_def#features": FEATURES},
    "two_circles": {"image_size": 32, "radius": 4, "network_def#features": FEATURES},
}
SMALL_SETS = {"train_count": 9, "validation_count": 7}


def save(
    path: Path, data: np.ndarray, affine: np.ndarray = AFFINE, spacing: tuple[float, ...] | None = None
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, affine)
    if spacing is not None:
        image.header.set_zooms(spacing)
    nib.save(image, path)
    return path


def load(path: str | Path) -> Any:
    return nib.load(path)


def make_acdc(root: Path) -> Path:
    """A few volumes with a bright disc (class 3) in a ring (2) beside a disc (1); the last slice is empty."""
    rng = np.random.default_rng(0)
    for number, depth in PATIENTS.items():
        label = np.zeros((*SHAPE, depth), np.uint8)
        x, y = np.ogrid[: SHAPE[0], : SHAPE[1]]
        for z in range(depth - 1):
            row, column = rng.integers(14, 26, size=2)
            for k, shift, square in ((1, 12, 16), (2, 0, 64), (3, 0, 25)):
                label[(x - row - shift) ** 2 + (y - column) ** 2 <= square, z] = k
        image = (60 * label + rng.normal(40, 5, label.shape)).astype(np.int16)
        scribble = np.where(rng.random(label.shape) < 0.05, label, 4).astype(np.uint8)
        stem = f"patient{number:03d}_frame01"
        folder = root / f"patient{number:03d}"
        save(folder / f"{stem}.nii.gz", image, spacing=SPACING)
        for end, data in (("_gt", label), ("_scribble", scribble)):
            save(folder / f"{stem}{end}.nii.gz", data)
    return root


def configs(bundle: str, *names: str) -> list[str]:
    return [str(BUNDLES / bundle / "configs" / f"{name}.json") for name in names]


def settings(bundle: str, **options: Any) -> dict[str, Any]:
    training = {"max_epochs": 1, **(SMALL_SETS if bundle == "two_circles" else {})}
    return {"bundle_root": str(BUNDLES / bundle), **TINY[bundle], **training, "progress": False, **options}


def run(bundle: str, *names: str, **options: Any) -> None:
    """What `python -m monai.bundle run` does, here in this process."""
    files = configs(bundle, *names)
    monai.bundle.run(config_file=files, logging_file=False, **settings(bundle, **options))  # type: ignore[arg-type]


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
