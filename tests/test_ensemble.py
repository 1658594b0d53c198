"""Several networks as one: the mean of their probabilities, in code and in the bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from bundle_data import load, read_csv
from ignite.engine import Engine
from monai.bundle import ConfigParser
from torch import nn

from bundles import NAMES, Runs, configs, run, settings
from monai_constraints.handlers import TrainedCheckpointLoader
from monai_constraints.networks import Ensemble, load_trained

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")


@torch.no_grad()
def test_mean_of_probabilities_in_numpy() -> None:
    networks, image = [nn.Conv2d(2, 3, 3, padding=1) for _ in range(3)], torch.randn(4, 2, 6, 5)
    found = Ensemble(networks)(image)
    expected = np.mean([network(image).softmax(1).numpy() for network in networks], 0)
    np.testing.assert_allclose(found.exp(), expected, atol=1e-6)
    np.testing.assert_allclose(found.softmax(1), expected, atol=1e-6)


@torch.no_grad()
def test_sure_networks_give_no_infinity() -> None:
    sure = nn.Conv2d(1, 2, 1)
    sure.bias.copy_(torch.tensor([0.0, 500.0]))
    found = Ensemble([sure, sure])(torch.zeros(1, 1, 4, 4))
    assert found.isfinite().all() and (found.argmax(1) == 1).all()


def test_what_is_no_ensemble_is_said() -> None:
    with pytest.raises(ValueError, match="no network"):
        Ensemble([])
    with pytest.raises(ValueError, match="two channels"):
        Ensemble([nn.Conv2d(1, 1, 1)])(torch.zeros(1, 1, 4, 4))


@torch.no_grad()
def test_load_trained(tmp_path: Path) -> None:
    trained, image = [nn.Conv2d(1, 2, 1) for _ in range(2)], torch.randn(1, 1, 4, 4)
    paths = [str(tmp_path / f"{i}.pt") for i in range(2)]
    for network, path in zip(trained, paths):
        torch.save(network.state_dict(), path)
    blank = nn.Conv2d(1, 2, 1)
    assert torch.allclose(load_trained(blank, paths)(image), Ensemble(trained)(image))
    assert load_trained(blank, paths[1]) is blank and torch.equal(blank(image), trained[1](image))


@pytest.mark.parametrize("bundle", NAMES)
@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("validate#evaluator#network", ("train", "evaluate")),
        # in either order: a network of several processes must not take the place of the trained one
        ("validate#evaluator#network", ("train", "evaluate", "multi_gpu_train")),
    ],
)
def test_every_bundle_takes_a_list_of_files(bundle: str, key: str, names: tuple[str, ...], tmp_path: Path) -> None:
    parser = ConfigParser(ConfigParser.load_config_files(configs(bundle, *names)))
    parser.update(settings(bundle, output_dir=str(tmp_path)))
    torch.save(parser.get_parsed_content("network_def").state_dict(), tmp_path / "model.pt")
    parser.update({"ckpt_path": [str(tmp_path / "model.pt")] * 2, "device": "cpu"})
    ensemble = parser.get_parsed_content(key)
    assert isinstance(ensemble, Ensemble) and len(ensemble.networks) == 2
    (place,) = (i for i, one in enumerate(parser["validate"]["handlers"]) if "TrainedCheckpointLoader" in str(one))
    for files, reason in (
        ([str(tmp_path / "model.pt"), str(tmp_path / "none.pt")], "no trained model at .*none.pt"),
        ([], "pass one file or more as --ckpt_path"),
    ):
        loader = TrainedCheckpointLoader(files)
        engine: Any = Engine(lambda engine, batch: None)
        engine.network = ensemble
        loader.attach(engine)
        with pytest.raises((FileNotFoundError, ValueError), match=reason):
            engine.run([0])
    assert parser["validate"]["handlers"][place]["path"] == "@ckpt_path"


def test_two_of_three_networks_decide(runs: Runs, tmp_path: Path) -> None:
    """Networks that find what is bright, and one that finds nothing: evaluation and inference agree."""
    files = {"bright": ([0.0, 20.0], [0.0, -16.0]), "nothing": ([0.0, 0.0], [40.0, 0.0])}
    for name, (kernel, bias) in files.items():
        weights = {"weight": torch.tensor(kernel).reshape(2, 1, 1, 1), "bias": torch.tensor(bias)}
        torch.save(weights, tmp_path / f"{name}.pt")
    network = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 1}
    run_dir = runs.trained("acdc_lv")
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    given: dict[str, Any] = {"network_def": network, "padded_size": [44, 44], "spatial_size": [44, 44]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**config, **given}))
    sizes, dice = {}, {}
    for votes in (["bright", "bright", "nothing"], ["bright", "nothing"]):
        out, models = tmp_path / str(len(votes)), [str(tmp_path / f"{vote}.pt") for vote in votes]
        run(run_dir / "inference.yaml", run_dir=str(tmp_path), ckpt_path=models, output_dir=str(out / "masks"))
        sizes[len(votes)] = [np.asarray(load(path).dataobj).sum() for path in sorted(out.rglob("*_pred.nii.gz"))]
        run(run_dir / "evaluate.yaml", **given, ckpt_path=models, evaluation_dir=str(out))
        dice[len(votes)] = [float(row["dice"]) for row in read_csv(out / "patients.csv")]
    assert min(sizes[3]) > 0 and max(sizes[2]) == 0
    assert min(dice[3]) > 0.95 and max(dice[2]) == 0
