"""What predictions agree on, in arrays, in files, and from one training to the next."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_data import configs, load, make_acdc, run, save, settings
from monai.bundle import ConfigParser

from monai_constraints.data import write_datalist
from monai_constraints.data.acdc import acdc_datalist
from monai_constraints.data.agreement import agreement, write_agreement

U = 4


def volume(depth: int = 2) -> np.ndarray:
    mask = np.zeros((12, 10, depth), int)
    mask[2:9, 3:8], mask[4:7, 4:7] = 2, 3
    return mask


def test_where_masks_differ_is_unknown() -> None:
    one, other = volume(), volume()
    other[8, 3:5, 0] = 0
    found = agreement([one, other], border=0)
    assert found.dtype == np.uint8 and (found[8, 3:5, 0] == U).all()
    found[8, 3:5, 0] = 2
    np.testing.assert_array_equal(found, one)


@pytest.mark.parametrize("border", [0, 1, 2])
def test_band_along_borders_pixel_by_pixel(border: int) -> None:
    one, other = volume(), volume()
    other[0, 0, 1] = 1
    agreed = np.where(one == other, one, U)
    expected = np.full(one.shape, U)
    for x, y, z in np.ndindex(one.shape):
        near = agreed[max(0, x - border) : x + border + 1, max(0, y - border) : y + border + 1, z]
        if (near == agreed[x, y, z]).all():
            expected[x, y, z] = agreed[x, y, z]
    np.testing.assert_array_equal(agreement([one, other], border=border), expected)


def test_strokes_stay_and_say_which_structures_are_there() -> None:
    mask, scribble = volume(), np.full((12, 10, 2), U)
    scribble[5, 5, 0], scribble[3, 3, :], scribble[0, 0, 0] = 3, 2, 1  # no 3 in the second slice
    found = agreement([mask, mask], scribble, border=0)
    assert found[0, 0, 0] == 1 and (found[..., 1][mask[..., 1] == 3] == U).all()
    assert (found[..., 1][mask[..., 1] == 2] == 2).all() and (found[..., 0][mask[..., 0] == 3] == 3).all()
    band = agreement([mask, mask], scribble, border=1)
    drawn = scribble != U
    np.testing.assert_array_equal(band[drawn], scribble[drawn])
    assert (band[1:, :2, 0] == 0).sum() < (found[1:, :2, 0] == 0).sum()  # a stroke has a border, too


@pytest.mark.parametrize(
    ("masks", "options", "message"),
    [
        ([], {}, "no masks"),
        ([volume(), volume(3)], {}, "share a grid"),
        ([volume()[..., 0]], {}, "share a grid"),
        ([volume()], {"scribble": volume(3)}, "share a grid"),
        ([volume()], {"unknown": 3}, "never `unknown`"),
        ([volume() - 1], {}, "-1 to 2"),
        ([volume()], {"unknown": 256}, "unknown=256"),
        ([volume()], {"border": -1}, "border=-1"),
    ],
)
def test_refuses(masks: list[np.ndarray], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        agreement(masks, **options)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, list[Path]]:
    """A datalist, and two networks' masks of its training cases: the truth, and the truth a pixel further."""
    datalist = acdc_datalist(make_acdc(tmp_path / "acdc"))
    write_datalist(datalist, tmp_path / "acdc.json")
    folders = [tmp_path / "one", tmp_path / "other"]
    for item in datalist["training"]:
        truth = np.asarray(load(item["label"]).dataobj)
        for folder, shift in zip(folders, (0, 1)):
            save(folder / item["patient"] / f"{item['case']}_pred.nii.gz", np.roll(truth, shift, 0))
    return tmp_path / "acdc.json", folders


