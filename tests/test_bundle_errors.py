"""What a bundle says when its files or settings are wrong, before anything is trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_data import AFFINE, load, make_acdc, save

from bundles import NAMES, Runs, configs, messages, run, settings, train
from monai_constraints.data import write_datalist
from monai_constraints.data.datasets.acdc import acdc_datalist

Damage = Callable[[Path], Any]

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")


@pytest.fixture(scope="module")
def acdc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_acdc(tmp_path_factory.mktemp("acdc"))


def failure(*files: str | Path, **options: Any) -> str:
    """The messages of the error and its causes."""
    with pytest.raises(Exception) as caught:
        run(*files, **options)
    return messages(caught.value)


def training_failure(data: Path, out: Path, *rows: str, **options: Any) -> str:
    with pytest.raises(Exception) as caught:
        train("acdc_lv", data, out, *rows, **options)
    return messages(caught.value)


@pytest.mark.parametrize("bundle", NAMES)
def test_no_model_yet(bundle: str, runs: Runs, tmp_path: Path) -> None:
    """An evaluation or inference of a folder without weights, and a training from weights that are not there."""
    given = {**settings(bundle), "output_dir": str(tmp_path), "dataset_dir": str(runs.data(bundle) or "")}
    text = failure(*configs(bundle, "train", "evaluate"), **given)
    assert f"no trained model at {tmp_path}/model.pt; train first" in text
    shutil.copyfile(runs.trained(bundle) / "config.yaml", tmp_path / "config.yaml")
    text = failure(*configs(bundle, "inference"), run_dir=str(tmp_path), dataset_dir=given["dataset_dir"])
    assert f"no trained model at {tmp_path}/model.pt; train first" in text
    given |= {"output_dir": str(tmp_path / "out"), "initial_weights": "/none/model.pt"}
    text = failure(*configs(bundle, "train"), **given)
    assert "no trained model at /none/model.pt; train first, or pass --initial_weights" in text
    assert not (tmp_path / "out").exists()


def test_inference_without_images(runs: Runs, tmp_path: Path) -> None:
    text = failure(runs.trained("acdc_lv") / "inference.yaml", dataset_dir=str(tmp_path), output_dir=str(tmp_path))
    assert "find_images: no .nii" in text


@pytest.mark.parametrize("content", ["", "weights", "hello", "a list", "numbers"])
def test_no_weights(content: str, runs: Runs, tmp_path: Path) -> None:
    model = tmp_path / "model.pt"
    if content in ("", "weights", "hello"):
        model.write_text(content)
    else:
        torch.save([1.0] if content == "a list" else {"weight": 1.0}, model)
    given = {"dataset_dir": str(runs.data("acdc_lv")), "output_dir": str(tmp_path), "ckpt_path": str(model)}
    assert "holds no weights of a network" in failure(runs.trained("acdc_lv") / "inference.yaml", **given)


def edit(change: Callable[[np.ndarray], Any], affine: np.ndarray = AFFINE) -> Damage:
    def damage(path: Path) -> None:
        data = np.asarray(load(path).dataobj).copy()
        changed = change(data)
        save(path, data if changed is None else changed, affine)

    return damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def set_voxel(value: float, dtype: Any) -> Damage:
    def change(data: np.ndarray) -> np.ndarray:
        data = data.astype(dtype)
        data[5, 6, 1] = value
        return data

    return edit(change)


BAD: dict[str, tuple[str, Damage, str]] = {
    "missing image": ("", Path.unlink, "no such file"),
    "missing label": ("_gt", Path.unlink, "no such file"),
    "truncated image": ("", cut, "truncated or not NIfTI"),
    "truncated label": ("_gt", cut, "truncated or not NIfTI"),
    "NaN": ("", set_voxel(float("nan"), np.float32), "1 voxels are NaN or infinite"),
    "shape": ("_gt", edit(lambda data: data[:-1]), "shape (47, 40, 4)"),
    "affine": ("_gt", edit(lambda data: None, np.diag([-1.0, -1.0, 2.0, 1.0])), "affine is not that of image"),
    "label": ("_gt", set_voxel(7, np.uint8), "expected integers 0..3, found 7"),
    "scribble": ("_scribble", set_voxel(9, np.uint8), "expected integers 0..3 or 4, found 9"),
}


@pytest.mark.parametrize(("end", "damage", "message"), BAD.values(), ids=BAD)
def test_bad_file_is_named_before_training(end: str, damage: Damage, message: str, acdc: Path, tmp_path: Path) -> None:
    root = tmp_path / "acdc"
    shutil.copytree(acdc, root)
    write_datalist(acdc_datalist(root), tmp_path / "list.json")
    path = root / "patient001" / f"patient001_frame01{end}.nii.gz"
    damage(path)
    key = {"": "image", "_gt": "label", "_scribble": "scribble"}[end]
    given = {"datalist_file": str(tmp_path / "list.json"), "train_keys": ["image", "label", "scribble"]}
    text = training_failure(root, tmp_path / "out", **given)
    assert f"case patient001_frame01, {key}, {path}: {message}" in text
    assert not [path for path in (tmp_path / "out").glob("*") if path.name != "config.yaml"]


def test_bad_settings_are_named_before_training(acdc: Path, tmp_path: Path) -> None:
    root, out, blocker = tmp_path / "acdc", tmp_path / "out", tmp_path / "file"
    blocker.touch()
    assert f"{blocker} is a file, not a folder" in training_failure(acdc, blocker / "out")

    write_datalist({**acdc_datalist(acdc), "training": []}, tmp_path / "empty.json")
    text = training_failure(acdc, out, datalist_file=str(tmp_path / "empty.json"))
    assert f"'training' of {tmp_path / 'empty.json'} is an empty list" in text

    rule = {"_target_": "monai_constraints.constraints.Common", "lower": 9, "upper": 3}
    assert "Common: lower=9.0 above upper=3.0; swap them" in training_failure(acdc, out, size_rule=rule)
    text = training_failure(acdc, out, "tags", "common", **{"size_rule#patients": ["patient099"]})
    assert "no sample has patient in ['patient099']" in text

    shutil.copytree(acdc, root)
    for path in root.glob("patient00*/*_gt.nii.gz"):
        edit(lambda data: np.where(data == 3, 2, data))(path)
    assert "left ventricle in no label of 2 cases" in training_failure(root, out)
    assert list(out.glob("*")) == []
