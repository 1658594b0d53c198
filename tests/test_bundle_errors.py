"""What a bundle says when its files or settings are wrong, before anything is trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_data import AFFINE, MAKE, NAMES, configs, load, make_acdc, run, save, settings
from monai.bundle import ConfigParser

from monai_constraints.data import write_datalist
from monai_constraints.data.datasets.acdc import acdc_datalist

Damage = Callable[[Path], Any]

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")


@pytest.fixture(scope="module")
def acdc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_acdc(tmp_path_factory.mktemp("acdc"))


@pytest.mark.parametrize("bundle", NAMES)
@pytest.mark.parametrize("names", [("train", "evaluate"), ("inference",)])
def test_missing_model(bundle: str, names: tuple[str, ...], acdc: Path, tmp_path: Path) -> None:
    folder = str(tmp_path)
    text = failure(bundle, *names, dataset_dir=str(acdc), output_dir=folder, ckpt_path=folder + "/model.pt")
    assert f"no trained model at {folder}/model.pt; train first" in text


@pytest.mark.parametrize("bundle", NAMES)
def test_initial_weights_that_are_not_there(bundle: str, acdc: Path, tmp_path: Path) -> None:
    """Said before a file of the data is read."""
    given = {"dataset_dir": str(tmp_path / "none"), "output_dir": str(tmp_path), "initial_weights": "/none/model.pt"}
    text = failure(bundle, "train", **given)
    assert "no trained model at /none/model.pt; train first, or pass --initial_weights" in text


@pytest.mark.parametrize("bundle", sorted(MAKE))
def test_inference_without_images(bundle: str, tmp_path: Path) -> None:
    model = save_weights(bundle, tmp_path / "model.pt")
    given = {"dataset_dir": str(tmp_path), "output_dir": str(tmp_path / "out")}
    assert "the datalist is empty" in failure(bundle, "inference", ckpt_path=model, **given)


def save_weights(bundle: str, path: Path, **options: Any) -> str:
    parser = ConfigParser(ConfigParser.load_config_files(configs(bundle, "inference")))
    parser.update(settings(bundle, **options))
    torch.save(parser.get_parsed_content("network_def").state_dict(), path)
    return str(path)


@pytest.mark.parametrize("names", [("train",), ("train", "evaluate"), ("inference",)])
@pytest.mark.parametrize("bundle", ["acdc", "acdc_lv"])
def test_eight_views_of_what_is_not_square(bundle: str, names: tuple[str, ...], tmp_path: Path) -> None:
    """Said before a file of the data is read, not at the first validation."""
    given = {"dataset_dir": str(tmp_path / "none"), "output_dir": str(tmp_path / "out"), "spatial_size": [48, 40]}
    text = failure(bundle, *names, test_time_augmentation=True, **given)
    assert "images of [48, 40]; quarter turns need a square" in text and not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", [("train", "evaluate"), ("inference",)])
def test_model_of_other_options(names: tuple[str, ...], acdc: Path, tmp_path: Path) -> None:
    model = save_weights("acdc_lv", tmp_path / "model.pt", in_channels=3)
    given = {"dataset_dir": str(acdc), "output_dir": str(tmp_path), "ckpt_path": model}
    text = failure("acdc_lv", *names, **given)
    assert "conv_0.conv.weight, here (4, 1, 3, 3), is (4, 3, 3, 3) there. Give the overlays" in text
    begin = {"dataset_dir": str(acdc), "output_dir": str(tmp_path), "initial_weights": model}
    assert "conv_0.conv.weight, here (4, 1, 3, 3), is (4, 3, 3, 3) there" in failure("acdc_lv", "train", **begin)
    torch.save({"model": {}}, model)
    assert "is not there. Give the overlays" in failure("acdc_lv", *names, **given)


@pytest.mark.parametrize("content", ["nothing", "text", "a list", "numbers"])
def test_no_weights(content: str, acdc: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.pt"
    if content in ("nothing", "text"):
        model.write_text("" if content == "nothing" else "weights")
    else:
        torch.save([1.0] if content == "a list" else {"weight": 1.0}, model)
    given = {"dataset_dir": str(acdc), "output_dir": str(tmp_path), "ckpt_path": str(model)}
    assert "holds no weights of a network" in failure("acdc_lv", "inference", **given)


def failure(bundle: str, *names: str, **options: Any) -> str:
    """The messages of the error and its causes."""
    with pytest.raises(Exception) as caught:
        run(bundle, *names, **options)
    error: BaseException | None = caught.value
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


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


BAD: dict[str, tuple[str, Damage, str, dict[str, Any]]] = {
    "missing image": ("", Path.unlink, "no such file", {}),
    "missing label": ("_gt", Path.unlink, "no such file", {}),
    "truncated image": ("", cut, "truncated or not NIfTI", {}),
    "truncated label": ("_gt", cut, "truncated or not NIfTI", {}),
    "NaN": ("", set_voxel(float("nan"), np.float32), "1 voxels are NaN or infinite", {}),
    "shape": ("_gt", edit(lambda data: data[:-1]), "shape (47, 40, 4)", {}),
    "affine": ("_gt", edit(lambda data: None, np.diag([-1.0, -1.0, 2.0, 1.0])), "affine differs by 1", {}),
    "label": ("_gt", set_voxel(7, np.uint8), "expected integers 0..3, found 7", {}),
    "scribble": (
        "_scribble",
        set_voxel(9, np.uint8),
        "expected integers 0..3 or 4, found 9",
        {"train_keys": ["image", "label", "scribble"]},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("end", "damage", "message", "options"), BAD.values(), ids=BAD)
def test_bad_file_is_named_before_training(
    end: str, damage: Damage, message: str, options: dict[str, Any], acdc: Path, tmp_path: Path
) -> None:
    root = tmp_path / "acdc"
    shutil.copytree(acdc, root)
    write_datalist(acdc_datalist(root), tmp_path / "list.json")
    path = root / "patient001" / f"patient001_frame01{end}.nii.gz"
    damage(path)
    key = {"": "image", "_gt": "label", "_scribble": "scribble"}[end]
    given = {"datalist_file": str(tmp_path / "list.json"), "output_dir": str(tmp_path / "out"), **options}
    text = failure("acdc_lv", "train", **given)
    assert f"case patient001_frame01, {key}, {path}: {message}" in text
    assert list((tmp_path / "out").iterdir()) == []


def test_bad_settings_are_named_before_training(acdc: Path, tmp_path: Path) -> None:
    root, out, blocker = tmp_path / "acdc", tmp_path / "out", tmp_path / "file"
    given = {"dataset_dir": str(acdc), "output_dir": str(out)}
    blocker.touch()
    text = failure("acdc_lv", "train", **{**given, "output_dir": str(blocker / "out")})
    assert f"{blocker} is a file, not a folder" in text

    write_datalist({**acdc_datalist(acdc), "training": []}, tmp_path / "empty.json")
    text = failure("acdc_lv", "train", **given, datalist_file=str(tmp_path / "empty.json"))
    assert f"'training' of {tmp_path / 'empty.json'} is an empty list" in text

    rule = {"_target_": "monai_constraints.constraints.Common", "lower": 9, "upper": 3}
    assert "Common: lower=9.0 above upper=3.0; swap them" in failure("acdc_lv", "train", **given, size_rule=rule)
    text = failure("acdc_lv", "train", "rows/common", **given, **{"size_rule#patients": ["patient099"]})
    assert "no sample has patient in ['patient099']" in text

    shutil.copytree(acdc, root)
    for path in root.glob("patient00*/*_gt.nii.gz"):
        edit(lambda data: np.where(data == 3, 2, data))(path)
    text = failure("acdc_lv", "train", **{**given, "dataset_dir": str(root)})
    assert "all cases, label: class 3 never occurs" in text
    assert list(out.iterdir()) == []
