"""The bundles in YAML driven by MONAI itself: a workflow from Python, federated learning, export, several processes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from bundle_data import read_csv, read_volume, save
from conftest import data_root
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, ModelType
from monai.fl.utils.exchange_object import ExchangeObject
from monai.transforms import LoadImage
from shrunk import WITH_FILES, four_cases, make, shrunk

pytestmark = [
    pytest.mark.filterwarnings("ignore:parsing config_file"),
    pytest.mark.filterwarnings("ignore:No hash value provided"),
    pytest.mark.filterwarnings("ignore:.*executing it runs"),
    pytest.mark.parametrize("bundle", WITH_FILES),
]


def written(folder: Path) -> Any:
    """What the run says that it was."""
    return yaml.safe_load((folder / "config.yaml").read_text())


@pytest.fixture
def data(bundle: str, tmp_path: Path) -> str:
    return str(make(bundle, tmp_path / "data"))


def test_workflow_from_python(bundle: str, data: str, tmp_path: Path) -> None:
    """Initialised twice, as programs do; a property that is set in between holds, and stands in the run's record."""
    configs = shrunk(bundle, tmp_path / bundle) / "configs"
    files, out = [str(configs / "train.yaml")], tmp_path / "out"
    given = {"bundle_root": str(tmp_path / bundle), "dataset_dir": data, "output_dir": str(out)}
    workflow = ConfigWorkflow(files, logging_file=False, workflow_type="train", **given)
    workflow.initialize()
    workflow.max_epochs = 1
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    workflow.finalize()
    assert workflow.trainer.state.epoch == 1 and workflow.evaluator.state.metrics["dice"] >= 0
    assert isinstance(workflow.train_dataset_data, list) and workflow.version
    assert len(read_csv(out / "metrics.csv")) == 1 and written(out)["train"]["trainer"]["max_epochs"] == 1

    # What the model zoo asks of a bundle, and its export of these weights.
    meta = {"meta_file": str(configs / "metadata.json"), "bundle_root": str(tmp_path / bundle)}
    schema = data_root(".") / "meta_schema_20240725.json"
    if not schema.is_file():
        pytest.skip(f"no {schema}; put the schema of the model zoo there to verify metadata.json")
    shutil.copyfile(schema, tmp_path / "schema.json")
    monai.bundle.verify_metadata(meta_file=meta["meta_file"], filepath=tmp_path / "schema.json")
    for name in ("train", "inference"):
        config: Any = str(configs / f"{name}.yaml")
        monai.bundle.verify_net_in_out("network_def", config_file=config, device="cpu", n=1, **meta)
    found = {"filepath": tmp_path / "model.ts", "ckpt_file": str(out / "model.pt"), "config_file": files[0]}
    monai.bundle.ckpt_export("network_def", **meta, **found)  # type: ignore[arg-type]
    shape = [1, written(out)["image_channels"], *written(out)["spatial_size"]]
    network = workflow.network_def.eval()
    with torch.no_grad():
        exported = torch.jit.load(tmp_path / "model.ts").eval()(torch.ones(shape))
        torch.testing.assert_close(exported, network(torch.ones(shape)), rtol=1e-4, atol=1e-5)


def test_as_monai_label_reads_it(bundle: str, tmp_path: Path) -> None:
    """What its tasks look at, where it is not installed; tests/test_monai_label.py runs them."""
    root = shrunk(bundle, tmp_path / bundle)
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "train.yaml"))
    shown = parser.get_parsed_content("displayable_configs", instantiate=True)
    assert {"max_epochs", "learning_rate", "batch_size"} <= shown.keys()
    assert all(isinstance(value, (bool, int, float, str)) for value in shown.values())
    # With a handler of this very name it would leave its own out, and every training would start afresh.
    assert "CheckpointLoader" not in [handler["_target_"] for handler in parser["train#handlers"]]
    ends = json.loads((root / "configs" / "metadata.json").read_text())["network_data_format"]
    assert next(iter(ends["inputs"])) == "image" and next(iter(ends["outputs"])) == "pred"
    names = ends["outputs"]["pred"]["channel_def"]
    assert names["0"] == "background" and list(names.values())[1:] == parser.get("class_names")


def test_federated(bundle: str, data: str, tmp_path: Path) -> None:
    """MonaiAlgo: three rounds of train and weights out and in; there are no weights in the bundle before the first."""
    root = shrunk(bundle, tmp_path / bundle, dataset_dir=data)
    given = {"bundle_root": str(root)}
    client = MonaiAlgo(
        str(root),
        config_train_filename="configs/train.yaml",
        config_evaluate_filename=["configs/train.yaml", "configs/evaluate.yaml"],
        train_kwargs=dict(given),
        eval_kwargs=dict(given),
    )
    client.initialize(extra={ExtraItems.CLIENT_NAME: "hospital"})
    assert not (root / "models" / "model.pt").exists()
    weights = {name: value.clone() for name, value in client.trainer.network.state_dict().items()}
    for epoch in range(1, 4):
        client.train(ExchangeObject(weights=weights))
        difference = client.get_weights().weights
        moved = [name for name, change in difference.items() if np.any(np.asarray(change))]
        assert moved and client.trainer.state.epoch == epoch
        weights = {name: value + torch.as_tensor(difference.get(name, 0)).to(value) for name, value in weights.items()}
        assert 0 <= client.evaluate(ExchangeObject(weights=weights)).metrics["dice"] <= 1
        for name, value in client.evaluator.network.state_dict().items():
            torch.testing.assert_close(value, weights[name])
    best = client.get_weights(extra={ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL}).weights
    for name, value in client.trainer.network.state_dict().items():
        assert torch.equal(value, best[name])
    client.finalize()
    assert [row["epoch"] for row in read_csv(root / "models" / "metrics.csv")] == ["1", "2", "3"]
    assert written(root / "models")["train"]["trainer"]["max_epochs"] == 1


