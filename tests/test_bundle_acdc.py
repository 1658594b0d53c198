"""What is particular to bundles/acdc: four classes, scribbles, one voxel size, bounds that are augmented along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_data import PATIENTS, SPACING, load, read_csv
from monai.bundle import ConfigParser

from bundles import Runs, configs, run, settings, train

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")


def parser(runs: Runs, *rows: str, **options: Any) -> ConfigParser:
    found = ConfigParser(ConfigParser.load_config_files(configs("acdc", "train", *rows)))
    given = settings("acdc", dataset_dir=str(runs.data("acdc")), voxel_size=0)
    for key, value in {**given, **options}.items():
        found[key] = value
    return found


def test_one_voxel_size(runs: Runs) -> None:
    """Image, label and scribble on the grid that is asked for, each structure where it is bright."""
    grid = {"padded_size": [96, 96], "spatial_size": [96, 96]}
    own, half = (parser(runs, voxel_size=size, **grid) for size in (0, SPACING[0] / 2))
    case = runs.cases("acdc")["training"][0]
    before, after = (one.get_parsed_content("preprocessing")(case) for one in (own, half))
    assert after["spacing"] == [SPACING[0] / 2, SPACING[0] / 2, SPACING[2]] != before["spacing"]
    factor = 2 * 2 * SPACING[1] / SPACING[0]
    for k in (1, 2, 3):
        expected = factor * (before["label"] == k).sum().item()
        assert (after["label"] == k).sum().item() == pytest.approx(expected, rel=0.1)
    assert after["image"][after["label"] == 3].mean() > 2 * after["image"][after["label"] == 1].mean()
    assert (after["scribble"] == after["label"])[after["scribble"] < 4].all()


def test_one_voxel_size_is_undone_for_evaluation(runs: Runs, tmp_path: Path) -> None:
    """Distances are those of the file's voxels, whatever the network sees."""
    out = tmp_path / "out"
    train("acdc", runs.data("acdc"), out, voxel_size=0.8, padded_size=[64, 64], spatial_size=[64, 64])
    run(out / "evaluate.yaml", progress=False)
    pictures = np.load(out / "evaluation" / "predictions.npz")
    (first, *_), rows = runs.cases("acdc")["validation"], read_csv(out / "evaluation" / "patients.csv")
    shape = np.asarray(load(first["label"]).dataobj).shape
    assert pictures[f"label/{first['case']}"].shape == shape[:2]
    # An empty prediction has the diagonal of the volume as its distance, in mm.
    diagonal = float(np.linalg.norm(np.array(SPACING) * shape))
    worst = [float(row["hd95"]) for row in rows if row["case"] == first["case"]]
    assert max(worst) <= diagonal * 1.001


def test_training_slices_have_scribbles_and_bounds_of_every_structure(runs: Runs) -> None:
    dataset = parser(runs, padded_size=[52, 52], spatial_size=[52, 52]).get_parsed_content("train#dataset")
    assert len(dataset) == sum(depth for number, depth in PATIENTS.items() if number < 13)
    slices = [sample for sample in dataset if sample["case"] == "patient001_frame01"]
    case = runs.cases("acdc")["training"][0]
    label, scribble = (np.asarray(load(case[key]).dataobj) for key in ("label", "scribble"))
    for z, sample in enumerate(slices):
        assert "label" not in sample and "scribble" not in sample and type(sample["image"]) is torch.Tensor
        expected = np.pad(np.where(scribble == 4, 255, scribble)[..., z], ((2, 2), (6, 6)), constant_values=255)
        np.testing.assert_array_equal(sample["weak"][0].numpy(), expected)
        for k, size, centroid in zip((1, 2, 3), sample["size_bounds"], sample["centroid_bounds"]):
            mask = label[..., z] == k
            if not mask.any():
                assert size.tolist() == [[0, 0]] and centroid.isinf().all()
                continue
            np.testing.assert_allclose(size[0] ** 2, [0.9 * mask.sum(), 1.1 * mask.sum()], rtol=1e-5)
            middle = np.argwhere(mask).mean(0) + [2, 6]
            np.testing.assert_allclose(centroid, np.stack([middle - 20, middle + 20], 1), rtol=1e-5)
    assert (slices[-1]["size_bounds"] == 0).all()  # the last slice is empty


def test_a_batch_is_augmented_with_its_bounds(runs: Runs) -> None:
    found = parser(runs)
    batch = next(iter(found.get_parsed_content("train#dataloader")))
    image, targets = found.get_parsed_content("train#prepare_batch")(batch)
    assert set(targets) == {"weak", "size_bounds", "centroid_bounds", "image"}
    assert not torch.equal(image, batch["image"]) and not torch.equal(targets["weak"], batch["weak"])
    there = batch["size_bounds"][..., 0] > 0
    factors = (targets["size_bounds"][..., 0] / batch["size_bounds"][..., 0])[there]
    assert factors.min() >= 0.87 - 1e-3 and factors.max() <= 1.15 + 1e-3 and factors.std() > 0.01
    assert (targets["size_bounds"][..., 0] == 0).equal(~there)


def test_boundary_row_trains_with_the_four_maps_alone(runs: Runs) -> None:
    """Thesis, Fig. 6.5."""
    found = parser(runs, "rows/boundary")
    loss = found.get_parsed_content("loss")
    assert list(loss.terms) == ["boundary"] and loss.target_keys == ["distance"] and loss.weights == {"boundary": 1}
    for sample in found.get_parsed_content("train#dataset"):
        inside = torch.cat([sample["weak"] == k for k in range(4)])
        there = inside.flatten(1).any(1) & ~inside.flatten(1).all(1)
        assert not sample["distance"][~there].any()
        assert (sample["distance"][there][inside[there]] <= 0).all()
        assert (sample["distance"][there][~inside[there]] >= 1).all()
        assert sample["distance"].abs().max() <= 5  # without it the right ventricle stays empty for long


def test_geodesic_row_has_the_scribbles_and_the_maps_made_from_them(runs: Runs) -> None:
    found = parser(runs, "rows/geodesic")
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
def test_maps_move_with_the_image(runs: Runs, row: str) -> None:
    found = parser(runs, f"rows/{row}", batch_size=16)
    # The weak label is moved along too, to compare with.
    prepare = found.get_parsed_content("train#prepare_batch")
    prepare.keys, prepare.augmentation.transforms[0].labels = ("weak", "distance"), {"weak": 255}
    batch = next(iter(found.get_parsed_content("train#dataloader")))
    _, targets = prepare(batch)
    assert not torch.equal(targets["distance"], batch["distance"])
    weak, distance = targets["weak"].long(), targets["distance"]
    known = (weak != 255) & (distance != 0).any(1, keepdim=True)
    own = distance.gather(1, torch.where(known, weak, 0))[known]
    lowest = distance.amin(1, keepdim=True)[known]
    assert known.sum() > 100 and (own <= lowest + 0.5).float().mean() > 0.95
