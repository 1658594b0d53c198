from __future__ import annotations

from pathlib import Path

import pytest
from bundle_data import HIPPOCAMPI, make_hippocampus
from conftest import data_root

from monai_constraints.data.datasets.hippocampus import hippocampus_datalist


def test_layout_and_split(tmp_path: Path) -> None:
    datalist = hippocampus_datalist(make_hippocampus(tmp_path))
    assert [item["case"] for item in datalist["validation"]] == ["hippocampus_001", "hippocampus_008"]
    assert len(datalist["training"]) == len(HIPPOCAMPI) - 2
    assert datalist["validation"][0] == {
        "image": str(tmp_path / "imagesTr/hippocampus_001.nii.gz"),
        "label": str(tmp_path / "labelsTr/hippocampus_001.nii.gz"),
        "case": "hippocampus_001",
        "patient": "hippocampus_001",
        "spacing": [1, 1, 1],
    }
    every = hippocampus_datalist(tmp_path, every=4)["validation"]
    assert [item["case"] for item in every] == ["hippocampus_001", "hippocampus_007"]


def test_errors_name_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        hippocampus_datalist(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no imagesTr"):
        hippocampus_datalist(tmp_path)
    make_hippocampus(tmp_path)
    (tmp_path / "labelsTr/hippocampus_004.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match="hippocampus_004 has no labelsTr/hippocampus_004.nii.gz"):
        hippocampus_datalist(tmp_path)


def test_real_data() -> None:
    datalist = hippocampus_datalist(data_root("hippocampus"))
    assert (len(datalist["training"]), len(datalist["validation"])) == (166, 42)
    assert datalist["validation"][0]["case"] == "hippocampus_001"
