"""Each row of every bundle trains and evaluates on miniature data; in a file of its own, for tests side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bundles import ROWS, TABLE, Runs, check_written, configs, evaluated, run, train, with_needs

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")


# Boxes of one's own need a file of them, and masks theirs: test_box_bundles; a second round a list and masks:
# test_bundle_acdc_semi.
OWN = ("masks", "own_boxes", "second_round")


@pytest.mark.parametrize(("bundle", "row"), [pair for pair in ROWS if pair[1] not in OWN])
def test_row_trains_and_evaluates(bundle: str, row: str, runs: Runs, tmp_path: Path) -> None:
    if row == "deepcut":
        pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed: the extra crf")
    out, earlier = tmp_path / "out", TABLE[bundle].earlier.get(row)
    given: dict[str, Any] = {earlier: str(runs.trained(bundle))} if earlier else {}
    train(bundle, runs.data(bundle), out, *with_needs(bundle, row), **given)
    check_written(out)
    run(out / "evaluate.yaml", progress=False)
    assert evaluated(out / "evaluation") == {item["case"] for item in runs.cases(bundle)["validation"]}
    if "preprocessing" in Path(configs(bundle, f"rows/{row}")[0]).read_text(encoding="utf-8"):
        # What a training adds to the reading of its cases an image without label has to go without.
        image = runs.cases(bundle)["validation"][0]["image"]
        run(out / "inference.yaml", dataset_dir=image, output_dir=str(tmp_path / "masks"), progress=False)
        assert len(list((tmp_path / "masks").rglob("*_pred.nii.gz"))) == 1
