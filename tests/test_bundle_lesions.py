"""What is particular to the bundles with the boundary loss: weights that move, several channels, intensities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_data import load, read_csv, save
from monai.bundle import ConfigParser

from bundles import Runs, configs, messages, run, settings, train
from monai_constraints.data.datasets.isles import MODALITIES as PERFUSION
from monai_constraints.data.datasets.wmh import MODALITIES as BRAIN

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")
BUNDLES = ["isles", "stroke_flair", "wmh"]


def parser(bundle: str, data: Path | None, *rows: str, **options: Any) -> ConfigParser:
    found = ConfigParser(ConfigParser.load_config_files(configs(bundle, "train", *(f"rows/{row}" for row in rows))))
    found.update(settings(bundle, dataset_dir=str(data), **options))
    return found


@pytest.mark.parametrize(
    ("rows", "regional", "alpha"),
    [
        ([], [0.75, 0.5, 0.25, 0.1], [0.25, 0.5, 0.75, 1]),
        (["increase"], [1] * 4, [0.25, 0.5, 0.75, 1]),
        (["regional_only"], [1] * 4, [0] * 4),
    ],
)
def test_the_weights_follow_the_epoch(
    rows: list[str], regional: list[float], alpha: list[float], runs: Runs, tmp_path: Path
) -> None:
    """As the thesis has it (4.3.4), and the loss is the sum of what is logged."""
    train("stroke_flair", runs.data("stroke_flair"), tmp_path, *rows, max_epochs=4, val_interval=4)
    logged = read_csv(tmp_path / "metrics.csv")
    assert [float(row["weight_regional"]) for row in logged] == regional
    assert [float(row["weight_boundary"]) for row in logged] == alpha
    for row in logged:
        total = sum(float(row[f"weight_{name}"]) * float(row[f"loss_{name}"]) for name in ("regional", "boundary"))
        assert float(row["loss"]) == pytest.approx(total, rel=1e-4)


def test_the_boundary_loss_alone_warns(runs: Runs, tmp_path: Path) -> None:
    """As the table's row has it."""
    constant = "monai_constraints.handlers.Constant"
    alone = {"alpha": {"_target_": constant, "value": 1}, "regional_weight": {"_target_": constant, "value": 0}}
    with pytest.warns(UserWarning, match="alone on a binary task"):
        train("stroke_flair", runs.data("stroke_flair"), tmp_path, "thesis", **{**alone, "max_epochs": 1})


@pytest.mark.parametrize("bundle", BUNDLES)
def test_maps_are_augmented_with_the_image(bundle: str, runs: Runs) -> None:
    found = parser(bundle, runs.data(bundle), batch_size=16)
    batch = next(iter(found.get_parsed_content("train#dataloader")))
    _, targets = found.get_parsed_content("train#prepare_batch")(batch)
    assert not torch.equal(targets["distance"], batch["distance"])
    label, distance = targets["label"], targets["distance"]
    there = (label > 0).flatten(1).any(1)
    inside, outside = (distance[there][label[there] == k] for k in (1, 0))
    pixel = 2.5  # mm, after padding, resampling and scaling
    assert len(inside) > 50 and (inside < pixel).all() and (outside > -pixel).all()


@pytest.mark.parametrize("bundle", BUNDLES)
def test_thirty_times_as_bright_is_the_same(bundle: str, runs: Runs, tmp_path: Path) -> None:
    preprocessing = parser(bundle, runs.data(bundle)).get_parsed_content("preprocessing")
    for item in runs.cases(bundle)["training"]:
        paths = item["image"] if isinstance(item["image"], list) else [item["image"]]
        brighter = [
            save(tmp_path / f"{i}.nii.gz", 30.0 * np.asarray(load(path).dataobj), load(path).affine)
            for i, path in enumerate(paths)
        ]
        expected, found = preprocessing(item)["image"], preprocessing({**item, "image": brighter})["image"]
        torch.testing.assert_close(found.as_tensor(), expected.as_tensor(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("bundle", "channels"), [("isles", PERFUSION), ("wmh", BRAIN)])
def test_cases_of_several_files(bundle: str, channels: tuple[str, ...], runs: Runs, tmp_path: Path) -> None:
    """All cases of a folder in the layout are predicted; a plain folder and single files say what to do."""
    inference, cases = runs.trained(bundle) / "inference.yaml", runs.cases(bundle)
    run(inference, output_dir=str(tmp_path / "masks"), progress=False)
    names = {path.name.removesuffix("_pred.nii.gz") for path in (tmp_path / "masks").rglob("*.nii.gz")}
    assert names == {item["case"] for part in cases.values() for item in part}
    item = cases["training"][0]
    save(tmp_path / "plain" / "a.nii.gz", np.asarray(load(item["image"][0]).dataobj), load(item["image"][0]).affine)
    with pytest.raises(RuntimeError) as error:
        run(inference, dataset_dir=str(tmp_path / "plain"), output_dir=str(tmp_path / "none"), progress=False)
    assert f"takes {len(channels)} channels ({', '.join(channels)})" in messages(error.value)
    assert '--datalist_file cases.json with {"testing": [{"case": "a", "image": ["my_' in messages(error.value)
    with pytest.raises(RuntimeError) as error:
        run(inference, cases=[{"image": item["image"][0], "case": "a"}], output_dir=str(tmp_path / "none"))
    assert f"1 channel(s), the network takes {len(channels)}; give a list of one" in messages(error.value)


def test_many_lesions_stay(runs: Runs) -> None:
    """No largest component, of which the left ventricle has one."""
    for bundle in BUNDLES:
        found = ConfigParser(ConfigParser.load_config_file(str(runs.trained(bundle) / "evaluate.yaml")))
        names = [type(one).__name__ for one in found.get_parsed_content("validate#postprocessing").transforms]
        assert "AsDiscreted" in names and "LargestComponentd" not in names