def test_command_writes_the_datalist_of_the_next_training(
    files: tuple[Path, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datalist, folders = files
    monkeypatch.setattr(sys, "argv", ["agreement", str(datalist), str(tmp_path / "out"), *map(str, folders)])
    # pytest has imported the module already
    monkeypatch.delitem(sys.modules, "monai_constraints.data.agreement")
    runpy.run_module("monai_constraints.data.agreement", run_name="__main__")
    before, after = (json.loads(path.read_text()) for path in (datalist, tmp_path / "out" / "datalist.json"))
    assert after["validation"] == before["validation"] and len(after["training"]) == len(before["training"]) > 0
    for old, new in zip(before["training"], after["training"]):
        assert {**new, "scribble": old["scribble"]} == old
        masks = [np.asarray(load(next(folder.rglob(f"{old['case']}_pred*"))).dataobj) for folder in folders]
        scribble = np.asarray(load(old["scribble"]).dataobj)
        written = load(new["scribble"])
        np.testing.assert_array_equal(np.asarray(written.dataobj), agreement(masks, scribble))
        np.testing.assert_allclose(written.affine, load(old["scribble"]).affine)


def test_bad_files_are_named(files: tuple[Path, list[Path]], tmp_path: Path) -> None:
    datalist, (one, other) = files
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="no voxel is unknown"):
        write_agreement(datalist, out, [one], border=0, unknown=255, progress=False)
    mask = other / "patient003" / "patient003_frame01_pred.nii.gz"
    save(other / "copy" / mask.name, np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(ValueError, match="are both masks of"):
        write_agreement(datalist, out, [one, other], progress=False)
    mask.unlink()
    with pytest.raises(ValueError, match="patient003_frame01: agreement: shapes"):
        write_agreement(datalist, out, [one, other], progress=False)
    (other / "copy" / mask.name).unlink()
    with pytest.raises(FileNotFoundError, match="no patient003_frame01_pred.nii.gz in .*other"):
        write_agreement(datalist, out, [one, other], progress=False)
    items = json.loads(datalist.read_text())
    write_datalist({"training": [{**item, "case": "same"} for item in items["training"]]}, datalist)
    with pytest.raises(ValueError, match="two training cases of one name"):
        write_agreement(datalist, out, [one], progress=False)
    assert not (out / "datalist.json").exists()


@pytest.mark.filterwarnings("ignore:parsing config_file")
def test_from_inference_to_the_next_training(tmp_path: Path) -> None:
    """Masks as the bundle writes them become the slices' weak labels of the bundle's training."""
    data = make_acdc(tmp_path / "acdc")
    write_datalist(acdc_datalist(data), tmp_path / "acdc.json")
    bright = torch.tensor([0.0, -20.0, -20.0, 20.0]).reshape(4, 1, 1, 1)
    torch.save({"weight": bright, "bias": torch.tensor([0.0, 0.0, 0.0, -16.0])}, tmp_path / "model.pt")
    network = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 4, "kernel_size": 1}
    training = f"$data.read_datalist('{tmp_path / 'acdc.json'}', 'training')"
    given = {"dataset_dir": str(data), "padded_size": [48, 40], "spatial_size": [48, 40], "network_def": network}
    model, masks = str(tmp_path / "model.pt"), tmp_path / "masks"
    run("acdc", "inference", **given, datalist=training, ckpt_path=model, output_dir=str(masks))
    result = write_agreement(tmp_path / "acdc.json", tmp_path / "out", [masks], progress=False)
    parser = ConfigParser(ConfigParser.load_config_files(configs("acdc", "train")))
    parser.update(settings("acdc", **given, datalist_file=str(tmp_path / "out" / "datalist.json")))
    slices = [sample["weak"][0].numpy() for sample in parser.get_parsed_content("train#dataset")]
    written = [np.asarray(load(item["scribble"]).dataobj) for item in result["training"]]
    expected = np.concatenate([np.moveaxis(array, -1, 0) for array in written])
    assert {0, 3, 4} <= set(np.unique(expected))
    np.testing.assert_array_equal(np.stack(slices), np.where(expected == 4, 255, expected))
