from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np
import pytest
import torch
from bundle_data import (
    AFFINE,
    BUNDLES,
    FEATURES,
    PATIENTS,
    SHAPE,
    configs,
    load,
    make_acdc,
    read_csv,
    run,
    save,
    settings,
)
from conftest import REPOSITORY, data_root
from monai.bundle import ConfigParser, ConfigWorkflow

from monai_constraints.data import write_datalist
from monai_constraints.data.acdc import acdc_datalist

WRITTEN = {"metrics.csv", "curves.png", "examples.png", "model.pt", "checkpoint.pt", "tensorboard"}
WRITTEN |= {"patients.csv", "predictions.npz"}
NAMES = ["acdc", "acdc_lv", "two_circles"]
ACDC = ["acdc", "acdc_lv"]
ROWS = [(bundle, path.stem) for bundle in NAMES for path in sorted((BUNDLES / bundle / "configs/rows").iterdir())]

# Keys that are parts of the workflow, not options that a user sets one by one.
PARTS = {
    *("checkpoint", "dataloader", "datalist", "dataset", "distributed", "evaluator", "handlers", "imports", "inferer"),
    *("initialize", "loss", "lr_scheduler", "network", "optimizer", "postprocessing", "preprocessing", "run", "train"),
    *("validate", "volume_preprocessing"),
}

Damage = Callable[[Path], Any]

pytestmark = [
    pytest.mark.filterwarnings("ignore:parsing config_file"),
    pytest.mark.filterwarnings("ignore:No hash value provided"),
]


@pytest.fixture(scope="module")
def acdc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_acdc(tmp_path_factory.mktemp("acdc"))


