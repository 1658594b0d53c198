"""Bundles as other programs drive them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
import torch
from bundle_data import BUNDLES
from monai.bundle import ConfigParser
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject

from bundles import NAMES, TABLE, Runs, messages, run, settings
from monai_constraints.engines import TrainedRun

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")


@pytest.mark.parametrize("name", [name for name in NAMES if TABLE[name].make is not None])
def test_driven_as_by_monai_label(name: str, runs: Runs, tmp_path: Path) -> None:
    """Its overrides: no dataset_dir, paths in the data, a loader first among the handlers, another device string."""
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLES / name, bundle)
    parts = runs.cases(name)
    keys = ("image", "label", "scribble")
    items = [item for part in parts.values() for item in part]
    given = [{key: item[key] for key in keys if key in item} for item in items]
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "train.yaml"))
    model = bundle / "models" / "model.pt"
    for _ in range(2):  # the second goes on from the weights of the first
        load = {"_target_": "CheckpointLoader", "load_path": str(model), "load_dict": {"model": "$@network"},
                "_disabled_": not model.is_file(), "map_location": "cpu"}  # fmt: skip
        run(bundle / "configs" / "train.yaml", run_id="run", **{
            **settings(name, max_epochs=None), "bundle_root": str(bundle), "train#trainer#max_epochs": 1,
            "train#dataset#data": given[:-2], "validate#dataset#data": given[-2:],
            "train#handlers": [load, *parser.get("train#handlers")],
        })  # fmt: skip
        assert model.is_file()
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.yaml"))
    parser.update({"bundle_root": str(bundle)})
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(model, weights_only=True))
    image = parser.get_parsed_content("preprocessing")({"image": given[0]["image"]})["image"]
    logits = parser.get_parsed_content("inferer")(image[None], network.eval())
    assert logits.shape[2:] == image.shape[1:]


@pytest.mark.parametrize("name", NAMES)
def test_export(name: str, runs: Runs, tmp_path: Path) -> None:
    """TorchScript of the trained network."""
    out, exported = runs.trained(name), tmp_path / "model.ts"
    given: Any = {"config_file": str(out / "inference.yaml"), "meta_file": str(out / "metadata.json")}
    monai.bundle.ckpt_export("network_def", exported, ckpt_file=str(out / "model.pt"), **given)
    network = TrainedRun(out).network("cpu").eval()
    channels, axes = TrainedRun(out)["image_channels"], len(TrainedRun(out)["spatial_size"])
    image = torch.rand(2, channels, *(32, 64, 32)[:axes])
    # In 3D the convolutions of both sum in another order.
    torch.testing.assert_close(torch.jit.load(exported).eval()(image), network(image), atol=1e-3, rtol=1e-3)


def test_federated_learning_in_a_bundle_that_was_trained(runs: Runs, tmp_path: Path) -> None:
    """MonaiAlgo is told what to pass so that the weights which are there may be replaced; then it trains."""
    bundle, name = tmp_path / "bundle", "two_circles"
    shutil.copytree(BUNDLES / name, bundle)
    (bundle / "models").mkdir()
    model = Path(shutil.copy(runs.trained(name) / "model.pt", bundle / "models" / "model.pt"))
    before = model.read_bytes()
    given = {**settings(name), "bundle_root": str(bundle)}
    names: Any = {"config_train_filename": "configs/train.yaml", "config_evaluate_filename": None}
    client = MonaiAlgo(str(bundle), **names, train_kwargs=given)
    with pytest.raises(RuntimeError) as error:
        client.initialize(extra={ExtraItems.CLIENT_NAME: "hospital"})
    assert "of MonaiAlgo in train_kwargs" in messages(error.value) and model.read_bytes() == before
    client = MonaiAlgo(str(bundle), **names, train_kwargs={**given, "restart": True})
    client.initialize(extra={ExtraItems.CLIENT_NAME: "hospital"})
    client.train(ExchangeObject(weights=torch.load(runs.trained(name) / "model.pt", weights_only=True)))
    assert client.get_weights().weights and model.read_bytes() != before
