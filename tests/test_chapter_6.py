"""Figures of chapter 6 from run folders, and what a training with DeepCut says of its proposals."""

from __future__ import annotations

import shutil
from pathlib import Path

import matplotlib.image
import pytest
from bundle_data import read_csv

from bundles import Runs, train
from reproduce.chapter_6 import draw_chapter_6
from reproduce.results import measure

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")


def test_figures_of_what_is_there(runs: Runs, tmp_path: Path) -> None:
    pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed: the extra crf")
    with pytest.raises(FileNotFoundError, match="make table 6.1 first"):
        draw_chapter_6(tmp_path)
    for row in ("emptiness", "default", "full", "width_1"):
        shutil.copytree(runs.trained("acdc_boxes"), tmp_path / "runs" / row / "seed0")
    assert draw_chapter_6(tmp_path) == ["6_2.png", "6_3.png", "6_4.png"]
    deepcut = tmp_path / "runs" / "deepcut" / "seed0"
    train("acdc_boxes", runs.data("acdc_boxes"), deepcut, "box_as_label", "deepcut", max_epochs=2)
    assert draw_chapter_6(tmp_path) == ["6_2.png", "6_3.png", "6_4.png", "b_1.png"]
    for name in ("6_2", "6_3", "6_4", "b_1"):
        picture = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert min(picture.shape[:2]) > 300 and picture[..., :3].std() > 0.05
    with pytest.raises(ValueError, match="does not show the case 'nobody'; choose among"):
        draw_chapter_6(tmp_path, case="nobody")
    first, second = read_csv(deepcut / "metrics.csv")
    said = ["seconds_proposals", "filled_1", "filled_2", "filled_3"]
    assert first[said[0]] == "" and all(0 <= float(second[name]) <= 1 for name in said[1:])
    # At the start the boxes are the label, and the left ventricle's lies in that of the myocardium.
    assert float(first["filled_1"]) == float(first["filled_3"]) == 1 and 0 < float(first["filled_2"]) < 1
    numbers, update = measure(deepcut).numbers, float(second["seconds_proposals"])
    assert numbers["seconds_per_update"] == pytest.approx(update) and 0 < update < float(second["seconds"])
    assert numbers["seconds_per_epoch"] == pytest.approx(float(second["seconds"]) - update)
