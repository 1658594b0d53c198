from __future__ import annotations

import math
from itertools import product
from typing import Any

import loops
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor
from torch.nn.functional import avg_pool2d

from monai_constraints.losses import CRFLoss

SHAPES = [(2, 3, 4, 3), (1, 2, 3, 2, 4)]


def energy(
    region: Tensor, intensities: Tensor, *, radius: int, position: float, intensity: float, area_power: float = 0.0
) -> float:
    """The docstring's sum, voxel by voxel."""
    s, image = region.detach().double().numpy(), intensities.double().numpy()
    shape = s.shape[2:]
    window = [o for o in product(range(-radius, radius + 1), repeat=len(shape)) if any(o)]
    neighbours = sum(math.exp(-sum(d * d for d in o) / (2 * position**2)) for o in window)
    voxels, total = math.prod(shape), 0.0
    areas = s.reshape(*s.shape[:2], -1).sum(2)
    for b, p in product(range(len(s)), product(*map(range, shape))):
        for offset in window:
            q = tuple(i + d for i, d in zip(p, offset))
            if any(not 0 <= i < n for i, n in zip(q, shape)):
                continue
            distance = sum(d * d for d in offset) / (2 * position**2)
            for c in range(image.shape[1]):
                distance += (float(image[(b, c, *p)]) - float(image[(b, c, *q)])) ** 2 / (2 * intensity**2)
            for k in range(s.shape[1]):
                cut = math.exp(-distance) * float(s[(b, k, *p)]) * (1 - float(s[(b, k, *q)]))
                total += cut / (voxels ** (1 - area_power) * (1 + float(areas[b, k])) ** area_power)
    return total / (len(s) * neighbours)


@pytest.mark.parametrize("radius", [1, 2, 4])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [1, 2])
def test_value_is_that_of_the_loop(shape: tuple[int, ...], radius: int, channels: int) -> None:
    """With a window larger than the image too."""
    logits, image = torch.randn(shape), torch.rand(shape[0], channels, *shape[2:])
    settings: Any = {"radius": radius, "position": 1.5, "intensity": 0.4}
    for activation, p in (("softmax", logits.softmax(1)), ("sigmoid", logits.sigmoid())):
        expected = energy(p, image, **settings)
        chosen: Any = {activation: True}
        value = CRFLoss(**settings, **chosen)(logits, image)
        assert value.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("area_power", [0.0, 0.5])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_is_that_of_the_loop(shape: tuple[int, ...], area_power: float) -> None:
    p, image = torch.rand(shape).requires_grad_(), torch.rand(shape[0], 1, *shape[2:])
    settings: Any = {"radius": 1, "position": 2.0, "intensity": 0.5, "area_power": area_power}
    CRFLoss(**settings)(p, image).backward()
    expected = loops.slope(lambda s: energy(s, image, **settings), p)
    torch.testing.assert_close(p.grad.double(), expected, rtol=1e-3, atol=1e-6)


def test_stride_is_the_loss_of_the_averaged() -> None:
    p, image = torch.rand(2, 2, 9, 8), torch.rand(2, 1, 9, 8)
    torch.testing.assert_close(CRFLoss(stride=2)(p, image), CRFLoss()(avg_pool2d(p, 2), avg_pool2d(image, 2)))


def test_a_border_costs_least_where_the_image_has_its_edge() -> None:
    image = torch.zeros(1, 1, 16, 16)
    image[..., 4:12, 4:12] = 1

    def cost(start: int, stop: int) -> float:
        inside = torch.zeros(1, 1, 16, 16)
        inside[..., start:stop, start:stop] = 1
        return CRFLoss(radius=3, intensity=0.1)(torch.cat([1 - inside, inside], 1), image).item()

    assert cost(4, 12) < 1e-6 < cost(5, 11) / 100
    assert cost(3, 13) > 1e-4
    # What the docstring warns of: without an edge the smaller of two regions is the cheaper.
    image.zero_()
    assert cost(7, 9) < cost(5, 11)


@pytest.mark.parametrize(("area_power", "expected"), [(0.0, "grows"), (0.5, "stays"), (1.0, "falls")])
def test_area_power_decides_what_a_disc_on_a_flat_image_costs(area_power: float, expected: str) -> None:
    image, axis = torch.zeros(1, 1, 96, 96), torch.arange(96) - 47.5

    def cost(radius: float) -> float:
        disc = ((axis[:, None] ** 2 + axis**2) < radius**2).float()[None, None]
        return CRFLoss(radius=2, area_power=area_power)(disc, image).item()

    ratio = cost(32) / cost(16)
    assert {"grows": 1.8 < ratio < 2.2, "stays": 0.9 < ratio < 1.1, "falls": 0.45 < ratio < 0.55}[expected]


def test_classes_are_chosen_by_channel() -> None:
    p, image = torch.rand(2, 4, 6, 6), torch.rand(2, 1, 6, 6)
    chosen = CRFLoss(classes=[3, 1], area_power=0.5)(p, image)
    torch.testing.assert_close(chosen, CRFLoss(area_power=0.5)(p[:, [1, 3]], image))
    with pytest.raises(ValueError, match=r"classes=\[4\], but the input has 4"):
        CRFLoss(classes=[4])(p, image)


@pytest.mark.parametrize("radius", [1, 5])
def test_lies_between_nothing_and_the_number_of_channels(radius: int) -> None:
    """One class everywhere costs nothing; two that alternate on a flat image cost most."""
    image = torch.zeros(1, 1, 12, 12)
    flat = torch.zeros(1, 2, 12, 12)
    flat[:, 1] = 1
    assert CRFLoss(radius=radius)(flat, image).item() == 0
    board = (torch.arange(12)[:, None] + torch.arange(12)) % 2
    checkered = torch.stack([board, 1 - board]).float()[None]
    assert 0.2 < CRFLoss(radius=radius)(checkered, image).item() < 2


def test_takes_metatensors_and_halves_as_they_come() -> None:
    logits, image = torch.randn(2, 2, 8, 8), torch.rand(2, 1, 8, 8)
    expected = CRFLoss(softmax=True)(logits, image)
    value = CRFLoss(softmax=True)(MetaTensor(logits), MetaTensor(image))
    assert type(value) is Tensor
    torch.testing.assert_close(value, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(CRFLoss(softmax=True)(logits.bfloat16(), image), expected, rtol=0.02, atol=0.01)


@pytest.mark.parametrize(
    "setting",
    [{"radius": 0}, {"stride": 0}, {"position": 0.0}, {"intensity": -1.0}, {"area_power": 2.0}, {"classes": []}],
)
def test_refuses_impossible_settings(setting: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        CRFLoss(**setting)


@pytest.mark.parametrize("shape", [(2, 1, 8, 7), (1, 1, 8, 8), (2, 1, 8, 8, 1)])
def test_refuses_an_image_of_another_grid(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image \("):
        CRFLoss(softmax=True)(torch.randn(2, 2, 8, 8), torch.rand(shape))
