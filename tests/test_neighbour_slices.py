from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_data import CASES, MAKE, configs, read_csv, read_volume, run, settings
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.data import MetaTensor

from monai_constraints.data import SliceDataset
from monai_constraints.transforms import NeighbourSlicesd, neighbour_channels

BUNDLES = ["acdc", "acdc_lv", "promise12_points", "vertebral_bodies"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:parsing config_file"),
    pytest.mark.filterwarnings("ignore:No hash value provided"),
]


@pytest.mark.parametrize("axis", [0, 2, -1, -3])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_every_slice_has_its_neighbours_nearest_first(axis: int, count: int) -> None:
    volume = torch.rand(2, 3, 4, 5)
    label = torch.zeros(1, 3, 4, 5, dtype=torch.uint8)
    sample = NeighbourSlicesd("image", count=count, axis=axis)({"image": volume, "label": label, "case": "a"})
    assert sample["label"] is label
    slices = SliceDataset([sample], axis=axis)
    positions = [0, *(s for k in range(1, count + 1) for s in (-k, k))]
    last = len(slices) - 1
    for z, item in enumerate(slices):
        # The end stands in for what lies beyond it.
        expected = [volume.select(axis if axis < 0 else axis + 1, min(max(z + s, 0), last)) for s in positions]
        assert torch.equal(item["image"], torch.cat(expected))


def test_meta_data_stay() -> None:
    affine = torch.diag(torch.tensor([1.5, 1.25, 8.0, 1.0]))
    out = NeighbourSlicesd("image")({"image": MetaTensor(torch.rand(1, 3, 4, 5), affine=affine)})["image"]
    assert isinstance(out, MetaTensor) and out.shape == (3, 3, 4, 5) and torch.equal(out.affine.float(), affine)


@pytest.mark.parametrize("axis", [3, -4])
def test_bad_axis(axis: int) -> None:
    with pytest.raises(ValueError, match=f"axis={axis} must be from -3 to 2"):
        NeighbourSlicesd("image", axis=axis)


@pytest.mark.parametrize("count", [-1, 0.5, "1"])
def test_bad_count(count: int) -> None:
    for make in (neighbour_channels, lambda count: NeighbourSlicesd("image", count=count)):
        with pytest.raises(ValueError, match=f"neighbours={count!r} must be a whole number"):
            make(count)


@pytest.mark.parametrize("name", ["train", "inference"])
@pytest.mark.parametrize("bundle", BUNDLES)
def test_bad_count_is_said_before_there_is_a_network(bundle: str, name: str) -> None:
    parser = ConfigParser(ConfigParser.load_config_files(configs(bundle, name)))
    parser.update({"neighbours": 0.5})
    with pytest.raises(RuntimeError, match="neighbour_channels") as error:
        parser.get_parsed_content("network")
    assert "neighbours=0.5 must be a whole number" in str(error.value.__cause__)


def test_a_slice_is_no_volume() -> None:
    with pytest.raises(ValueError, match=r"'image' is \(1, 4, 5\); expected a volume"):
        NeighbourSlicesd("image")({"image": torch.rand(1, 4, 5)})


@pytest.mark.parametrize("bundle", BUNDLES)
def test_inference_shows_the_next_slice_in_the_last_channel(bundle: str, tmp_path: Path) -> None:
    """A network that thresholds that channel marks the slice before each one with something bright."""
    data, out, model = MAKE[bundle](tmp_path / "data"), tmp_path / "out", tmp_path / "model.pt"
    kernel = torch.zeros(2, 3, 1, 1)
    kernel[1, 2] = 20
    torch.save({"weight": kernel, "bias": torch.tensor([0.0, -16.0])}, model)
    parser = ConfigParser(ConfigParser.load_config_files(configs(bundle, "inference")))
    size = {key: [48, 40] for key in ("padded_size", "spatial_size") if key in parser}
    given = {"dataset_dir": str(data), "output_dir": str(out), "ckpt_path": str(model), "progress": False}
    parser.update({**given, **size, "neighbours": 1})
    parser["network_def"] = {"_target_": "torch.nn.Conv2d", "in_channels": "@in_channels", "out_channels": 2}
    parser["network_def"]["kernel_size"] = 1
    infer = ConfigWorkflow(configs(bundle, "inference"), logging_file=False, workflow_type="infer")
    infer.parser = parser
    infer.initialize()
    infer.run()
    masks = sorted(path for path in out.rglob("*_pred.*") if path.suffix in (".gz", ".mhd"))
    for path in masks:
        end = "_segmentation" if path.suffix == ".mhd" else "_gt"
        truth, _ = read_volume(data / path.relative_to(out).with_name(path.name.replace("_pred", end)))
        bright = truth == 3 if bundle.startswith("acdc") else truth > 0
        axis = 0 if bundle == "vertebral_bodies" else 2
        mask = np.moveaxis(read_volume(path)[0] == 1, axis, 0)
        shifted = np.moveaxis(bright, axis, 0)[[*range(1, len(mask)), len(mask) - 1]]
        assert 2 * (mask & shifted).sum() >= 0.95 * (mask.sum() + shifted.sum())
    assert len(masks) >= 4


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_bundle_trains_and_evaluates_with_neighbours(bundle: str, tmp_path: Path) -> None:
    made = MAKE[bundle](tmp_path / "data")
    options = {"dataset_dir": str(made), "output_dir": str(tmp_path / "out"), "neighbours": 1}
    run(bundle, "train", **options)
    run(bundle, "train", "evaluate", **options)
    patients = [(tmp_path / "out" / folder / "patients.csv").read_text() for folder in (".", "evaluation")]
    assert patients[0] == patients[1]
    assert {row["case"] for row in read_csv(tmp_path / "out/patients.csv")} == set(CASES[bundle])
    workflow = ConfigWorkflow(configs(bundle, "train"), logging_file=False, **settings(bundle, **options))
    workflow.initialize()
    assert workflow.parser.get_parsed_content("train#dataset")[0]["image"].shape[0] == 3
