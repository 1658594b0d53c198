"""Figures of chapter 5 from run folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import matplotlib.image
import pytest

from bundles import Runs
from reproduce.chapter_5 import draw_chapter_5


def test_figures_of_what_is_there(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make table 5.1 first"):
        draw_chapter_5(tmp_path)
    for row in ("fs_5", "oracle_5", "fs_10", "fs_consistency_5", "full"):
        shutil.copytree(runs.trained("acdc_semi"), tmp_path / "runs" / row / "seed0")
    assert draw_chapter_5(tmp_path) == ["5_2.png", "5_3.png", "5_4.png"]
    for name in ("5_2", "5_3", "5_4"):
        picture = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert min(picture.shape[:2]) > 300 and picture[..., :3].std() > 0.05
    with pytest.raises(ValueError, match="not all runs show the case 'nobody'"):
        draw_chapter_5(tmp_path, case="nobody")
