from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ScaleIntensityRangePercentilesd

from monai_constraints.transforms import ScalePercentilesd


@pytest.mark.parametrize("limits", [(1, 99), (0, 100), (5, 99.5)])
@pytest.mark.parametrize("shape", [(1, 31, 29), (2, 16, 17, 9), (1, 128, 128, 10), (1, 128, 128, 62)])
def test_equals_monai_to_the_last_bit(limits: tuple[float, float], shape: tuple[int, ...]) -> None:
    image = torch.from_numpy(np.random.default_rng(0).gamma(2, 300, shape)).float()
    image = MetaTensor(image, affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])))
    lower, upper = limits
    got = ScalePercentilesd("image", lower=lower, upper=upper)({"image": image, "case": "a"})
    theirs = ScaleIntensityRangePercentilesd("image", lower, upper, b_min=0, b_max=1, clip=True)({"image": image})
    assert got["case"] == "a" and got["image"].dtype == torch.float32
    assert torch.equal(got["image"].affine, image.affine)
    np.testing.assert_array_equal(got["image"].numpy(), theirs["image"].numpy())
    assert got["image"].min() == 0 and got["image"].max() == 1


def test_integers_and_one_value() -> None:
    scale = ScalePercentilesd("image", lower=0, upper=100)
    image = np.array([[[-3, 1], [5, 3]]], np.int16)
    np.testing.assert_array_equal(scale({"image": image})["image"], np.float32([[[0, 0.5], [1, 0.75]]]))
    assert image[0, 0, 0] == -3
    assert not scale({"image": np.full((1, 4, 4), 7.0)})["image"].any()


def test_channels_on_scales_of_their_own() -> None:
    image = torch.from_numpy(np.random.default_rng(0).gamma(2, 300, (3, 16, 17, 4))).float()
    factors = torch.tensor([1.0, 30.0, 0.01]).reshape(3, 1, 1, 1)
    scale = ScalePercentilesd("image", upper=99.9, channel_wise=True)
    got = scale({"image": MetaTensor(factors * image - 1000 * factors)})["image"]
    assert got.shape == image.shape and (got.amax((1, 2, 3)) == 1).all() and not got.amin((1, 2, 3)).any()
    for channel, one in zip(got, image):
        alone = ScalePercentilesd("image", upper=99.9)({"image": one[None]})["image"][0]
        torch.testing.assert_close(channel.as_tensor(), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("limits", [(-1, 99), (99, 1), (50, 50), (1, 101)])
def test_wrong_limits(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="expected 0 <= lower < upper <= 100"):
        ScalePercentilesd("image", lower=limits[0], upper=limits[1])
