from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_data import BRAIN_SPACING, SHAPE, load, make_wmh, save
from monai.bundle import ConfigParser

from bundles import configs, messages, settings
from monai_constraints.data.datasets.wmh import wmh_datalist, wmh_images
from monai_constraints.data.loading import case_name

AFFINE = np.diag([*BRAIN_SPACING, 1.0])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_wmh(tmp_path_factory.mktemp("wmh"))


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root, tmp_path / "wmh"))


def test_official_layout(root: Path) -> None:
    """Subjects are in order of their number, and neither orig/ nor pre/3DT1 is taken."""
    datalist = wmh_datalist(root)
    cases = {key: [item["case"] for item in items] for key, items in datalist.items()}
    assert cases["validation"] == ["GE3T_100", "Utrecht_11"]
    assert cases["training"] == ["Singapore_50", "Singapore_51", "Utrecht_0", "Utrecht_2", "Utrecht_4"]
    folder = root / "training" / "Utrecht" / "4"
    assert datalist["training"][-1] == {
        "image": [str(folder / "pre" / "FLAIR.nii.gz"), str(folder / "pre" / "T1.nii.gz")],
        "label": str(folder / "wmh.nii.gz"),
        "case": "Utrecht_4",
        "patient": "Utrecht_4",
        "spacing": list(BRAIN_SPACING),
    }
    assert wmh_datalist(root / "training") == datalist
    site = wmh_datalist(root / "training" / "Utrecht")
    assert [item["case"] for item in site["validation"] + site["training"]] == [f"Utrecht_{n}" for n in (0, 2, 4, 11)]


def test_test_subjects_beside_are_left_out(copy: Path) -> None:
    shutil.copytree(copy / "training" / "Utrecht" / "0", copy / "test" / "Utrecht" / "1")
    assert sum(len(items) for items in wmh_datalist(copy).values()) == 7
    assert {item["case"] for item in wmh_images(copy)} >= {"Utrecht_0", "Utrecht_1"}
    images = [{"image": item["image"]} for item in wmh_images(copy)]
    assert len({case_name(item) for item in images}) == len(images)  # FLAIR all of them
    left = wmh_images(copy, leave_out=copy / "training")
    assert left and not {item["case"] for item in left} & {item["case"] for item in wmh_images(copy / "training")}


def test_split_of_sixty(tmp_path: Path) -> None:
    for site in ("Utrecht", "Singapore", "Amsterdam/GE3T"):
        for number in range(20):
            for name in ("pre/FLAIR", "pre/T1", "wmh"):
                save(tmp_path / site / str(number) / f"{name}.nii", np.zeros((1, 1, 1), np.uint8))
    datalist = wmh_datalist(tmp_path)
    assert len(datalist["training"]) == 50 and len({item["case"] for item in datalist["training"]}) == 50
    sites = [item["case"].split("_")[0] for item in datalist["validation"]]
    assert sites == ["GE3T"] * 4 + ["Singapore"] * 3 + ["Utrecht"] * 3


