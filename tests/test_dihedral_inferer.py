"""Test-time augmentation: each of the eight views once, turned back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer, SliceInferer

from monai_constraints.engines import AutocastInferer, DihedralInferer


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    # a stride and two borders, so that no view is like another one
    return torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3, stride=2, padding=1), torch.nn.Upsample(scale_factor=2)).eval()


def test_mean_of_the_eight_views_in_numpy(network: torch.nn.Module) -> None:
    image = torch.randn(4, 2, 8, 8)
    expected = np.zeros((4, 3, 8, 8))
    for k in range(4):
        for mirror in (lambda x: x, lambda x: x[..., ::-1]):
            view = mirror(np.rot90(image.numpy(), k, (2, 3))).copy()
            p = network(torch.from_numpy(view)).softmax(1).detach().numpy()
            expected += np.rot90(mirror(p), -k, (2, 3)) / 8
    with torch.no_grad():
        found = DihedralInferer(AutocastInferer(False))(image, network)
    np.testing.assert_allclose(found.exp(), expected, atol=1e-6)
    np.testing.assert_allclose(found.softmax(1), expected, atol=1e-6)


@torch.no_grad()
def test_the_prediction_turns_with_the_image(network: torch.nn.Module) -> None:
    image = torch.randn(1, 2, 8, 8)
    for inferer, same in ((DihedralInferer(SimpleInferer()), True), (SimpleInferer(), False)):
        before, after = inferer(image, network), inferer(torch.rot90(image, 1, (2, 3)).flip(2), network)
        assert torch.allclose(torch.rot90(before.softmax(1), 1, (2, 3)).flip(2), after.softmax(1), atol=1e-6) is same


@torch.no_grad()
def test_a_volume_in_slices(network: torch.nn.Module) -> None:
    volume = torch.randn(1, 2, 8, 8, 5)
    found = DihedralInferer(SliceInferer(roi_size=(8, 8), spatial_dim=2, sw_batch_size=3))(volume, network)
    slices = volume[0].permute(3, 0, 1, 2)
    expected = DihedralInferer(SimpleInferer())(slices, network).permute(1, 2, 3, 0)[None]
    assert torch.allclose(found, expected, atol=1e-5)


@torch.no_grad()
def test_off_leaves_the_logits(network: torch.nn.Module) -> None:
    image = torch.randn(2, 2, 8, 6)
    assert torch.equal(DihedralInferer(SimpleInferer(), enabled=False)(image, network), network(image))


def test_where_it_cannot_be_is_said(network: torch.nn.Module) -> None:
    inferer = DihedralInferer(SimpleInferer())
    with pytest.raises(ValueError, match=r"images of \[8, 6\]; quarter turns need a square"):
        inferer(torch.randn(1, 2, 8, 6), network)
    with pytest.raises(ValueError, match=r"images of \[192, 160\]"):
        inferer.check_size([192, 160])
    inferer.check_size([192, 192])
    DihedralInferer(SimpleInferer(), enabled=False).check_size([192, 160])
    with pytest.raises(ValueError, match="two channels"):
        inferer(torch.randn(1, 2, 8, 8), lambda x: x[:, :1])


def test_a_sure_network_gives_no_infinity() -> None:
    logits = torch.tensor([0.0, 500.0]).reshape(1, 2, 1, 1).expand(1, 2, 4, 4)
    found = DihedralInferer(SimpleInferer())(torch.zeros(1, 1, 4, 4), lambda x: logits)
    assert found.isfinite().all() and (found.argmax(1) == 1).all()