@pytest.fixture(scope="module")
def trained(acdc: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Options of a training of one epoch, for each bundle."""
    options: dict[str, dict[str, Any]] = {name: {"output_dir": str(tmp_path_factory.mktemp(name))} for name in NAMES}
    for name in NAMES:
        options[name] |= {"dataset_dir": str(acdc)} if name in ACDC else {}
        # One epoch has to leave another network than there was before.
        options[name]["learning_rate"] = 0.05
        run(name, "train", **options[name])
    return options


def workflow(bundle: str, *names: str, kind: str = "train", **options: Any) -> ConfigWorkflow:
    files = configs(bundle, *names)
    return ConfigWorkflow(files, logging_file=False, workflow_type=kind, **settings(bundle, **options))


def check_written(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == WRITTEN
    (row,) = read_csv(folder / "metrics.csv")
    assert row["epoch"] == "1" and np.isfinite(float(row["loss"])) and 0 <= float(row["val_dice"]) <= 1
    check_patients(folder / "patients.csv", float(row["val_dice"]))


def check_patients(path: Path, dice: float) -> None:
    """As many slices, with the same mean Dice, as the validation had."""
    rows = read_csv(path)
    slices = np.array([int(row["slices"]) for row in rows])
    assert np.average([float(row["dice_2d"]) for row in rows], weights=slices) == pytest.approx(dice, rel=1e-4)
    if rows[0]["case"].startswith("patient"):
        assert list(dict.fromkeys(row["case"] for row in rows)) == ["patient013_frame01", "patient014_frame01"]
        assert list(dict.fromkeys(slices)) == [PATIENTS[13], PATIENTS[14]]
        assert all(float(row["hd95"]) >= 0 for row in rows)


@pytest.mark.parametrize("bundle", NAMES)
def test_train_alone(bundle: str, trained: dict[str, dict[str, Any]]) -> None:
    check_written(Path(trained[bundle]["output_dir"]))


@pytest.mark.parametrize(("bundle", "row"), ROWS)
def test_row_trains_and_evaluates(bundle: str, row: str, acdc: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"dataset_dir": str(acdc)} if bundle in ACDC else {}
    if row == "enet":
        options["network_def#features"] = 4
    options["output_dir"] = str(tmp_path / "out")
    run(bundle, "train", f"rows/{row}", **options)
    check_written(tmp_path / "out")
    run(bundle, "train", f"rows/{row}", "evaluate", **options, evaluation_dir=str(tmp_path / "evaluation"))
    check_evaluation(tmp_path / "evaluation", tmp_path / "out")


def test_files_lost_after_the_last_epoch_are_written_again(trained: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(trained["acdc_lv"]["output_dir"], out)
    before = torch.load(out / "model.pt", weights_only=True)
    patients = (out / "patients.csv").read_text()
    (out / "model.pt").unlink()
    (out / "patients.csv").unlink()
    run("acdc_lv", "train", **{**trained["acdc_lv"], "output_dir": str(out), "resume": True})
    after = torch.load(out / "model.pt", weights_only=True)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert (out / "patients.csv").read_text() == patients


@pytest.mark.parametrize("bundle", ACDC)
def test_cpu_overlay_trains_and_infers(bundle: str, acdc: Path, tmp_path: Path) -> None:
    given = {"bundle_root": str(BUNDLES / bundle), "dataset_dir": str(acdc), "progress": False}
    given |= {"padded_size": [44, 44], "spatial_size": [32, 32], "trunk#features": FEATURES}
    given |= {"max_epochs": 1, "val_interval": 1}
    files = {names[0]: configs(bundle, *names) for names in (("train", "cpu", "rows/common"), ("inference", "cpu"))}
    out = str(tmp_path / "out")
    monai.bundle.run(config_file=files["train"], logging_file=False, output_dir=out, **given)  # type: ignore[arg-type]
    check_written(tmp_path / "out")
    given |= {"ckpt_path": out + "/model.pt", "output_dir": str(tmp_path / "masks")}
    monai.bundle.run(config_file=files["inference"], logging_file=False, **given)  # type: ignore[arg-type]
    assert len(list((tmp_path / "masks").rglob("*_pred.nii.gz"))) == len(PATIENTS)


@pytest.mark.parametrize(("bundle", "row"), ROWS)
def test_row_is_short_and_overrides(bundle: str, row: str) -> None:
    (path,) = configs(bundle, f"rows/{row}")
    assert len(Path(path).read_text(encoding="utf-8").splitlines()) <= 15
    parser = ConfigParser(ConfigParser.load_config_files(configs(bundle, "train")))
    for key in json.loads(Path(path).read_text(encoding="utf-8")):
        assert key in parser, f"{key} of {row} is not in train.json"


@pytest.mark.parametrize("bundle", NAMES)
def test_readme_has_every_row_and_option(bundle: str) -> None:
    text = (BUNDLES / bundle / "docs" / "README.md").read_text(encoding="utf-8")
    files = configs(bundle, "train", "evaluate", "inference")
    keys = {key for path in files for key in json.loads(Path(path).read_text(encoding="utf-8"))}
    rows = {f"rows/{row}.json" for name, row in ROWS if name == bundle}
    missing = [name for name in (keys | rows) - PARTS if f"`{name}`" not in text and not name.startswith("+")]
    assert missing == (["dataset_dir"] if bundle == "two_circles" else [])


def test_own_data_of_the_docs(acdc: Path, tmp_path: Path) -> None:
    """Scribbles and a guessed size: no full mask is read for training."""
    text = (REPOSITORY / "docs" / "own_data.md").read_text(encoding="utf-8")
    (overlay,) = (block for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL) if "size_rule" in block)
    datalist: dict[str, list[dict[str, Any]]] = {"training": [], "validation": []}
    for part, items in acdc_datalist(acdc).items():
        for item in items:
            own = {key: item[key] for key in ("case", "image", "spacing")}
            key, values = ("scribble", [0, 0, 0, 1, 255]) if part == "training" else ("label", [0, 0, 0, 1])
            data = np.array(values, np.uint8)[np.asarray(load(item[key]).dataobj)]
            datalist[part].append({**own, key: str(save(tmp_path / f"{item['case']}.nii.gz", data))})
    write_datalist(datalist, tmp_path / "list.json")
    paths = {"datalist_file": str(tmp_path / "list.json"), "output_dir": str(tmp_path / "out")}
    run("acdc_lv", "train", **{**json.loads(overlay), **paths})
    check_written(tmp_path / "out")


@pytest.mark.parametrize("bundle", NAMES)
def test_properties_and_initialize_twice(bundle: str, trained: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    train = workflow(bundle, "train", **{**trained[bundle], "output_dir": str(tmp_path)})
    train.initialize()
    train.initialize()
    assert train.check_properties() == []
    train.run()
    check_written(tmp_path)
    model = trained[bundle]["output_dir"] + "/model.pt"
    options = {**trained[bundle], "ckpt_path": model, "output_dir": str(tmp_path / "predictions")}
    infer = workflow(bundle, "inference", kind="infer", **options)
    infer.initialize()
    infer.initialize()
    assert infer.check_properties() == []


def test_multi_gpu_initialize_twice(acdc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0}
    for name, value in world.items():
        monkeypatch.setenv(name, str(value))
    train = workflow("acdc_lv", "train", "multi_gpu_train", dataset_dir=str(acdc), output_dir=str(tmp_path))
    try:
        train.initialize()
        train.initialize()
        assert torch.distributed.is_initialized()
        train.run()
    finally:
        train.finalize()
    train.finalize()
    assert not torch.distributed.is_initialized()
    check_written(tmp_path)
    assert all(not name.startswith("module.") for name in torch.load(tmp_path / "model.pt", weights_only=True))


@pytest.mark.parametrize("bundle", NAMES)
def test_metadata(bundle: str, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    shutil.copyfile(data_root(".") / "meta_schema_20240725.json", schema)
    (meta,) = configs(bundle, "metadata")
    monai.bundle.verify_metadata(meta_file=meta, filepath=schema)
    wrong = json.loads(Path(meta).read_text(encoding="utf-8"))
    del wrong["version"]
    (tmp_path / "wrong.json").write_text(json.dumps(wrong), encoding="utf-8")
    with pytest.raises(ValueError, match="version"):
        monai.bundle.verify_metadata(meta_file=str(tmp_path / "wrong.json"), filepath=schema)


@pytest.mark.parametrize("config", ["train", "inference"])
@pytest.mark.parametrize("bundle", NAMES)
def test_network_fits_metadata(bundle: str, config: str) -> None:
    (meta,) = configs(bundle, "metadata")
    files = configs(bundle, config)
    monai.bundle.verify_net_in_out(net_id="network_def", meta_file=meta, config_file=files, device="cpu", n=1)


@pytest.mark.parametrize("bundle", ACDC)
def test_inference_repeats_train(bundle: str) -> None:
    train, infer = (json.loads(Path(path).read_text()) for path in configs(bundle, "train", "inference"))
    of_image = []
    for transform in train["volume_preprocessing"]["transforms"]:
        if transform != "@volume_bounds" and "image" in transform["keys"]:
            one = {key: value for key, value in transform.items() if key != "allow_missing_keys"} | {"keys": "image"}
            of_image.append({**one, "mode": one["mode"][0]} if "mode" in one else one)
    assert infer["preprocessing"]["transforms"] == of_image
    for key in ("network_def", "network", "spatial_size", "padded_size", "dataset_dir", "device"):
        assert infer[key] == train[key], key


def test_inference_repeats_train_of_the_circles() -> None:
    train, infer = (json.loads(Path(path).read_text()) for path in configs("two_circles", "train", "inference"))
    for key in ("network_def", "network", "image_size", "radius", "device"):
        assert infer[key] == train[key], key


@pytest.mark.parametrize("bundle", NAMES)
def test_export(bundle: str, trained: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    options = {"network_def#features": settings(bundle)["network_def#features"]}
    files: dict[str, Any] = {"config_file": configs(bundle, "inference"), "meta_file": configs(bundle, "metadata")[0]}
    model, exported = trained[bundle]["output_dir"] + "/model.pt", tmp_path / "model.ts"
    monai.bundle.ckpt_export("network_def", exported, ckpt_file=model, **files, **options)
    parser = ConfigParser(ConfigParser.load_config_files(files["config_file"]))
    parser.update(options)
    network = parser.get_parsed_content("network_def").eval()
    image = torch.rand(2, 1, 32, 48)
    before = network(image)
    network.load_state_dict(torch.load(model, weights_only=True))
    assert torch.equal(torch.jit.load(exported).eval()(image), network(image))
    assert not torch.equal(before, network(image))


def test_evaluate(trained: dict[str, dict[str, Any]], acdc: Path, tmp_path: Path) -> None:
    """The same numbers as the last epoch's, without a look at the training images."""
    options = trained["acdc_lv"]
    datalist = acdc_datalist(acdc)
    datalist["training"] = [{**item, "image": "/nowhere.nii.gz"} for item in datalist["training"]]
    write_datalist(datalist, tmp_path / "list.json")
    folder = tmp_path / "evaluation"
    given = {**options, "datalist_file": str(tmp_path / "list.json"), "evaluation_dir": str(folder)}
    run("acdc_lv", "train", "evaluate", **given)
    check_evaluation(folder, Path(options["output_dir"]))
    rows = read_csv(folder / "dice_raw.csv")
    expected = [f"patient{n:03d}_frame01_slice{z:02d}" for n in (13, 14) for z in range(PATIENTS[n])]
    assert [row["filename"] for row in rows] == expected


def test_evaluate_circles(trained: dict[str, dict[str, Any]]) -> None:
    options = trained["two_circles"]
    run("two_circles", "train", "evaluate", **options)
    folder = Path(options["output_dir"]) / "evaluation"
    check_evaluation(folder, folder.parent)
    assert read_csv(folder / "dice_raw.csv")[6]["filename"] == "circles_100006"
    shutil.rmtree(folder)


def check_evaluation(folder: Path, output_dir: Path) -> None:
    metrics = dict(line.split(",") for line in (folder / "metrics.csv").read_text().splitlines())
    (last,) = read_csv(output_dir / "metrics.csv")
    for name in ("dice", "size_satisfied", "size_violation"):
        assert float(metrics[name]) == pytest.approx(float(last[f"val_{name}"]), rel=1e-5), name
    dice = [float(row["mean"]) for row in read_csv(folder / "dice_raw.csv")]
    assert np.mean(dice) == pytest.approx(float(metrics["dice"]), rel=1e-5)
    check_patients(folder / "patients.csv", float(metrics["dice"]))
    for name in ("patients.csv", "predictions.npz"):
        assert (folder / name).stat().st_size == (output_dir / name).stat().st_size, name
    assert (folder / "examples.png").stat().st_size > 1000 and (folder / "dice_summary.csv").is_file()


def test_inference(tmp_path: Path, acdc: Path) -> None:
    """A network that thresholds the image finds the bright disc, on the grid of the file."""
    affine = np.array([[0.0, -1.5, 0.0, 7.0], [1.25, 0.0, 0.4, -3.0], [0.0, 0.0, 8.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(acdc, data)
    image = data / "patient001" / "patient001_frame01.nii.gz"
    save(image, np.asarray(load(image).dataobj), affine)
    weights = {"weight": torch.tensor([0.0, 20.0]).reshape(2, 1, 1, 1), "bias": torch.tensor([0.0, -16.0])}
    torch.save(weights, tmp_path / "model.pt")
    network = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 1}
    parser = ConfigParser(ConfigParser.load_config_files(configs("acdc_lv", "inference")))
    given = {"dataset_dir": str(data), "output_dir": str(out), "ckpt_path": str(tmp_path / "model.pt")}
    parser.update({**given, "padded_size": [44, 44], "spatial_size": [44, 44], "progress": False})
    parser["network_def"] = network
    infer = ConfigWorkflow(configs("acdc_lv", "inference"), logging_file=False, workflow_type="infer")
    infer.parser = parser
    infer.initialize()
    infer.run()
    assert len(list(out.rglob("*.nii.gz"))) == len(PATIENTS)
    for number, depth in PATIENTS.items():
        case = f"patient{number:03d}/patient{number:03d}_frame01"
        mask, label = load(out / f"{case}_pred.nii.gz"), load(data / f"{case}_gt.nii.gz")
        assert mask.shape == (*SHAPE, depth) and mask.get_data_dtype() == np.uint8
        np.testing.assert_allclose(mask.affine, affine if number == 1 else AFFINE, atol=1e-6)
        predicted, true = np.asarray(mask.dataobj) == 1, np.asarray(label.dataobj) == 3
        assert 2 * (predicted & true).sum() / (predicted.sum() + true.sum()) > 0.95


def test_inference_after_training(trained: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    for bundle in NAMES:
        model = trained[bundle]["output_dir"] + "/model.pt"
        run(bundle, "inference", **{**trained[bundle], "ckpt_path": model, "output_dir": str(tmp_path / bundle)})
    assert all(len(list((tmp_path / bundle).rglob("*_pred.nii.gz"))) == len(PATIENTS) for bundle in ACDC)
    names = sorted(path.name for path in (tmp_path / "two_circles").iterdir())
    assert names == [f"circles_{200000 + i}_pred.png" for i in range(10)]


@pytest.mark.parametrize("bundle", NAMES)
@pytest.mark.parametrize("names", [("train", "evaluate"), ("inference",)])
def test_missing_model(bundle: str, names: tuple[str, ...], acdc: Path, tmp_path: Path) -> None:
    folder = str(tmp_path)
    text = failure(bundle, *names, dataset_dir=str(acdc), output_dir=folder, ckpt_path=folder + "/model.pt")
    assert f"no trained model at {folder}/model.pt; train first" in text


def test_inference_without_images(trained: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    given = {"dataset_dir": str(tmp_path), "output_dir": str(tmp_path / "out")}
    model = trained["acdc_lv"]["output_dir"] + "/model.pt"
    assert "the datalist is empty" in failure("acdc_lv", "inference", ckpt_path=model, **given)


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
