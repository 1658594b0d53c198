from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bundle_data import STROKES, make_atlas, save

from monai_constraints.data.datasets.atlas import atlas_datalist


def test_release_2(tmp_path: Path) -> None:
    datalist = atlas_datalist(make_atlas(tmp_path))
    assert [item["case"] for item in datalist["validation"]] == ["sub-r001s001_ses-1", "sub-r001s010_ses-1"]
    assert len(datalist["training"]) == len(STROKES) - 2
    folder = tmp_path / "Training/R001/sub-r001s001/ses-1/anat"
    stem = "sub-r001s001_ses-1_space-MNI152NLin2009aSym"
    assert datalist["validation"][0] == {
        "image": str(folder / f"{stem}_T1w.nii.gz"),
        "label": str(folder / f"{stem}_label-L_desc-T1lesion_mask.nii.gz"),
        "case": "sub-r001s001_ses-1",
        "patient": "sub-r001s001",
        "spacing": [1, 1.25, 1.5],
    }


def test_release_1(tmp_path: Path) -> None:
    """A file a lesion, and sessions of one patient on one side of the split."""
    for number in range(10):
        for session in ("t01", "t02"):
            name = f"0317{number:02d}"
            lesions = ["_LesionSmooth_stx", "_LesionSmooth_1_stx"][: 1 + number % 2]
            for end in ("_t1w_deface_stx", *lesions):
                save(tmp_path / f"Site1/{name}/{session}/{name}{end}.nii.gz", np.zeros((5, 4, 3), np.uint8), np.eye(4))
    datalist = atlas_datalist(tmp_path)
    cases = [item["case"] for item in datalist["validation"]]
    assert cases == ["031700_t01", "031700_t02", "031709_t01", "031709_t02"] and len(datalist["training"]) == 16
    first, *_, last = datalist["validation"]
    folder = tmp_path / "Site1/031709/t02"
    assert first["label"] == str(tmp_path / "Site1/031700/t01/031700_LesionSmooth_stx.nii.gz")
    assert last["label"] == [str(folder / f"031709_LesionSmooth_{end}.nii.gz") for end in ("1_stx", "stx")]


def test_errors_name_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        atlas_datalist(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no .*_T1w.nii.gz"):
        atlas_datalist(tmp_path)
    make_atlas(tmp_path)
    mask = next(tmp_path.rglob("sub-r001s003*_mask.nii.gz"))
    save(tmp_path / "again" / mask.name, np.zeros((2, 2, 2)))
    save(tmp_path / "again" / mask.name.replace("label-L_desc-T1lesion_mask", "T1w"), np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="both of sub-r001s003_ses-1"):
        atlas_datalist(tmp_path)
    mask.unlink()
    with pytest.raises(FileNotFoundError, match="has no sub-r001s003.*T1lesion_mask"):
        atlas_datalist(tmp_path / "Training")
