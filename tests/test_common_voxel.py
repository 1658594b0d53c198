"""Images of different voxel sizes on one grid, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, ResizeWithPadOrCropd

from monai_constraints.transforms import CommonVoxeld

AFFINE = torch.diag(torch.tensor([2.0, 1.5, 8.0, 1.0], dtype=torch.float64))


def volume() -> dict[str, Any]:
    """A disc whose mask's header says 1 mm."""
    x, y = np.meshgrid(np.arange(30), np.arange(40), indexing="ij")
    disc = ((x - 14) * 2.0) ** 2 + ((y - 20) * 1.5) ** 2 < 15**2
    mask = torch.as_tensor(np.repeat(disc[None, ..., None], 3, -1).astype(np.float32))
    return {
        "image": MetaTensor(mask * 100, affine=AFFINE, meta={"filename_or_obj": "a.nii.gz"}),
        "label": MetaTensor(mask.clone(), affine=torch.eye(4)),
    }


@pytest.mark.parametrize("header", [AFFINE, torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))])
def test_masks_follow_the_images_voxel_size(header: torch.Tensor) -> None:
    """The sample's `spacing` counts where there is one: the affines of ACDC say 1 mm."""
    before = {**volume(), **({} if header is AFFINE else {"spacing": [2.0, 1.5, 8.0]})}
    before["image"].affine = header
    out = CommonVoxeld(["image", "label", "scribble"], 1.0)(before)
    assert out["image"].shape == out["label"].shape == (1, 59, 60, 3)
    if header is not AFFINE:
        assert out["spacing"] == [1.0, 1.0, 8.0] and before["spacing"] == [2.0, 1.5, 8.0]
        assert CommonVoxeld("image", 1.0)(before)["spacing"] == [2.0, 1.5, 8.0]
    assert out["image"].pixdim.tolist() == pytest.approx([1, 1, 8]) == out["label"].pixdim.tolist()
    assert set(out["label"].unique().tolist()) == {0, 1}
    assert out["label"].sum().item() == pytest.approx(before["label"].sum().item() * 3, rel=0.03)  # the area in mm2
    assert ((out["image"] > 50) != (out["label"] > 0)).float().mean() < 0.02
    assert before["label"].affine.equal(torch.eye(4, dtype=torch.float64))


def test_predictions_come_back_to_the_files_voxels() -> None:
    chain = Compose([CommonVoxeld("image", 1.25), ResizeWithPadOrCropd("image", (64, 64, -1))])
    item = volume()
    seen = chain(item)["image"]
    assert seen.shape == (1, 64, 64, 3) and seen.meta["filename_or_obj"] == "a.nii.gz"
    back = chain.inverse({"image": seen})["image"]
    assert back.shape == item["image"].shape and torch.allclose(back.affine, AFFINE)
    assert torch.equal(back > 50, item["image"] > 50)


def test_nothing_is_resampled_at_zero() -> None:
    item = volume()
    common = CommonVoxeld(["image", "label"], 0)
    out = common(item)
    assert out.keys() == item.keys() and all(out[key] is item[key] for key in item)
    assert common.inverse(out)["image"] is item["image"]


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="mm=-1, expected a voxel size"):
        CommonVoxeld("image", -1)
    item = volume()
    item["label"] = item["label"][:, :-1]
    with pytest.raises(ValueError, match=r"'label' is \(1, 29, 40, 3\), 'image' \(1, 30, 40, 3\); expected one grid"):
        CommonVoxeld(["image", "label"], 1.0)(item)


def test_other_entries_whose_names_begin_alike_are_left_alone() -> None:
    """MONAI 1.6's Spacingd takes every `image_...` for metadata; MONAI Label adds an image_path."""
    step = CommonVoxeld(["image", "label"], 1.0)
    out = step({**volume(), "image_path": "a.nii.gz", "label_count": 3})
    assert out["image_path"] == "a.nii.gz" and out["label_count"] == 3 and out["image"].shape == (1, 59, 60, 3)
    assert step.inverse(out)["image"].shape == (1, 30, 40, 3)