def test_images_in_memory(bundle: str, data: str, tmp_path: Path) -> None:
    """Images that were read from files which are gone meanwhile, in any orientation; the masks are on their grids."""
    root = shrunk(bundle, tmp_path / bundle)
    (root / "models").mkdir()
    parser = ConfigParser(ConfigParser.load_config_file(str(root / "configs" / "train.yaml")))
    parser["bundle_root"] = str(root)
    torch.save(parser.get_parsed_content("network_def").state_dict(), root / "models" / "model.pt")
    path = four_cases(bundle, tmp_path / "four")[0]["image"]
    paths = [path] if isinstance(path, str) else path
    channels = [read_volume(Path(one))[0].astype(np.float32) for one in paths]
    affines = {
        "sagittal": [[0, 0, 8, 5], [1.25, 0, 0, -3], [0, -1.5, 0, 7], [0, 0, 0, 1]],
        "coronal": [[1.25, 0, 0, 5], [0, 0, 8, -3], [0, 1.5, 0, 7], [0, 0, 0, 1]],
        "sheared": [[0, -1.5, 0, 7], [1.25, 0, 0.4, -3], [0, 0, 8, 5], [0, 0, 0, 1]],
    }
    cases, shapes = [], {}
    for name, affine in [*affines.items(), ("one", affines["sheared"])]:
        cut = [channel[..., :1] if name == "one" else channel for channel in channels]
        files = [save(tmp_path / f"{name}{i}.nii", each, np.array(affine, float)) for i, each in enumerate(cut)]
        image = LoadImage(ensure_channel_first=True)(files).clone()  # else it is a view of the file
        for file in files:
            file.unlink()
        cases.append({"image": image, "case": name})
        shapes[name] = cut[0].shape
    affines["one"] = affines["sheared"]
    inference = ConfigParser(ConfigParser.load_config_file(str(root / "configs" / "inference.yaml")))
    inference.update({"bundle_root": str(root), "device": "cpu", "progress": False, "cases": cases})
    inference["output_dir"] = str(tmp_path / "masks")
    inference.get_parsed_content("evaluator").run()
    for name, affine in affines.items():
        mask: Any = nib.load(tmp_path / "masks" / f"{name}_pred.nii.gz")
        assert mask.shape == shapes[name]
        np.testing.assert_allclose(mask.affine, affine, atol=1e-6)


TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


def on_two(files: list[Path], folder: Path, **options: Any) -> str:
    """`torchrun` with two processes; the log."""
    names = ",".join(f"'{file}'" for file in files)
    arguments = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    command = [sys.executable, *TWO, "-m", "monai.bundle", "run", "--config_file", f"[{names}]", *arguments]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=480)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


@pytest.mark.slow
def test_two_processes(bundle: str, data: str, tmp_path: Path) -> None:
    """They train, the second writes nothing, resuming gives the weights of a whole run, one evaluates like two."""
    root = shrunk(bundle, tmp_path / bundle)
    files = [root / "configs" / "train.yaml", root / "configs" / "multi_gpu_train.yaml"]
    common = {"bundle_root": root, "dataset_dir": data}
    ranks = f"$'{tmp_path}/rank' + os.environ['RANK']"
    on_two(files, tmp_path, **common, output_dir=ranks, **{"train#trainer#max_epochs": 1})
    assert (tmp_path / "rank0" / "model.pt").is_file()
    assert not (tmp_path / "rank1").exists() or not any((tmp_path / "rank1").iterdir())
    log = on_two(files, tmp_path, **common, output_dir=tmp_path / "rank0", resume=True)
    assert log.count("Resume: goes on after epoch 1") >= 1 and log.count("INFO epoch 2/2: ") == 1
    on_two(files, tmp_path, **common, output_dir=tmp_path / "whole")

    found, expected = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("rank0", "whole"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    tables = [read_csv(tmp_path / name / "metrics.csv") for name in ("rank0", "whole")]
    # Times, and what compares a validation with the one before, which a resumed run has not seen.
    own = ("seconds", "seconds_validation", "data_share", "val_size_stability")
    numbers = [[{k: v for k, v in row.items() if k not in own} for row in table] for table in tables]
    assert numbers[0] == numbers[1] and len(numbers[0]) == 2
    patients = [read_csv(tmp_path / name / "patients.csv") for name in ("rank0", "whole")]
    assert patients[0] == patients[1]

    # Its own evaluation, which knows of two processes, on one and on two.
    evaluate = tmp_path / "whole" / "evaluate.yaml"
    given: Any = {"logging_file": False, "evaluation_dir": str(tmp_path / "one")}
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        assert name not in os.environ
    monai.bundle.run(config_file=str(evaluate), **given)
    on_two([evaluate], tmp_path, evaluation_dir=tmp_path / "two")
    one, two = (read_csv(tmp_path / name / "patients.csv") for name in ("one", "two"))
    assert one == two and one
    metrics = [dict(csv.reader((tmp_path / name / "metrics.csv").open())) for name in ("one", "two")]
    assert float(metrics[0]["dice"]) == pytest.approx(float(metrics[1]["dice"]), rel=1e-5)
