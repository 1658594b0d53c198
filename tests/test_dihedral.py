from __future__ import annotations

import pytest
import torch

from monai_constraints import Centroid, Size
from monai_constraints.transforms import RandDihedrald


def test_it_draws_all_eight_symmetries_alike_for_all_keys() -> None:
    image = torch.arange(9.0).reshape(1, 3, 3)
    transform = RandDihedrald(["image", "weak"]).set_random_state(seed=0)
    seen = set()
    for _ in range(200):
        out = transform({"image": image, "weak": image.long(), "case": "a"})
        assert torch.equal(out["image"].long(), out["weak"]) and out["case"] == "a"
        seen.add(tuple(out["image"].flatten().tolist()))
    assert len(seen) == 8
    # The symmetries of the square keep the middle and the set of corners.
    assert all(grid[4] == 4 and {grid[0], grid[2], grid[6], grid[8]} == {0, 2, 6, 8} for grid in seen)


def test_it_keeps_the_size_and_moves_the_centroid() -> None:
    mask = torch.zeros(1, 1, 7, 7)
    mask[..., 1:3, 0:4] = 1
    transform = RandDihedrald("mask").set_random_state(seed=1)
    turned = torch.stack([transform({"mask": mask[0]})["mask"] for _ in range(20)])
    assert (Size()(turned) == 8).all()
    assert Centroid()(turned).std(0).min() > 0.5


def test_a_slice_that_is_not_square_is_an_error() -> None:
    with pytest.raises(ValueError, match="image.*square"):
        RandDihedrald("image")({"image": torch.zeros(1, 3, 4)})
