"""What the bundles write for images of any orientation and shape, and where they measure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from bundle_data import PROSTATE_SPACING, read_csv, save, save_metaimage
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from bundles import BUNDLES, NAMES, TABLE, Runs, configs, run
from monai_constraints.engines import TrainedRun

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")

AFFINES = {
    "sagittal": [[0.0, 0.0, 8.0, 5.0], [1.25, 0.0, 0.0, -3.0], [0.0, -1.5, 0.0, 7.0], [0.0, 0.0, 0.0, 1.0]],
    "coronal": [[1.25, 0.0, 0.0, 5.0], [0.0, 0.0, 8.0, -3.0], [0.0, 1.5, 0.0, 7.0], [0.0, 0.0, 0.0, 1.0]],
    "sheared": [[0.0, -1.5, 0.0, 7.0], [1.25, 0.0, 0.4, -3.0], [0.0, 0.0, 8.0, 5.0], [0.0, 0.0, 0.0, 1.0]],
}


def find_bright(trained: Path, folder: Path) -> int:
    """Make a run of which the network finds what is bright; return its number of input channels."""
    config = yaml.safe_load((trained / "config.yaml").read_text())
    channels, classes = config["image_channels"], 1 + len(config["class_names"])
    axes = len(TrainedRun(trained)["spatial_size"])
    conv = {"_target_": f"torch.nn.Conv{axes}d", "in_channels": channels, "out_channels": classes, "kernel_size": 1}
    given: dict[str, Any] = {"output_dir": str(folder / "out")}
    given |= {"padded_size": [44] * axes, "spatial_size": [44] * axes}
    given |= {"network_def": conv, "ckpt_path": str(folder / "model.pt")}
    for name in ("config.yaml", "evaluate.yaml"):
        (folder / name).write_text(yaml.safe_dump({**yaml.safe_load((trained / name).read_text()), **given}))
    inference = yaml.safe_load((trained / "inference.yaml").read_text())
    inference |= {"run_dir": str(folder), "output_dir": str(folder / "out")}
    (folder / "inference.yaml").write_text(yaml.safe_dump(inference))
    kernel, bias = torch.zeros(classes, channels, *[1] * axes), torch.full((classes,), -100.0)
    kernel[1, 0], bias[:2] = 20, torch.tensor([0.0, -16.0])
    torch.save({"weight": kernel, "bias": bias}, folder / "model.pt")
    return int(channels)


def disc(depth: int) -> np.ndarray:
    rng, (x, y) = np.random.default_rng(0), np.ogrid[:48, :40]
    inside = np.repeat(((x - 20) ** 2 + (y - 18) ** 2 <= 25)[..., None], depth, 2)
    return np.asarray(200 * inside + rng.normal(20, 2, inside.shape)).astype(np.int16)


@pytest.mark.parametrize("bundle", NAMES)
def test_masks_have_the_shape_and_the_affine_of_their_image(bundle: str, runs: Runs, tmp_path: Path) -> None:
    channels = find_bright(runs.trained(bundle), tmp_path)
    image = disc(4)
    images = {f"{name}.nii": (image, np.array(affine)) for name, affine in AFFINES.items()}
    images |= {
        "sub/one.nii.gz": (image[..., :1], np.eye(4)), "four.nii.gz": (image[..., None], np.eye(4)),
        "flat.nii.gz": (image[..., 0], np.eye(4)),
    }  # fmt: skip
    for name, (data, affine) in images.items():
        save(tmp_path / "in" / name, data, affine)
    given = {"dataset_dir": str(tmp_path / "in"), "output_dir": str(tmp_path / "masks"), "progress": False}
    if channels > 1:
        cases = [{"image": [f"in/{name}"] * channels, "case": name.split(".")[0]} for name in images]
        (tmp_path / "list.json").write_text(json.dumps({"testing": cases}))
        given["datalist_file"] = str(tmp_path / "list.json")
    run(tmp_path / "inference.yaml", **given)
    written = sorted(str(path.relative_to(tmp_path / "masks")) for path in (tmp_path / "masks").rglob("*.nii.gz"))
    assert written == sorted(name.split(".")[0] + "_pred.nii.gz" for name in images)
    for name, (data, affine) in images.items():
        mask: Any = nib.load(tmp_path / "masks" / (name.split(".")[0] + "_pred.nii.gz"))
        assert mask.shape == data.shape and mask.get_data_dtype() == np.uint8
        np.testing.assert_allclose(mask.affine, affine, atol=1e-6)
        assert np.asarray(mask.dataobj).any()


def test_images_in_memory(runs: Runs, tmp_path: Path) -> None:
    find_bright(runs.trained("acdc_lv"), tmp_path)
    image = torch.zeros(1, 40, 48, 3)
    image[:, 10:20, 12:24] = 100
    volume = MetaTensor(image, affine=torch.as_tensor(AFFINES["sheared"]))
    parser = ConfigParser(ConfigParser.load_config_file(str(tmp_path / "inference.yaml")))
    parser.update({"output_dir": str(tmp_path / "masks"), "progress": False, "cases": [{"image": volume, "case": "a"}]})
    parser.get_parsed_content("evaluator").run()
    mask: Any = nib.load(tmp_path / "masks" / "a_pred.nii.gz")
    assert np.array_equal(np.asarray(mask.dataobj), (image[0] > 0).numpy())
    np.testing.assert_allclose(mask.affine, AFFINES["sheared"], atol=1e-6)


def test_measured_on_the_grid_of_the_file(runs: Runs, tmp_path: Path) -> None:
    """What the network finds is what is bright in the file; one axis is padded for it and the other cropped."""
    find_bright(runs.trained("acdc_lv"), tmp_path)
    out = tmp_path / "evaluation"
    run(tmp_path / "evaluate.yaml", evaluation_dir=str(out), progress=False, views=False)
    for row in read_csv(out / "patients.csv"):
        item = next(item for item in runs.cases("acdc_lv")["validation"] if item["case"] == row["case"])
        label = np.asarray(nib.load(item["label"]).dataobj) == 3  # type: ignore[attr-defined]
        assert np.load(out / "predictions.npz")[f"label/{row['case']}"].shape == label.shape[:2]
        assert float(row["dice"]) > 0.95


def test_eight_views_of_what_is_not_square(runs: Runs, tmp_path: Path) -> None:
    """Said before a file of the data is read."""
    find_bright(runs.trained("acdc_lv"), tmp_path)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**config, "spatial_size": [44, 40]}))
    for name, given in (("inference", {}), ("evaluate", {"spatial_size": [44, 40]})):
        with pytest.raises(RuntimeError) as error:
            run(tmp_path / f"{name}.yaml", dataset_dir=str(runs.data("acdc_lv")), progress=False, **given)
        assert "quarter turns need a square" in str(error.value.__cause__)


def test_the_mask_of_a_metaimage_lies_over_it(runs: Runs, tmp_path: Path) -> None:
    """Where ITK says that a voxel of the image is, the NIfTI mask has it too: right and front have the other sign."""
    itk = pytest.importorskip("itk")
    find_bright(runs.trained("promise12_points"), tmp_path)
    path = save_metaimage(tmp_path / "in" / "Case07.mhd", disc(4), PROSTATE_SPACING)
    path.write_text(path.read_text().replace("= 1 0 0 0 1 0 0 0 1", "= 0 1 0 -1 0 0 0 0 1"))
    run(tmp_path / "inference.yaml", dataset_dir=str(path), output_dir=str(tmp_path / "masks"), progress=False)
    mask: Any = nib.load(tmp_path / "masks" / "Case07_pred.nii.gz")
    inside, image = np.asarray(mask.dataobj) == 1, itk.imread(str(path))
    truth = disc(4) > 100
    assert inside.shape == truth.shape and 2 * (inside & truth).sum() > 0.8 * (inside.sum() + truth.sum())  # 3 pixels
    for index in ([0, 0, 0], [20, 18, 3], [47, 0, 2]):
        x, y, z = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(nib.affines.apply_affine(mask.affine, index), [-x, -y, z], atol=1e-4)


def test_intensities_that_differ_thirtyfold(tmp_path: Path) -> None:
    """The network sees the same of both volumes."""
    parser = ConfigParser(ConfigParser.load_config_files(configs("promise12_points", "train")))
    parser.update({**TABLE["promise12_points"].tiny, "bundle_root": str(BUNDLES / "promise12_points")})
    preprocessing, seen = parser.get_parsed_content("preprocessing"), []
    for factor in (1, 30):
        path = save_metaimage(tmp_path / f"Case{factor:02d}.mhd", factor * disc(4), PROSTATE_SPACING)
        seen.append(np.asarray(preprocessing({"image": str(path)})["image"]))
    assert seen[0].shape == (1, 32, 32, 4) and np.ptp(seen[0]) > 0.9
    np.testing.assert_allclose(seen[1], seen[0], atol=1e-5)


def test_one_option_turns_the_dense_crf_on(runs: Runs, tmp_path: Path) -> None:
    """A dark hole in what is bright is found where it is, and closed by a field that trusts neighbours alone."""
    pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed: the extra crf")
    find_bright(runs.trained("acdc_lv"), tmp_path)
    image = np.zeros((48, 40, 2), np.int16)
    image[14:26, 12:24] = 200
    image[19, 17] = 0
    save(tmp_path / "in" / "a.nii.gz", image)
    masks = []
    for on in (False, True):
        given: dict[str, Any] = {"output_dir": str(tmp_path / f"{on}"), "dense_crf": on}
        given |= {"crf#bilateral_weight": 0, "crf#gaussian_weight": 30} if on else {}
        run(tmp_path / "inference.yaml", dataset_dir=str(tmp_path / "in"), progress=False, **given)
        written: Any = nib.load(tmp_path / f"{on}" / "a_pred.nii.gz")
        masks.append(np.asarray(written.dataobj))
    assert np.array_equal(masks[0] > 0, image > 0) and (masks[1] != masks[0]).sum() == 2 and masks[1][19, 17].all()
