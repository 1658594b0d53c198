from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from monai_constraints.constraints import GroupPooling, ImagePooling, get_pooling

B, K, F, M = 5, 3, 4, 2
NAMES = ["b", "a", "b", "c", "b"]


def sums_and_bounds() -> tuple[Tensor, Tensor]:
    bounds = {name: torch.randn(K, M, 2) for name in sorted(set(NAMES))}
    return torch.randn(B, K, F), torch.stack([bounds[name] for name in NAMES])


def test_images_are_left_alone() -> None:
    sums, bounds = sums_and_bounds()
    assert ImagePooling()(sums, bounds, None) == (sums, bounds)


@pytest.mark.parametrize("groups", [NAMES, tuple(NAMES), [7, 3, 7, -1, 7], torch.tensor([7, 3, 7, -1, 7])])
def test_groups_are_added_in_the_order_they_come(groups: list[str] | Tensor) -> None:
    sums, bounds = sums_and_bounds()
    pooled, shared = GroupPooling()(sums, bounds, groups)
    expected = torch.zeros(3, K, F, dtype=torch.float64)
    for group, name in enumerate("bac"):
        for b, k, f in product(range(B), range(K), range(F)):
            if NAMES[b] == name:
                expected[group, k, f] += float(sums[b, k, f])
    torch.testing.assert_close(pooled.double(), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(shared, bounds[[0, 1, 3]])


def test_every_sample_of_a_group_receives_the_gradient() -> None:
    sums, bounds = sums_and_bounds()
    sums.requires_grad_()
    weights = torch.randn(3, K, F)
    (GroupPooling()(sums, bounds, NAMES)[0] * weights).sum().backward()
    assert torch.equal(sums.grad, weights[[0, 1, 0, 2, 0]])


def test_errors() -> None:
    sums, bounds = sums_and_bounds()
    pool = GroupPooling()
    with pytest.raises(ValueError, match=r"no groups; pass group=batch\['case'\]"):
        pool(sums, bounds, None)
    with pytest.raises(ValueError, match="4 groups for a batch of 5"):
        pool(sums, bounds, NAMES[:4])
    bounds[4, 1, 0, 1] += 1
    with pytest.raises(ValueError, match="samples of one group have different bounds"):
        pool(sums, bounds, NAMES)


def test_infinite_bounds_agree_with_each_other() -> None:
    sums, bounds = sums_and_bounds()
    bounds[..., 1] = torch.inf
    assert GroupPooling()(sums, bounds, NAMES)[1].shape == (3, K, M, 2)


def test_by_name() -> None:
    assert isinstance(get_pooling("image"), ImagePooling) and isinstance(get_pooling("group"), GroupPooling)
    own = GroupPooling()
    assert get_pooling(own) is own
    with pytest.raises(ValueError, match=r"pooling='volume'; choose one of \['group', 'image'\]"):
        get_pooling("volume")  # type: ignore[arg-type]
