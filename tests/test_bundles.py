from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import monai.bundle
import monai.utils
import numpy as np
import pytest
import torch
from bundle_data import (
    BUNDLES,
    CASES,
    DATALISTS,
    MAKE,
    NAMES,
    TINY_CPU,
    VOLUMES,
    configs,
    load,
    read_csv,
    read_volume,
    run,
    save,
    settings,
)
from conftest import REPOSITORY, data_root
from monai.bundle import ConfigParser, ConfigWorkflow

from monai_constraints.data import write_datalist
from monai_constraints.data.datasets.acdc import acdc_datalist

ROW_OPTIONS: dict[str, dict[str, Any]] = {
    "enet": {"network_def#features": 4},
    "residual_unet": {
        **dict.fromkeys(["network_def#init_filters", "network_def#blocks_down", "network_def#blocks_up"]),
        **{"network_def#channels": [4, 8, 8], "network_def#strides": [2, 2]},
    },
}
WRITTEN = {"metrics.csv", "curves.png", "examples.png", "model.pt", "checkpoint.pt", "tensorboard"}
WRITTEN |= {"patients.csv", "predictions.npz"}
ROWS = [(bundle, path.stem) for bundle in NAMES for path in sorted((BUNDLES / bundle / "configs/rows").glob("*.json"))]

