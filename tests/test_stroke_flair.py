from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import data_root

from monai_constraints.data.datasets.stroke_flair import stroke_flair_datalist


def make_slices(root: Path, ids: list[int], suffix: str = ".nii.gz") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for number in ids:
        for end in ("flair", "lesion"):
            image = nib.Nifti1Image(np.zeros((5, 4, 1), np.uint8), np.diag([-1.5, 1.25, 3.0, 1.0]))
            nib.save(image, root / f"sub-{number}_{end}{suffix}")
    return root


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_layout_and_split(tmp_path: Path, suffix: str) -> None:
    make_slices(tmp_path, [1000, 100, 7, 20, 30, 40, 50], suffix)
    datalist = stroke_flair_datalist(tmp_path)
    # The ids are sorted, not the files, where sub-1000_ comes before sub-100_.
    assert [item["case"] for item in datalist["validation"]] == ["sub-100", "sub-50"]
    assert [item["case"] for item in datalist["training"]] == ["sub-1000", "sub-20", "sub-30", "sub-40", "sub-7"]
    assert datalist["training"][0] == {
        "image": str(tmp_path / f"sub-1000_flair{suffix}"),
        "label": str(tmp_path / f"sub-1000_lesion{suffix}"),
        "case": "sub-1000",
        "patient": "sub-1000",
        "spacing": [1.5, 1.25, 3.0],
    }


def test_errors_name_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        stroke_flair_datalist(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no sub-ID_flair.nii.gz"):
        stroke_flair_datalist(tmp_path)
    make_slices(tmp_path, [1, 2])
    (tmp_path / "sub-2_lesion.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match="sub-2 has no sub-2_lesion.nii.gz beside its image"):
        stroke_flair_datalist(tmp_path)


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = make_slices(tmp_path / "data", [1, 2, 3]), tmp_path / "list.json"
    monkeypatch.setattr(sys, "argv", ["stroke_flair", str(root), str(out)])
    monkeypatch.delitem(sys.modules, "monai_constraints.data.datasets.stroke_flair")
    runpy.run_module("monai_constraints.data.datasets.stroke_flair", run_name="__main__")
    assert json.loads(out.read_text()) == stroke_flair_datalist(root)


def test_real_data() -> None:
    datalist = stroke_flair_datalist(data_root("stroke_flair"))
    cases = {key: {item["case"] for item in items} for key, items in datalist.items()}
    assert (len(cases["training"]), len(cases["validation"])) == (800, 200)
    assert not cases["training"] & cases["validation"]
    items = datalist["training"] + datalist["validation"]
    assert all(Path(item[key]).is_file() for item in items for key in ("image", "label"))
    assert all(item["spacing"] == [1, 1, 1] for item in items)
