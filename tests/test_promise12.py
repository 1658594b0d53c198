from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_data import PROSTATE_SPACING, PROSTATES, SHAPE, make_promise12, save, save_metaimage
from monai.transforms import LoadImaged

from monai_constraints.data import check_cases
from monai_constraints.data import metaimage as module
from monai_constraints.data.datasets.promise12 import promise12_datalist
from monai_constraints.data.metaimage import metaimage_reader, read_metaimage


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_promise12(tmp_path_factory.mktemp("promise12"))


def test_official_layout(root: Path) -> None:
    datalist = promise12_datalist(root)
    cases = {key: [item["case"] for item in items] for key, items in datalist.items()}
    assert cases == {"training": ["Case01", "Case02"], "validation": ["Case00", "Case05"]}
    stem = str(root / "TrainingData_Part1" / "Case01")
    expected = {"image": f"{stem}.mhd", "label": f"{stem}_segmentation.mhd", "case": "Case01", "patient": "Case01"}
    assert datalist["training"][0] == expected
    assert promise12_datalist(root / "TrainingData_Part1")["training"] == [expected]


def test_split_of_fifty(tmp_path: Path) -> None:
    for number in range(50):
        for end in ("", "_segmentation"):
            (tmp_path / f"Case{number:02d}{end}.mhd").touch()
    datalist = promise12_datalist(tmp_path)
    assert len(datalist["training"]) == 40
    assert [item["case"] for item in datalist["validation"]] == [f"Case{n:02d}" for n in range(0, 50, 5)]


def test_errors_name_what_is_missing(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere; pass the folder that PROMISE12 was unpacked in"):
        promise12_datalist(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no CaseNN.mhd in"):
        promise12_datalist(tmp_path)
    shutil.copytree(root, tmp_path / "data")
    (tmp_path / "test").mkdir()
    copy = shutil.copyfile(root / "TrainingData_Part1" / "Case00.mhd", tmp_path / "test" / "Case00.mhd")
    with pytest.raises(ValueError, match=f"{copy} and .*Part1/Case00.mhd are the same case; pass"):
        promise12_datalist(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"{copy} has no ground truth Case00_segmentation.mhd"):
        promise12_datalist(tmp_path / "test")


def test_command_line(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["promise12", str(root), str(tmp_path / "list.json")])
    monkeypatch.delitem(sys.modules, "monai_constraints.data.datasets.promise12")
    runpy.run_module("monai_constraints.data.datasets.promise12", run_name="__main__")
    assert json.loads((tmp_path / "list.json").read_text()) == promise12_datalist(root)


@pytest.mark.parametrize("dtype", [np.int16, np.int8])
def test_voxels_and_affine(tmp_path: Path, dtype: Any) -> None:
    """Axes as NIfTI has them; LPS of the file becomes RAS."""
    data = np.random.default_rng(0).integers(-9, 99, (4, 3, 2)).astype(dtype)
    path = save_metaimage(tmp_path / "a.mhd", data, PROSTATE_SPACING)
    voxels, affine = read_metaimage(path)
    np.testing.assert_array_equal(voxels, data)
    dx, dy, dz = PROSTATE_SPACING
    expected = [[-dx, 0, 0, 14.5], [0, -dy, 0, -20.25], [0, 0, dz, -30], [0, 0, 0, 1]]
    np.testing.assert_allclose(affine, expected, atol=1e-6)
    loaded = LoadImaged("image", reader=metaimage_reader(), ensure_channel_first=True)({"image": str(path)})["image"]
    np.testing.assert_array_equal(loaded[0].numpy(), data)
    np.testing.assert_allclose(loaded.pixdim, PROSTATE_SPACING, rtol=1e-6)


def test_checks_read_metaimages(root: Path, tmp_path: Path) -> None:
    items = promise12_datalist(root)["training"]
    check_cases(items, classes=2, progress=False)
    folder = tmp_path / "data"
    shutil.copytree(root, folder)
    items = promise12_datalist(folder)["training"]
    image, label = (Path(items[0][key]).with_suffix(".raw") for key in ("image", "label"))
    image.write_bytes(image.read_bytes()[:-1])
    depth = PROSTATES[2]
    save_metaimage(Path(items[1]["image"]), np.zeros((*SHAPE, depth), np.int16), (0.75, 0.5, 3.0))
    with pytest.raises(ValueError) as caught:
        check_cases(items, classes=2, progress=False)
    first, second = str(caught.value).splitlines()[1:]
    assert f"case Case01, image, {items[0]['image']}: truncated or not MetaImage" in first and "download" in first
    assert f"case Case02, label, {items[1]['label']}: affine differs by 0.6 from" in second

    label.unlink()
    with pytest.raises(ValueError, match=f"{items[0]['label']}: {label.name}, the file of its voxels, is not beside"):
        check_cases(items, classes=2, progress=False)
    image.unlink()
    with pytest.raises(FileNotFoundError, match=f"{image.name}, the file of its voxels, .*; restore it, or unpack"):
        check_cases(items[:1], classes=2, progress=False)


def test_without_itk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_has_itk", False)
    with pytest.raises(ImportError, match=r"needs ITK.*pip install 'monai-constraints\[mhd\]'"):
        check_cases(promise12_datalist(root)["training"], classes=2, progress=False)


def test_nifti_beside(root: Path, tmp_path: Path) -> None:
    """The same reader takes NIfTI, with the affine that NibabelReader gives."""
    path = save(tmp_path / "a.nii.gz", np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.diag([-1.5, -2.0, 3.0, 1.0]))
    volumes = [
        LoadImaged("image", reader=reader)({"image": str(path)})["image"]
        for reader in (metaimage_reader(), "NibabelReader")
    ]
    np.testing.assert_array_equal(volumes[0].numpy(), volumes[1].numpy())
    np.testing.assert_allclose(volumes[0].affine, volumes[1].affine, atol=1e-6)