# Keys that are parts of the workflow, not options that a user sets one by one.
PARTS = {
    *("checkpoint", "dataloader", "datalist", "dataset", "distributed", "evaluator", "handlers", "imports", "inferer"),
    *("initialize", "loss", "lr_scheduler", "network", "optimizer", "postprocessing", "preprocessing", "run", "train"),
    *("validate", "volume_preprocessing"),
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:parsing config_file"),
    pytest.mark.filterwarnings("ignore:No hash value provided"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The option that says where the data are, for each bundle."""
    made = {name: {"dataset_dir": str(make(tmp_path_factory.mktemp(name)))} for name, make in MAKE.items()}
    return {name: made.get(name, {}) for name in NAMES}


@pytest.fixture(scope="module")
def acdc(folders: dict[str, dict[str, Any]]) -> Path:
    return Path(folders["acdc_lv"]["dataset_dir"])


@pytest.fixture(scope="module")
def trained(folders: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Options of a training of one epoch, for each bundle."""
    # One epoch has to leave another network than there was before.
    given = {name: {**folder, "learning_rate": 0.05} for name, folder in folders.items()}
    options = {name: {**given[name], "output_dir": str(tmp_path_factory.mktemp(name))} for name in NAMES}
    for name in NAMES:
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
    if not rows[0]["case"].startswith("circles"):
        cases = next(cases for cases in CASES.values() if rows[0]["case"] in cases)
        assert {row["case"]: int(row["slices"]) for row in rows} == cases
        assert all(float(row["hd95"]) >= 0 for row in rows)


@pytest.mark.parametrize("bundle", NAMES)
def test_train_alone(bundle: str, trained: dict[str, dict[str, Any]]) -> None:
    check_written(Path(trained[bundle]["output_dir"]))


@pytest.mark.parametrize(("bundle", "row"), ROWS)
def test_row_trains_and_evaluates(
    bundle: str, row: str, folders: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    options = {**folders[bundle], **ROW_OPTIONS.get(row, {}), "output_dir": str(tmp_path / "out")}
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


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """What the optimiser changes; the statistics of batch norm follow the images without it."""
    found = torch.load(folder / "model.pt", weights_only=True)
    return {name: value for name, value in found.items() if "running_" not in name and "num_batches" not in name}


@pytest.mark.parametrize("bundle", NAMES)
def test_initial_weights(bundle: str, trained: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """An epoch that learns nothing ends with the weights that it began with."""
    before = Path(trained[bundle]["output_dir"])
    options = {**trained[bundle], "output_dir": str(tmp_path), "learning_rate": 0.0, "seed": 1}
    run(bundle, "train", **options, initial_weights=str(before / "model.pt"))
    after, expected = weights(tmp_path), weights(before)
    assert after.keys() == expected.keys() and all(torch.equal(after[name], expected[name]) for name in after)
    check_written(tmp_path)


def test_resume_is_stronger_than_initial_weights(trained: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    given = {**trained["acdc_lv"], "initial_weights": trained["acdc_lv"]["output_dir"] + "/model.pt"}
    options = {**given, "output_dir": str(tmp_path), "seed": 1, "resume": True}
    run("acdc_lv", "train", **options)
    after, before = weights(tmp_path), weights(Path(trained["acdc_lv"]["output_dir"]))
    assert not all(torch.equal(after[name], before[name]) for name in after)
    (tmp_path / "model.pt").unlink()
    run("acdc_lv", "train", **options)
    again = weights(tmp_path)
    assert all(torch.equal(again[name], after[name]) for name in after)


PROTOCOLS = [
    (bundle, name) for bundle in sorted(TINY_CPU) for name in ("cpu", "gpu")
    if (BUNDLES / bundle / "configs" / f"{name}.json").is_file()
]  # fmt: skip


@pytest.mark.parametrize(("bundle", "protocol"), PROTOCOLS)
def test_protocol_trains_and_infers(
    bundle: str, protocol: str, folders: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    given = {"bundle_root": str(BUNDLES / bundle), **folders[bundle], **TINY_CPU[bundle], "progress": False}
    given |= {"max_epochs": 1, "val_interval": 1}
    row = "rows/ce_boundary" if (BUNDLES / bundle / "configs/rows/ce_boundary.json").is_file() else "rows/common"
    files = {names[0]: configs(bundle, *names) for names in (("train", protocol, row), ("inference", protocol))}
    out = str(tmp_path / "out")
    monai.bundle.run(config_file=files["train"], logging_file=False, output_dir=out, **given)  # type: ignore[arg-type]
    check_written(tmp_path / "out")
    given |= {"ckpt_path": out + "/model.pt", "output_dir": str(tmp_path / "masks")}
    monai.bundle.run(config_file=files["inference"], logging_file=False, **given)  # type: ignore[arg-type]
    assert len(masks(tmp_path / "masks")) == len(VOLUMES[bundle])


def masks(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*_pred.*") if path.suffix in (".gz", ".mhd"))


@pytest.mark.parametrize(("bundle", "row"), ROWS)
def test_row_is_short_and_overrides(bundle: str, row: str) -> None:
    (path,) = configs(bundle, f"rows/{row}")
    assert len(Path(path).read_text(encoding="utf-8").splitlines()) <= 15
    parser = ConfigParser(ConfigParser.load_config_files(configs(bundle, "train")))
    for key in json.loads(Path(path).read_text(encoding="utf-8")):
        assert key.removeprefix("+") in parser, f"{key} of {row} is not in train.json"


@pytest.mark.parametrize("bundle", NAMES)
def test_readme_has_every_row_and_option(bundle: str) -> None:
    text = (BUNDLES / bundle / "docs" / "README.md").read_text(encoding="utf-8")
    files = configs(bundle, "train", "evaluate", "inference")
    keys = {key.split("#")[0] for path in files for key in json.loads(Path(path).read_text(encoding="utf-8"))}
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


@pytest.mark.parametrize("bundle", sorted(MAKE))
def test_multi_gpu_initialize_twice(
    bundle: str, folders: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0}
    for name, value in world.items():
        monkeypatch.setenv(name, str(value))
    train = workflow(bundle, "train", "multi_gpu_train", **folders[bundle], output_dir=str(tmp_path))
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


@pytest.mark.parametrize("bundle", ["acdc"])
def test_resumed_training_ends_at_the_same_weights(
    bundle: str, folders: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """Augmentation and order of the second epoch included; acdc_lv is killed for real in test_bundle_processes."""
    given = {**folders[bundle], "lr_scheduler#T_max": 2}
    run(bundle, "train", **given, output_dir=str(tmp_path / "whole"), max_epochs=2)
    run(bundle, "train", **given, output_dir=str(tmp_path / "broken"), max_epochs=1)
    run(bundle, "train", **given, output_dir=str(tmp_path / "broken"), max_epochs=2, resume=True)
    whole, broken = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


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


@pytest.mark.parametrize("bundle", sorted(MAKE))
def test_inference_repeats_train(bundle: str) -> None:
    names = ("train", "evaluate", "inference")
    train, evaluate, infer = (json.loads(Path(path).read_text()) for path in configs(bundle, *names))
    of_image = []
    for transform in train["volume_preprocessing"]["transforms"]:
        if transform != "@volume_bounds" and "image" in transform.get("keys", []):
            one = {key: value for key, value in transform.items() if key != "allow_missing_keys"} | {"keys": "image"}
            of_image.append({**one, "mode": one["mode"][0]} if "mode" in one else one)
    assert infer["preprocessing"]["transforms"] == of_image and len(of_image) >= 3
    for key in ("network_def", "spatial_size", "padded_size", "slice_axis", "dataset_dir", "device"):
        assert infer.get(key) == train.get(key), key
    assert infer["network"] == evaluate["validate#evaluator#network"]


@pytest.mark.parametrize("bundle", sorted(MAKE))
def test_volumes_are_read_once(bundle: str, folders: dict[str, dict[str, Any]]) -> None:
    """A Compose within a Compose counts as random in MONAI: everything would be loaded again for each slice."""
    parser = ConfigParser(ConfigParser.load_config_files(configs(bundle, "train")))
    parser.update({**settings(bundle), **folders[bundle]})
    for part in ("train", "validate"):
        volumes = parser.get_parsed_content(f"{part}#volumes")
        assert volumes[0]["image"] is volumes[0]["image"], part


@pytest.mark.parametrize("bundle", ["acdc", "acdc_lv"])
def test_prepared_slices_stay_on_the_device(bundle: str, folders: dict[str, dict[str, Any]]) -> None:
    parser = ConfigParser(ConfigParser.load_config_files(configs(bundle, "train")))
    parser.update({**settings(bundle), **folders[bundle], "data_device": "meta"})
    for part, target in {"train": "weak", "validate": "label"}.items():
        batch = next(iter(parser.get_parsed_content(f"{part}#dataloader")))
        assert {batch[key].device.type for key in ("image", target, "size_bounds")} == {"meta"}, part


def test_inference_repeats_train_on_circles() -> None:
    names = ("train", "evaluate", "inference")
    train, evaluate, infer = (json.loads(Path(path).read_text()) for path in configs("two_circles", *names))
    for key in ("network_def", "image_size", "radius", "device"):
        assert infer[key] == train[key], key
    assert infer["network"] == evaluate["validate#evaluator#network"]


@pytest.mark.parametrize("bundle", NAMES)
def test_export(bundle: str, trained: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    options = {key: value for key, value in settings(bundle).items() if key.startswith("network_def#")}
    files: dict[str, Any] = {"config_file": configs(bundle, "inference"), "meta_file": configs(bundle, "metadata")[0]}
    model, exported = trained[bundle]["output_dir"] + "/model.pt", tmp_path / "model.ts"
    monai.bundle.ckpt_export("network_def", exported, ckpt_file=model, **files, **options)
    parser = ConfigParser(ConfigParser.load_config_files(files["config_file"]))
    parser.update(options)
    network = parser.get_parsed_content("network_def").eval()
    image = torch.rand(2, int(parser.get_parsed_content("network_def::in_channels", default=1)), 32, 48)
    before = network(image)
    network.load_state_dict(torch.load(model, weights_only=True))
    assert torch.equal(torch.jit.load(exported).eval()(image), network(image))
    assert not torch.equal(before, network(image))


@pytest.mark.parametrize("bundle", sorted(MAKE))
def test_evaluate(bundle: str, trained: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """The same numbers as the last epoch's, without a look at the training images."""
    options = trained[bundle]
    datalist = DATALISTS[bundle](options["dataset_dir"])
    datalist["training"] = [{**item, "image": "/nowhere.nii.gz"} for item in datalist["training"]]
    write_datalist(datalist, tmp_path / "list.json")
    folder = tmp_path / "evaluation"
    given = {**options, "datalist_file": str(tmp_path / "list.json"), "evaluation_dir": str(folder)}
    run(bundle, "train", "evaluate", **given)
    check_evaluation(folder, Path(options["output_dir"]))
    rows = read_csv(folder / "dice_raw.csv")
    expected = [f"{case}_slice{z:02d}" for case, depth in CASES[bundle].items() for z in range(depth)]
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
        if name != "dice" and f"val_{name}" not in last:  # a bundle without a constraint on the size
            continue
        assert float(metrics[name]) == pytest.approx(float(last[f"val_{name}"]), rel=1e-5), name
    dice = [float(row["mean"]) for row in read_csv(folder / "dice_raw.csv")]
    assert np.mean(dice) == pytest.approx(float(metrics["dice"]), rel=1e-5)
    check_patients(folder / "patients.csv", float(metrics["dice"]))
    for name in ("patients.csv", "predictions.npz"):
        assert (folder / name).stat().st_size == (output_dir / name).stat().st_size, name
    assert (folder / "examples.png").stat().st_size > 1000 and (folder / "dice_summary.csv").is_file()


@pytest.mark.parametrize("bundle", sorted(MAKE))
def test_inference(bundle: str, folders: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """A network that thresholds the first channel finds the bright structure, on the grid of the file."""
    classes = {"acdc": [3], "acdc_lv": [3]}.get(bundle, [1])
    affine = np.array([[0.0, -1.5, 0.0, 7.0], [1.25, 0.0, 0.4, -3.0], [0.0, 0.0, 8.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(folders[bundle]["dataset_dir"], data)
    items = {item["case"]: item for part in DATALISTS[bundle](data).values() for item in part}
    images = {case: [Path(path) for path in monai.utils.ensure_tuple(item["image"])] for case, item in items.items()}
    for oblique in images[next(iter(VOLUMES[bundle]))]:
        if oblique.suffix != ".mhd":
            # A copy, as an uncompressed file is read where it lies.
            save(oblique, np.asarray(load(oblique).dataobj).copy(), affine)
    parser = ConfigParser(ConfigParser.load_config_files(configs(bundle, "inference")))
    channels = len(next(iter(images.values())))
    kernel = torch.zeros(2, channels, 1, 1)
    kernel[1, 0] = 20
    torch.save({"weight": kernel, "bias": torch.tensor([0.0, -16.0])}, tmp_path / "model.pt")
    network = {"_target_": "torch.nn.Conv2d", "in_channels": channels, "out_channels": 2, "kernel_size": 1}
    given = {"dataset_dir": str(data), "output_dir": str(out), "ckpt_path": str(tmp_path / "model.pt")}
    # Cropped and padded, where the bundle does that.
    size = [44, 44] if "padded_size" in parser else [48, 40]
    grid: dict[str, Any] = {key: size for key in ("padded_size", "spatial_size") if key in parser}
    if "voxel_size" in parser:
        grid = {"voxel_size": 1.1, "padded_size": [72, 72], "spatial_size": [72, 72]}
    parser.update({**given, **grid, "progress": False})
    parser["network_def"] = network
    infer = ConfigWorkflow(configs(bundle, "inference"), logging_file=False, workflow_type="infer")
    infer.parser = parser
    infer.initialize()
    infer.run()
    assert len(masks(out)) == len(VOLUMES[bundle])
    for case, item in items.items():
        image = images[case][0]
        stem, suffix = image.name.split(".nii")[0].removesuffix(".mhd"), ".mhd" if image.suffix == ".mhd" else ".nii.gz"
        path = (out / image.relative_to(data)).with_name(f"{stem}_pred{suffix}")
        mask, found = read_volume(path)
        truth, _ = read_volume(Path(item["label"]))
        assert mask.shape == truth.shape
        assert mask.dtype == np.uint8 or "ElementType = MET_UCHAR" in path.read_text()
        np.testing.assert_allclose(found, read_volume(image)[1], atol=1e-6)
        predicted, true = mask == 1, np.isin(truth, classes)
        assert not true.any() or 2 * (predicted & true).sum() / (predicted.sum() + true.sum()) > 0.95


def test_inference_after_training(trained: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    for bundle in NAMES:
        model = trained[bundle]["output_dir"] + "/model.pt"
        run(bundle, "inference", **{**trained[bundle], "ckpt_path": model, "output_dir": str(tmp_path / bundle)})
    assert all(len(masks(tmp_path / bundle)) == len(volumes) for bundle, volumes in VOLUMES.items())
    names = sorted(path.name for path in (tmp_path / "two_circles").iterdir())
    assert names == [f"circles_{200000 + i}_pred.png" for i in range(10)]


def test_an_augmented_volume_keeps_its_size(acdc: Path) -> None:
    """Slices that were scaled one by one would disagree on the size of their volume."""
    files = configs("acdc_lv", "train", "rows/augmented", "rows/individual_3d")
    parser = ConfigParser(ConfigParser.load_config_files(files))
    parser.update({**settings("acdc_lv"), "dataset_dir": str(acdc)})
    batch = next(iter(parser.get_parsed_content("train#dataloader")))
    _, targets = parser.get_parsed_content("train#trainer#prepare_batch")(batch)
    assert torch.equal(targets["size_bounds"], batch["size_bounds"]) and not torch.equal(targets["weak"], batch["weak"])
