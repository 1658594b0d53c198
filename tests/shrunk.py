"""Copies of the bundles in YAML at a size that a test can train, for programs that take a bundle as it lies there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml
from bundle_data import BUNDLES, FEATURES
from monai.bundle import ConfigParser

from bundles import TABLE

WITH_FILES = sorted(name for name, bundle in TABLE.items() if bundle.make is not None)
SIZES: dict[str, Any] = {
    "padded_size": [48, 48], "spatial_size": [32, 32], "trunk#features": FEATURES, "network_def#features": FEATURES,
    "max_epochs": 2, "val_interval": 1, "progress": False, "device": "cpu",
}  # fmt: skip


def shrunk(bundle: str, folder: Path, **options: Any) -> Path:
    """The bundle in `folder`, with small sizes and these options written into its train.yaml."""
    shutil.copytree(BUNDLES / bundle, folder)
    path = folder / "configs" / "train.yaml"
    parser = ConfigParser(ConfigParser.load_config_files([str(path)]))
    own = {key: value for key, value in TABLE[bundle].tiny.items() if key not in SIZES or len(value) == 3}
    for key, value in {**SIZES, **own, **options}.items():
        above = key.rpartition("#")[0]
        if not above or (above in parser and isinstance(parser[above], dict)):
            parser.set(value, key)
    path.write_text(yaml.safe_dump(parser.get(), sort_keys=False), encoding="utf-8")
    return folder


def make(bundle: str, root: Path) -> Path:
    """Miniature data in the layout of the bundle's data set."""
    writer = TABLE[bundle].make
    assert writer is not None  # of WITH_FILES
    return writer(root)


def four_cases(bundle: str, root: Path) -> list[dict[str, Any]]:
    """Miniature data of the bundle, the cases of the training first."""
    parts = TABLE[bundle].datalist(make(bundle, root))
    return [*parts["training"], *parts["validation"]][:4]
