from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]


def data_root(name: str) -> Path:
    """The folder of one real data set, or a skip that says where it was looked for."""
    root = Path(os.environ.get("MONAI_CONSTRAINTS_DATA", REPOSITORY.parent / "shared" / "data")) / name
    if not root.is_dir():
        pytest.skip(f"real data not found at {root}; set MONAI_CONSTRAINTS_DATA to the folder that holds {name}/")
    return root


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Miniature data and a short training of every bundle."""
    from bundles import Runs  # MONAI takes its time to import

    return Runs(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