def test_errors_name_what_is_missing(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere; pass the folder that WMH 2017 was unpacked in"):
        wmh_datalist(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no SITE/SUBJECT/pre/FLAIR.nii.gz and wmh.nii.gz in .*; pass the"):
        wmh_datalist(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match='takes 2 channels .FLAIR, T1., a file each.*"my_FLAIR.nii.gz", "my_T1'):
        wmh_images(tmp_path / "empty")
    site = copy / "training" / "Utrecht"
    for file, message in (
        (site / "2" / "wmh.nii.gz", f"{site}/2 has no wmh.nii.gz; unpack the subject again, or pass the folder of"),
        (site / "4" / "pre" / "T1.nii.gz", f"{site}/4 has no pre/T1.nii.gz; unpack the subject again"),
        (site / "11" / "pre" / "FLAIR.nii.gz", f"{site}/11 has no pre/FLAIR.nii.gz; unpack the subject again"),
    ):
        hidden = file.rename(file.with_name("hidden"))
        with pytest.raises(FileNotFoundError, match=message):
            wmh_datalist(copy)
        if file.name == "wmh.nii.gz":
            assert len(wmh_images(copy)) == 7  # nothing to train on, but an image
        else:
            with pytest.raises(FileNotFoundError, match=message.replace("wmh_datalist", "wmh_images")):
                wmh_images(copy)
        hidden.rename(file)


def test_a_subject_of_which_little_is_left(copy: Path) -> None:
    """Whatever remains of a subject is missed, not passed over."""
    subject = copy / "training" / "Utrecht" / "2"
    (subject / "pre" / "FLAIR.nii.gz").unlink()
    message = f"{subject} has no pre/FLAIR.nii.gz; unpack the subject again, or remove its folder"
    (subject / "wmh.nii.gz").rename(copy / "label")
    with pytest.raises(FileNotFoundError, match=message):
        wmh_images(copy)
    shutil.rmtree(subject / "pre")
    assert len(wmh_images(copy)) == 6
    (copy / "label").rename(subject / "wmh.nii.gz")
    with pytest.raises(FileNotFoundError, match=message):
        wmh_datalist(copy)


def test_a_subject_twice_and_grids_that_differ(copy: Path) -> None:
    site = copy / "training" / "Utrecht"
    again = copy / "training" / "copy" / "Utrecht" / "2"
    shutil.copytree(site / "2", again)
    with pytest.raises(ValueError, match=f"{again} and {site}/2 are the same subject; pass the folder of one"):
        wmh_datalist(copy)
    shutil.rmtree(again.parents[1])
    t1 = site / "2" / "pre" / "T1.nii.gz"
    data = np.asarray(load(t1).dataobj)
    for wrong, affine in ((data[:-1], AFFINE), (data, np.diag([1.5, 1.25, 2.5, 1.0]))):
        save(t1, wrong, affine)
        with pytest.raises(ValueError, match=f"{t1} has shape .* and voxel .*, but .*FLAIR.nii.gz has .*; resample"):
            wmh_datalist(copy)
    save(t1, data, AFFINE)
    save(site / "2" / "wmh.nii.gz", np.zeros((*SHAPE, 9), np.uint8), AFFINE)
    with pytest.raises(ValueError, match="wmh.nii.gz has shape .48, 40, 9."):
        wmh_datalist(copy)


def test_command_line(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["wmh", str(root), str(tmp_path / "list.json")])
    monkeypatch.delitem(sys.modules, "monai_constraints.data.datasets.wmh")
    runpy.run_module("monai_constraints.data.datasets.wmh", run_name="__main__")
    assert json.loads((tmp_path / "list.json").read_text()) == wmh_datalist(root)


def parser(root: Path, **options: Any) -> ConfigParser:
    found = ConfigParser(ConfigParser.load_config_files(configs("wmh", "train")))
    found.update(settings("wmh", dataset_dir=str(root), **options))
    return found


def test_what_the_network_is_given(root: Path) -> None:
    """FLAIR and T1 as channels, each from 0 to 1 by its own volume, and other pathology in the background."""
    given = {"padded_size": [48, 48], "spatial_size": [48, 48]}
    item = wmh_datalist(root)["training"][0]
    sample = parser(root, **given).get_parsed_content("preprocessing")(item)
    raw = [np.asarray(load(path).dataobj).astype(np.float32) for path in item["image"]]
    label = np.asarray(load(item["label"]).dataobj)
    assert sample["image"].shape == (2, 48, 48, 4) and set(np.unique(label)) == {0, 1, 2}
    for channel, volume in enumerate(raw):
        low, high = np.percentile(volume, [1, 99.9])
        scaled = np.clip((volume - low) / (high - low), 0, 1)
        np.testing.assert_allclose(sample["image"][channel, :, 4:44].numpy(), scaled, atol=1e-4)
    assert not sample["image"][:, :, :4].any()  # the border is as dark as the darkest voxel
    assert sample["label"].dtype == torch.uint8
    np.testing.assert_array_equal(sample["label"][0, :, 4:44].numpy(), label == 1)


@pytest.mark.parametrize("distance_3d", [True, False])
def test_distances_of_the_volume_or_of_each_slice(root: Path, distance_3d: bool) -> None:
    """In mm of the file on the network's grid; the empty top slice is one away from the lesion, or has no distances."""
    given = {"padded_size": [48, 48], "spatial_size": [24, 24], "distance_3d": distance_3d}
    slices = parser(root, **given).get_parsed_content("train#dataset")
    top = next(sample for sample in slices if sample["case"] == "Singapore_50" and sample["slice"] == 3)
    assert not top["label"].any()
    assert float(top["distance"].min()) == (BRAIN_SPACING[2] if distance_3d else 0)
    below = next(sample for sample in slices if sample["case"] == "Singapore_50" and sample["slice"] == 2)
    outside = below["distance"][below["label"] == 0].unique()
    steps = [2 * BRAIN_SPACING[0], 2 * BRAIN_SPACING[1]]
    assert float(outside[0]) == pytest.approx(min(steps) if not distance_3d else min(*steps, BRAIN_SPACING[2]))


def test_other_pathology_may_be_nowhere(copy: Path) -> None:
    """Every training needs hyperintensities, not label 2; a label beyond that is an error."""
    labels = {path: np.asarray(load(path).dataobj) for path in copy.rglob("wmh.nii.gz")}
    # What 0, 1 and 2 become.
    cases = (([0, 1, 0], None), ([0, 0, 0], "hyperintensity in no label"), ([0, 3, 2], "0..2, found 3"))
    for values, message in cases:
        for path, label in labels.items():
            save(path, np.array(values, np.uint8)[label], AFFINE)
        dataset = parser(copy)
        if message is None:
            assert len(dataset.get_parsed_content("train#dataset")) > 0
        else:
            with pytest.raises(RuntimeError) as caught:
                dataset.get_parsed_content("train#dataset")
            assert message in messages(caught.value)
