"""What is particular to bundles/acdc: four classes, scribbles, bounds that are augmented along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_data import PATIENTS, SPACING, configs, load, make_acdc, settings
from monai.bundle import ConfigParser

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")


@pytest.fixture(scope="module")
def acdc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_acdc(tmp_path_factory.mktemp("acdc"))


def parser(acdc: Path, *rows: str, **options: Any) -> ConfigParser:
    found = ConfigParser(ConfigParser.load_config_files(configs("acdc", "train", *rows)))
    found.update(settings("acdc", dataset_dir=str(acdc), **options))
    return found


def test_one_voxel_size(acdc: Path) -> None:
    """Image, label and scribble on the grid that is asked for, each structure where it is bright."""
    grid = {"padded_size": [96, 96], "spatial_size": [96, 96]}
    own, half = (parser(acdc, voxel_size=size, **grid) for size in (0, SPACING[0] / 2))
    for part in ("train", "validate"):
        before, after = (one.get_parsed_content(f"{part}#volumes")[0] for one in (own, half))
        assert after["spacing"] == [SPACING[0] / 2, SPACING[0] / 2, SPACING[2]] != before["spacing"]
        factor = 2 * 2 * SPACING[1] / SPACING[0]
        for k in (1, 2, 3):
            expected = factor * (before["label"] == k).sum().item()
            assert (after["label"] == k).sum().item() == pytest.approx(expected, rel=0.1)
        assert after["image"][after["label"] == 3].mean() > 2 * after["image"][after["label"] == 1].mean()
        assert "scribble" not in after or (after["scribble"] == after["label"])[after["scribble"] < 4].all()


def test_training_slices_have_scribbles_and_bounds_of_every_structure(acdc: Path) -> None:
    dataset = parser(acdc, padded_size=[52, 52], spatial_size=[52, 52]).get_parsed_content("train#dataset")
    assert len(dataset) == sum(depth for number, depth in PATIENTS.items() if number < 13)
    slices = [sample for sample in dataset if sample["case"] == "patient001_frame01"]
    stem = str(acdc / "patient001" / "patient001_frame01")
    label, scribble = (np.asarray(load(f"{stem}{end}.nii.gz").dataobj) for end in ("_gt", "_scribble"))
    for z, sample in enumerate(slices):
        assert "label" not in sample and "scribble" not in sample and type(sample["image"]) is torch.Tensor
        expected = np.pad(np.where(scribble == 4, 255, scribble)[..., z], ((2, 2), (6, 6)), constant_values=255)
        np.testing.assert_array_equal(sample["weak"][0].numpy(), expected)
        for k, size, centroid in zip((1, 2, 3), sample["size_bounds"], sample["centroid_bounds"]):
            mask = label[..., z] == k
            if not mask.any():
                assert size.tolist() == [[0, 0]] and centroid.isinf().all()
                continue
            np.testing.assert_allclose(size[0], [0.9 * mask.sum(), 1.1 * mask.sum()], rtol=1e-5)
            middle = np.argwhere(mask).mean(0) + [2, 6]
            np.testing.assert_allclose(centroid, np.stack([middle - 20, middle + 20], 1), rtol=1e-5)
    assert (slices[-1]["size_bounds"] == 0).all()  # the last slice is empty


def test_a_batch_is_augmented_with_its_bounds(acdc: Path) -> None:
    found = parser(acdc)
    batch = next(iter(found.get_parsed_content("train#dataloader")))
    prepare = found.get_parsed_content("train#trainer#prepare_batch")
    image, targets = prepare(batch)
    assert set(targets) == {"weak", "size_bounds", "centroid_bounds"}
    assert not torch.equal(image, batch["image"]) and not torch.equal(targets["weak"], batch["weak"])
    there = batch["size_bounds"][..., 0] > 0
    factors = (targets["size_bounds"][..., 0] / batch["size_bounds"][..., 0])[there]
    assert factors.min() >= 0.87**2 - 1e-3 and factors.max() <= 1.15**2 + 1e-3 and factors.std() > 0.01
    assert (targets["size_bounds"][..., 0] == 0).equal(~there)


@pytest.mark.parametrize("largest", [False, True])
def test_largest_component_is_an_option(acdc: Path, largest: bool) -> None:
    pred = torch.zeros(4, 8, 8)
    pred[2, 1:4, 1:4] = pred[2, 6, 6] = pred[3, 0, 6] = 5
    label = torch.zeros(1, 8, 8, dtype=torch.uint8)
    label[0, 1:4, 1:4] = 2
    after = parser(acdc, largest_component=largest).get_parsed_content("validate#postprocessing")
    out = after({"pred": pred, "label": label})
    assert out["pred"].shape == out["label"].shape == (4, 8, 8)
    assert out["pred"][2].sum() == (9 if largest else 10) and out["pred"][3].sum() == 1


@pytest.mark.parametrize("bundle", ["acdc", "acdc_lv"])
@torch.no_grad()
def test_test_time_augmentation_is_an_option(bundle: str) -> None:
    """In evaluation, slice by slice, and in inference, for a volume, it gives the same."""
    torch.manual_seed(0)
    network, volume = torch.nn.Conv2d(1, 4, 3, padding=1), torch.rand(1, 1, 16, 16, 3)
    slices = volume[0].permute(3, 0, 1, 2)
    found = {}
    for name, key in {"train": "validate#inferer", "inference": "inferer"}.items():
        for on in (False, True):
            config = ConfigParser(ConfigParser.load_config_files(configs(bundle, name)))
            # A CPU that is fast in bfloat16 rounds in training, and inference does not.
            given = {"spatial_size": [16, 16], "device": "cpu", "test_time_augmentation": on}
            config.update(given | ({"mixed_precision": False} if name == "train" else {}))
            inferer = config.get_parsed_content(key)
            found[name, on] = inferer(*((slices, network) if name == "train" else (volume, network))).softmax(1)
    for on in (False, True):
        assert torch.allclose(found["train", on], found["inference", on][0].permute(3, 0, 1, 2), atol=1e-6)
    assert not torch.allclose(found["train", False], found["train", True], atol=1e-3)


def test_boundary_row_trains_with_the_four_maps_alone(acdc: Path) -> None:
    """Thesis, Fig. 6.5."""
    found = parser(acdc, "rows/boundary")
    loss = found.get_parsed_content("loss")
    assert list(loss.terms) == ["boundary"] and loss.target_keys == ["distance"] and loss.weights == {"boundary": 1}
    for sample in found.get_parsed_content("train#dataset"):
        inside = torch.cat([sample["weak"] == k for k in range(4)])
        there = inside.flatten(1).any(1) & ~inside.flatten(1).all(1)
        assert not sample["distance"][~there].any()
        assert (sample["distance"][there][inside[there]] <= 0).all()
        assert (sample["distance"][there][~inside[there]] >= 1).all()
        assert sample["distance"].abs().max() <= 5  # without it the right ventricle stays empty for long


def test_geodesic_row_has_the_scribbles_and_the_maps_made_from_them(acdc: Path) -> None:
    found = parser(acdc, "rows/geodesic")
    loss = found.get_parsed_content("loss")
    assert loss.target_keys == ["weak", "distance"] and 0 < loss.weights["boundary"] < loss.weights["ce"]
    drawn = 0
    for sample in found.get_parsed_content("train#dataset"):
        assert "label" not in sample
        there = [k for k in range(4) if (sample["weak"] == k).any()]
        for k in range(4):
            if len(there) < 2 or k not in there:
                assert not sample["distance"][k].any()
                continue
            assert (sample["distance"][k][sample["weak"][0] == k] < 0).all()
            drawn += 1
    assert drawn > 10


@pytest.mark.parametrize("row", ["boundary", "geodesic"])
def test_maps_move_with_the_image(acdc: Path, row: str) -> None:
    found = parser(acdc, f"rows/{row}", batch_size=16)
    # The weak label is moved along too, to compare with.
    prepare = found.get_parsed_content("train#trainer#prepare_batch")
    prepare.keys, prepare.augmentation.transforms[0].labels = ("weak", "distance"), {"weak": 255}
    batch = next(iter(found.get_parsed_content("train#dataloader")))
    _, targets = prepare(batch)
    assert not torch.equal(targets["distance"], batch["distance"])
    weak, distance = targets["weak"].long(), targets["distance"]
    known = (weak != 255) & (distance != 0).any(1, keepdim=True)
    own = distance.gather(1, torch.where(known, weak, 0))[known]
    lowest = distance.amin(1, keepdim=True)[known]
    assert known.sum() > 100 and (own <= lowest + 0.5).float().mean() > 0.95


@pytest.mark.parametrize("below", ["partial_ce", "tags", "size_centroid"])
def test_crf_row_adds_a_term_on_the_image_that_the_network_sees(acdc: Path, below: str) -> None:
    found = parser(acdc, f"rows/{below}", "rows/crf")
    loss = found.get_parsed_content("loss")
    before = parser(acdc, f"rows/{below}").get_parsed_content("loss").weights
    assert loss.weights == {**before, "crf": 3}
    batch = next(iter(found.get_parsed_content("train#dataloader")))
    image, targets = found.get_parsed_content("train#trainer#prepare_batch")(batch)
    assert targets["image"] is image and not torch.equal(image, batch["image"])
    logits = torch.randn(len(image), 4, *image.shape[2:], requires_grad=True)
    loss.terms["crf"].loss(logits.softmax(1), targets["image"]).backward()
    assert logits.grad.abs().min() > 0
