from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_data import PERFUSION_SPACING, PERFUSIONS, load, make_isles, save
from monai.bundle import ConfigParser

from bundles import configs, settings
from monai_constraints.data import check_cases
from monai_constraints.data.datasets.isles import isles_datalist, isles_images

NAMES = ("CT", "CT_CBF", "CT_CBV", "CT_MTT", "CT_Tmax")
AFFINE = np.diag([*PERFUSION_SPACING, 1.0])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_isles(tmp_path_factory.mktemp("isles"))


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root, tmp_path / "isles"))


def find(root: Path, case: str, name: str) -> Path:
    (path,) = (root / "TRAINING" / case).glob(f"SMIR.Brain.XX.O.{name}.*/*.nii")
    return path


def test_official_layout(root: Path) -> None:
    """Channels in a fixed order, whatever the ids; the 4D series is not taken."""
    datalist = isles_datalist(root)
    cases = {key: [item["case"] for item in items] for key, items in datalist.items()}
    assert cases == {"training": ["case_1", "case_2", "case_10"], "validation": ["case_75", "case_76"]}
    assert datalist["training"][1] == {
        "image": [str(find(root, "case_2", name)) for name in NAMES],
        "label": str(find(root, "case_2", "OT")),
        "case": "case_2",
        "patient": "case_2",
        "spacing": list(PERFUSION_SPACING),
    }
    assert isles_datalist(root / "TRAINING") == datalist


def test_files_without_folders_and_test_cases_beside(copy: Path) -> None:
    case = copy / "TRAINING" / "case_1"
    for path in case.glob("*/*.nii"):
        path.rename(case / path.name)
    shutil.copytree(case, copy / "TESTING" / "case_1")
    item, *others = isles_datalist(copy)["training"]
    assert [Path(path).parent for path in item["image"]] == [case] * 5 and len(others) == 2
    assert len(isles_images(copy)) == len(PERFUSIONS) + 1


def test_split_of_ninety_four(tmp_path: Path) -> None:
    first = tmp_path / "case_1"
    for name in (*NAMES, "OT"):
        save(first / f"SMIR.Brain.XX.O.{name}.1.nii", np.zeros((1, 1, 1), np.uint8))
    for number in range(2, 95):
        shutil.copytree(first, tmp_path / f"case_{number}")
    datalist = isles_datalist(tmp_path)
    assert len(datalist["training"]) == 74
    assert [item["case"] for item in datalist["validation"]] == [f"case_{n}" for n in range(75, 95)]


def test_errors_name_what_is_missing(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere; pass the folder that ISLES 2018 was unpacked in"):
        isles_datalist(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no folders case_N in .*empty or below; pass the folder"):
        isles_datalist(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="takes 5 channels .CT, CT_CBF, .*datalist_file cases.json with"):
        isles_images(tmp_path / "empty")
    case = copy / "TRAINING" / "case_2"
    find(copy, "case_2", "OT").unlink()
    with pytest.raises(FileNotFoundError, match=f"{case} has no label SMIR.Brain.XX.O.OT.ID.nii; .*TRAINING alone"):
        isles_datalist(copy)
    assert len(isles_images(copy)) == len(PERFUSIONS)  # as the test cases
    for name in NAMES:
        path = find(copy, "case_2", name)
        hidden = path.rename(path.with_name("hidden"))
        for read in (isles_datalist, isles_images):
            with pytest.raises(FileNotFoundError, match=f"{case} has no file SMIR.Brain.XX.O.{name}.ID.nii; unpack"):
                read(copy)
        hidden.rename(path)


def test_a_case_or_a_modality_twice(copy: Path) -> None:
    again = copy / "TRAINING" / "part" / "case_2"
    shutil.copytree(copy / "TRAINING" / "case_2", again)
    with pytest.raises(ValueError, match=f"{again} and .*case_2 are the same case; pass the folder TRAINING alone"):
        isles_datalist(copy)
    shutil.rmtree(again.parent)
    path = find(copy, "case_2", "CT_CBV")
    other = path.with_name("SMIR.Brain.XX.O.CT_CBV.7.nii")
    shutil.copyfile(path, other)
    with pytest.raises(ValueError, match=f"{path} and {other} are both CT_CBV of one case; keep one of them"):
        isles_datalist(copy)


def test_grids_that_differ(copy: Path) -> None:
    """Shape and voxel size by the preparation, the affine by the check before training."""
    path = find(copy, "case_2", "CT_Tmax")
    data = np.asarray(load(path).dataobj).copy()  # a .nii is read where it lies, and is written again
    for wrong, affine in ((data[..., :-1], AFFINE), (data, np.diag([1.25, 1.5, 5.0, 1.0]))):
        save(path, wrong, affine)
        with pytest.raises(ValueError, match=f"{path} has shape .* and voxel sizes .*, but .*CT.*nii has .*; resample"):
            isles_datalist(copy)
    moved = AFFINE.copy()
    moved[0, 3] = 4
    save(path, data, moved)
    items = isles_datalist(copy)["training"]
    with pytest.raises(ValueError, match=f"case case_2, image, {path}: affine differs by 4 from case case_2, image, "):
        check_cases(items, classes=2, progress=False)
    data[3, 2, 1] = np.nan
    save(path, data, AFFINE)
    with pytest.raises(ValueError, match=f"case case_2, image, {path}: 1 voxels are NaN"):
        check_cases(items, classes=2, progress=False)


def test_command_line(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["isles", str(root), str(tmp_path / "list.json")])
    monkeypatch.delitem(sys.modules, "monai_constraints.data.datasets.isles")
    runpy.run_module("monai_constraints.data.datasets.isles", run_name="__main__")
    assert json.loads((tmp_path / "list.json").read_text()) == isles_datalist(root)


def test_what_the_network_is_given(root: Path) -> None:
    """Five channels, each from 0 to 1 by its own volume, Hounsfield units below 0 included."""
    parser = ConfigParser(ConfigParser.load_config_files(configs("isles", "train")))
    parser.update(settings("isles", dataset_dir=str(root), padded_size=[48, 48], spatial_size=[48, 48]))
    item = isles_datalist(root)["training"][1]
    sample = parser.get_parsed_content("preprocessing")(item)
    assert sample["image"].shape == (5, 48, 48, 4)
    for channel, path in enumerate(item["image"]):
        volume = np.asarray(load(path).dataobj).astype(np.float32)
        low, high = np.percentile(volume, [1, 99.9])
        scaled = np.clip((volume - low) / (high - low), 0, 1)
        np.testing.assert_allclose(sample["image"][channel, :, 4:44].numpy(), scaled, atol=1e-4)
    assert not sample["image"][:, :, :4].any()  # the border is as dark as the darkest voxel
    assert sample["label"].dtype == torch.uint8
    label = np.asarray(load(item["label"]).dataobj)
    np.testing.assert_array_equal(sample["label"][0, :, 4:44].numpy(), label)
