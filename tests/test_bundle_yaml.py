"""The bundles in YAML as their users and MONAI's tools drive them, on miniature data."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from bundle_data import BUNDLES, PATIENTS, make_acdc, read_csv, save
from conftest import data_root
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.data import MetaTensor

from monai_constraints.data.datasets.acdc import acdc_datalist

BUNDLE = BUNDLES / "acdc_lv"
CONFIGS = BUNDLE / "configs"
TINY: dict[str, Any] = {
    "bundle_root": str(BUNDLE), "padded_size": [48, 48], "spatial_size": [32, 32], "trunk#features": [4, 4, 8, 8, 8, 4],
    "max_epochs": 1, "val_interval": 1, "progress": False, "device": "cpu",
}  # fmt: skip
RULER = "# ==== below this line"
ROWS = sorted(path.stem for path in (CONFIGS / "rows").glob("*.yaml"))
BEFORE = {"common": ["tags"], "thesis_tags": ["thesis_individual"], "thesis_common": ["thesis_individual"]}
WRITTEN = {"metrics.csv", "curves.png", "examples.png", "model.pt", "checkpoint.pt", "tensorboard", "patients.csv"}
WRITTEN |= {"predictions.npz", "config.yaml", "evaluate.yaml", "inference.yaml", "metadata.json", "logging.conf"}

pytestmark = [
    pytest.mark.filterwarnings("ignore:parsing config_file"),
    pytest.mark.filterwarnings("ignore:No hash value provided"),
]


@pytest.fixture(scope="module")
def acdc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_acdc(tmp_path_factory.mktemp("acdc"))


@pytest.fixture(scope="module")
def trained(acdc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    train(acdc, out)
    return out


def run(*files: str | Path, **options: Any) -> None:
    names = [str(file) for file in files]
    monai.bundle.run(config_file=names, logging_file=False, **options)  # type: ignore[arg-type]


def train(acdc: Path, out: Path, *rows: str, **options: Any) -> None:
    files = [CONFIGS / "train.yaml", *(CONFIGS / "rows" / f"{row}.yaml" for row in rows)]
    run(*files, **{**TINY, "dataset_dir": str(acdc), "output_dir": str(out), **options})


def cases(acdc: Path) -> dict[str, list[dict[str, Any]]]:
    return acdc_datalist(acdc)


def messages(error: BaseException | None) -> str:
    """All that is said, since MONAI wraps errors of a configuration."""
    return "" if error is None else f"{error}\n{messages(error.__cause__)}"


def test_a_run_says_what_it_was(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} == WRITTEN
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["gpu"] is False and config["batch_size"] == 4 and config["trunk"]["features"] == [4, 4, 8, 8, 8, 4]
    assert config["output_dir"] == str(trained) and os.path.isabs(config["dataset_dir"])
    (row,) = read_csv(trained / "metrics.csv")
    assert np.isfinite(float(row["loss"])) and 0 <= float(row["val_dice"]) <= 1
    assert {row["case"] for row in read_csv(trained / "patients.csv")} == {"patient013_frame01", "patient014_frame01"}


def test_evaluation_needs_only_the_run(
    trained: Path, acdc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(trained / "evaluate.yaml", evaluation_dir=str(tmp_path / "a"), progress=False)
    assert {row["case"] for row in read_csv(tmp_path / "a" / "patients.csv")} == {
        "patient013_frame01", "patient014_frame01",
    }  # fmt: skip
    run(trained / "evaluate.yaml", evaluation_dir=str(tmp_path / "b"), cases_dir=str(acdc), progress=False)
    rows = read_csv(tmp_path / "b" / "patients.csv")
    assert {row["case"]: int(row["slices"]) for row in rows} == {
        f"patient{n:03d}_frame01": depth for n, depth in PATIENTS.items()
    }
    (tmp_path / "list.json").write_text(json.dumps({"mine": cases(acdc)["training"][:1]}))
    given = {"datalist_file": str(tmp_path / "list.json"), "datalist_key": "mine"}
    run(trained / "evaluate.yaml", evaluation_dir=str(tmp_path / "c"), progress=False, **given)
    assert [row["case"] for row in read_csv(tmp_path / "c" / "patients.csv")] == ["patient001_frame01"]
    with pytest.raises(RuntimeError) as error:
        run(trained / "evaluate.yaml", evaluation_dir=str(tmp_path / "d"), **{"trunk#features": [8] * 6})
    assert "is of another network" in messages(error.value)


@pytest.fixture
def threshold(trained: Path, tmp_path: Path) -> Path:
    """A run whose network finds what is bright."""
    folder = tmp_path / "bright"
    folder.mkdir()
    for name in ("config.yaml", "evaluate.yaml", "inference.yaml"):
        config = yaml.safe_load((trained / name).read_text())
        size = {"padded_size": [44, 44], "spatial_size": [44, 44]} if name != "inference.yaml" else {}
        conv = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 1}
        config |= {**size, "output_dir": str(folder / "out")}
        trained_net = {"network_def": conv, "ckpt_path": str(folder / "model.pt")}
        config |= {"run_dir": str(folder)} if name == "inference.yaml" else trained_net
        (folder / name).write_text(yaml.safe_dump(config))
    kernel = torch.zeros(2, 1, 1, 1)
    kernel[1] = 20
    torch.save({"weight": kernel, "bias": torch.tensor([0.0, -16.0])}, folder / "model.pt")
    return folder


AFFINES = {
    "sagittal": [[0.0, 0.0, 8.0, 5.0], [1.25, 0.0, 0.0, -3.0], [0.0, -1.5, 0.0, 7.0], [0.0, 0.0, 0.0, 1.0]],
    "coronal": [[1.25, 0.0, 0.0, 5.0], [0.0, 0.0, 8.0, -3.0], [0.0, 1.5, 0.0, 7.0], [0.0, 0.0, 0.0, 1.0]],
    "sheared": [[0.0, -1.5, 0.0, 7.0], [1.25, 0.0, 0.4, -3.0], [0.0, 0.0, 8.0, 5.0], [0.0, 0.0, 0.0, 1.0]],
}


def test_masks_have_the_shape_and_the_affine_of_their_image(threshold: Path, acdc: Path, tmp_path: Path) -> None:
    image = np.asarray(nib.load(cases(acdc)["training"][0]["image"]).dataobj)  # type: ignore[attr-defined]
    images = {f"{name}.nii": (image, np.array(affine)) for name, affine in AFFINES.items()}
    images |= {
        "sub/one.nii.gz": (image[..., :1], np.eye(4)), "four.nii.gz": (image[..., None], np.eye(4)),
        "flat.nii.gz": (image[..., 0], np.eye(4)),
    }  # fmt: skip
    for name, (data, affine) in images.items():
        save(tmp_path / "in" / name, data, affine)
    given = {"dataset_dir": str(tmp_path / "in"), "output_dir": str(tmp_path / "masks"), "progress": False}
    run(threshold / "inference.yaml", **given)
    written = sorted(str(path.relative_to(tmp_path / "masks")) for path in (tmp_path / "masks").rglob("*.nii.gz"))
    assert written == sorted(name.split(".")[0] + "_pred.nii.gz" for name in images)
    for name, (data, affine) in images.items():
        mask: Any = nib.load(tmp_path / "masks" / (name.split(".")[0] + "_pred.nii.gz"))
        assert mask.shape == data.shape and mask.get_data_dtype() == np.uint8
        np.testing.assert_allclose(mask.affine, affine, atol=1e-6)
        assert np.asarray(mask.dataobj).any()


def test_images_in_memory(threshold: Path, tmp_path: Path) -> None:
    image = torch.zeros(1, 40, 48, 3)
    image[:, 10:20, 12:24] = 100
    volume = MetaTensor(image, affine=torch.as_tensor(AFFINES["sheared"]))
    parser = ConfigParser(ConfigParser.load_config_file(str(threshold / "inference.yaml")))
    parser.update({"output_dir": str(tmp_path / "masks"), "progress": False, "cases": [{"image": volume, "case": "a"}]})
    parser.get_parsed_content("evaluator").run()
    mask: Any = nib.load(tmp_path / "masks" / "a_pred.nii.gz")
    assert np.array_equal(np.asarray(mask.dataobj), (image[0] > 0).numpy())
    np.testing.assert_allclose(mask.affine, AFFINES["sheared"], atol=1e-6)


def test_measured_on_the_grid_of_the_file(threshold: Path, acdc: Path, tmp_path: Path) -> None:
    """What the network finds is what is bright in the file; one axis is padded for it and the other cropped."""
    run(threshold / "evaluate.yaml", evaluation_dir=str(tmp_path), progress=False, views=False)
    for row in read_csv(tmp_path / "patients.csv"):
        item = next(item for item in cases(acdc)["validation"] if item["case"] == row["case"])
        label = np.asarray(nib.load(item["label"]).dataobj) == 3  # type: ignore[attr-defined]
        assert np.load(tmp_path / "predictions.npz")[f"label/{row['case']}"].shape == label.shape[:2]
        assert float(row["dice"]) > 0.95


@pytest.mark.parametrize("row", [row for row in ROWS if row != "scribbles"])
def test_row(row: str, acdc: Path, tmp_path: Path) -> None:
    path = CONFIGS / "rows" / f"{row}.yaml"
    text = path.read_text()
    assert len(text.splitlines()) <= 15 and text.startswith("# ") and "Identityd" not in text
    rows = [*BEFORE.get(row, []), row]
    given = {**{key: TINY[key] for key in ("padded_size", "spatial_size", "max_epochs")}, "full_count": 1}
    given = given if row == "hybrid" else {key: value for key, value in given.items() if key != "full_count"}
    train(acdc, tmp_path / "out", *rows, **given)
    assert {path.name for path in (tmp_path / "out").iterdir()} == WRITTEN
    assert np.isfinite(float(read_csv(tmp_path / "out" / "metrics.csv")[0]["loss"]))


def test_scribbles_need_no_full_mask(acdc: Path, tmp_path: Path) -> None:
    datalist = cases(acdc)
    for item in datalist["training"]:
        del item["label"]
    (tmp_path / "list.json").write_text(json.dumps(datalist))
    train(acdc, tmp_path / "out", "scribbles", datalist_file=str(tmp_path / "list.json"))
    assert {path.name for path in (tmp_path / "out").iterdir()} == WRITTEN


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (["full", "tags"], "tags does not go with full: it has no bounds"),
        (["common"], "common goes after tags"),
        (["tags", "tags"], "tags is given twice"),
    ],
)
def test_rows_that_do_not_go_together(rows: list[str], reason: str, acdc: Path, tmp_path: Path) -> None:
    with pytest.raises((RuntimeError, KeyError, ValueError)) as error:
        train(acdc, tmp_path / "out", *rows)
    assert reason in messages(error.value)
    assert not (tmp_path / "out").exists()


def test_driven_as_by_monai_label(acdc: Path, tmp_path: Path) -> None:
    """Its overrides: no dataset_dir, paths in the data, a loader first among the handlers, another device string."""
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLE, bundle)
    parts = cases(acdc)
    given = [{key: item[key] for key in ("image", "label")} for item in [*parts["training"], *parts["validation"]]]
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "train.yaml"))
    model = bundle / "models" / "model.pt"
    for _ in range(2):  # the second goes on from the weights of the first
        load = {"_target_": "CheckpointLoader", "load_path": str(model), "load_dict": {"model": "$@network"},
                "_disabled_": not model.is_file(), "map_location": "cpu"}  # fmt: skip
        handlers = [load, *parser.get("train#handlers")]
        tiny = {key: value for key, value in TINY.items() if key not in ("bundle_root", "max_epochs")}
        run(bundle / "configs" / "train.yaml", run_id="run", **{
            **tiny, "bundle_root": str(bundle), "train#trainer#max_epochs": 1, "train#dataset#data": given[:3],
            "validate#dataset#data": given[3:], "train#handlers": handlers,
        })  # fmt: skip
        assert model.is_file()
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.yaml"))
    parser.update({"bundle_root": str(bundle)})
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(model, weights_only=True))
    sample = parser.get_parsed_content("preprocessing")({"image": given[0]["image"]})
    assert sample["image"].shape == (1, 32, 32, 4)
    assert parser.get_parsed_content("inferer")(sample["image"][None], network.eval()).shape == (1, 2, 32, 32, 4)


@pytest.mark.parametrize(("config", "kind"), [("train", "train"), ("inference", "infer")])
def test_properties_and_initialize_twice(config: str, kind: str, trained: Path, acdc: Path, tmp_path: Path) -> None:
    given = TINY if config == "train" else {"bundle_root": str(BUNDLE), "run_dir": str(trained)}
    files = [str(CONFIGS / f"{config}.yaml")]
    options = {**given, "dataset_dir": str(acdc), "output_dir": str(tmp_path)}
    workflow = ConfigWorkflow(files, logging_file=False, workflow_type=kind, **options)
    workflow.initialize()
    workflow.initialize()
    assert workflow.check_properties() == []


def test_metadata(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    shutil.copyfile(data_root(".") / "meta_schema_20240725.json", schema)
    monai.bundle.verify_metadata(meta_file=str(CONFIGS / "metadata.json"), filepath=schema)
    for config in ("train", "inference"):
        given: Any = {"meta_file": str(CONFIGS / "metadata.json"), "config_file": str(CONFIGS / f"{config}.yaml")}
        monai.bundle.verify_net_in_out(net_id="network_def", device="cpu", n=1, bundle_root=str(BUNDLE), **given)
    assert json.loads((CONFIGS / "metadata.json").read_text())["name"]


@pytest.mark.parametrize("path", sorted(BUNDLES.glob("*/configs/train.yaml")), ids=lambda path: path.parts[-3])
def test_plumbing_is_the_same_everywhere(path: Path) -> None:
    task, plumbing = path.read_text().split(RULER)
    assert RULER + plumbing == (BUNDLES / "plumbing.yaml").read_text()
    assert len(task.splitlines()) <= 120
