"""Networks of volumes go the way of networks of slices: grid, memory format, inferer, pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Invertd

from monai_constraints.engines import volume_inferer
from monai_constraints.networks import placed
from monai_constraints.pictures.examples import flat
from monai_constraints.transforms import ToGridd


def test_the_grid_of_volumes_and_back() -> None:
    grid = ToGridd(["image", "label"], padded_size=[8, 12, 8], spatial_size=[4, 6, 8])
    assert grid.zoom == [2, 2, 1]
    label = torch.zeros(1, 6, 14, 5)
    label[:, 1:5, 3:11, 1:4] = 1  # whole blocks of 2 x 2 x 1 voxels, behind a voxel of padding and of crop
    image = MetaTensor(100 * label, affine=torch.eye(4, dtype=torch.float64))
    found = grid({"image": image, "label": label.to(torch.uint8)})
    assert found["image"].shape == found["label"].shape == (1, 4, 6, 8) and found["label"].dtype == torch.uint8
    assert torch.equal(found["image"] > 50, found["label"] > 0)
    back = Invertd("image", grid, orig_keys="image", nearest_interp=True)(found)["image"]
    assert torch.equal(back.as_tensor() > 50, label > 0)


@pytest.mark.parametrize("sizes", [([8], [8]), ([8, 8, 8], [8, 8]), ([8, 8], [8, 8, 8])])
def test_sizes_of_as_many_axes(sizes: tuple[list[int], list[int]]) -> None:
    with pytest.raises(ValueError, match="expected two numbers each for slices, or three for volumes"):
        ToGridd("image", padded_size=sizes[0], spatial_size=sizes[1])


@pytest.mark.parametrize(("axes", "memory_format"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
def test_channels_come_last(axes: int, memory_format: torch.memory_format) -> None:
    conv = (torch.nn.Conv2d, torch.nn.Conv3d)[axes - 2](3, 5, 3)
    network = placed(torch.nn.Sequential(conv, torch.nn.BatchNorm2d(5)), "cpu")
    assert network[0] is conv and conv.weight.is_contiguous(memory_format=memory_format)  # type: ignore[index]


@pytest.mark.parametrize("axis", [0, -1])
def test_slices_and_volumes_are_inferred(axis: int) -> None:
    """A network that looks at what lies around a voxel sees as many axes as `roi_size` has numbers."""
    image = torch.rand(1, 1, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    for axes, pool in ((2, torch.nn.AvgPool2d), (3, torch.nn.AvgPool3d)):
        found = volume_inferer([6] * axes, axis)(image, pool(3, 1, 1, count_include_pad=False))
        window = [3] * 3
        if axes == 2:
            window[axis] = 1
        padding = tuple(size // 2 for size in window)
        expected = torch.nn.functional.avg_pool3d(image, window, 1, padding, count_include_pad=False)
        torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="two numbers for slices"):
        volume_inferer([6], axis)


def test_pictures_show_the_boxes_that_cross_their_slice() -> None:
    label = np.zeros((1, 6, 5, 4))
    label[0, 2:4, 1:3, 2] = 1
    boxes = np.array([[[[2, 4], [1, 3], [2, 3]]], [[[0, 2], [0, 2], [0, 2]]]])
    row = flat({"image": label, "label": label, "prediction": label, "boxes": boxes, "dice": 1, "case": "a"})
    assert row["image"].shape == (6, 5) and row["boxes"].tolist() == [[[[2, 4], [1, 3]]], [[[0, 0], [0, 0]]]]
