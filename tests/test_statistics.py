from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from loops import Loop, centroid, mean_intensity, size, slope, spread, values
from monai.data import MetaTensor
from torch import Tensor

from monai_constraints.constraints import Centroid, MeanIntensity, Size, Spread, Statistic
from monai_constraints.constraints.statistics import CACHED_SHAPES

LOOPS: list[tuple[type[Statistic], Loop]] = [
    (Size, size),
    (Centroid, centroid),
    (Spread, spread),
    (MeanIntensity, mean_intensity),
]
# B, C, *S and the image's channels: all different, and different from the K = 4 classes below.
SHAPES = [((3, 5, 6, 7), 2), ((2, 5, 6, 7, 8), 3)]
CLASSES = [[4, 0, 1, 3], [1, 2, 3, 4]]


def region_and_image(shape: tuple[int, ...], channels: int) -> tuple[Tensor, Tensor]:
    return torch.rand(shape).softmax(1), 10 * torch.randn(shape[0], channels, *shape[2:])


@pytest.mark.parametrize("shape, channels", SHAPES)
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("statistic, loop", LOOPS)
def test_values_are_those_of_the_loop(
    statistic: type[Statistic], loop: Loop, classes: list[int], shape: tuple[int, ...], channels: int
) -> None:
    region, image = region_and_image(shape, channels)
    got = statistic(classes=classes)(region, image=image)
    expected = values(loop, region, classes, image)
    assert got.dtype == torch.float32 and got.shape == expected.shape
    torch.testing.assert_close(got.double(), expected, rtol=2e-5, atol=2e-5)


def test_all_classes_by_default() -> None:
    region = torch.rand(3, 5, 6, 7)
    assert torch.equal(Size()(region), Size(classes=range(5))(region))


@pytest.mark.parametrize("statistic, loop", LOOPS)
def test_gradient_is_that_of_the_loop(statistic: type[Statistic], loop: Loop) -> None:
    region, image = region_and_image((2, 3, 4, 5), 2)
    classes = [2, 0]
    weights = torch.randn(values(loop, region, classes, image).shape, dtype=torch.float64)
    region.requires_grad_()
    (statistic(classes=classes)(region, image=image) * weights.float()).sum().backward()
    expected = slope(lambda s: float((values(loop, s, classes, image) * weights).sum()), region)
    torch.testing.assert_close(region.grad.double(), expected, rtol=1e-3, atol=1e-5)


def test_a_box_has_its_closed_form() -> None:
    mask = torch.zeros(1, 1, 30, 40)
    mask[..., 4:13, 20:24] = 1  # 9 rows from 4 to 12, 4 columns from 20 to 23
    assert Size()(mask).item() == 36
    assert Centroid()(mask).flatten().tolist() == [8, 21.5]
    torch.testing.assert_close(Spread()(mask).flatten(), torch.tensor([(81 - 1) / 12, (16 - 1) / 12]))


@pytest.mark.parametrize("dimensions, moment", [(2, 1 / 4), (3, 1 / 5)])
def test_a_disc_and_a_ball_have_their_closed_form(dimensions: int, moment: float) -> None:
    radius, middle = 15.5, (20.0, 24.0, 18.0)[:dimensions]
    axes = torch.meshgrid(*[torch.arange(n).float() for n in (41, 45, 39)[:dimensions]], indexing="ij")
    ball = (sum((x - c) ** 2 for x, c in zip(axes, middle)) <= radius**2)[None, None]
    volume = torch.pi * radius**2 if dimensions == 2 else 4 / 3 * torch.pi * radius**3
    assert Size()(ball).item() == pytest.approx(volume, rel=0.01)
    assert Centroid()(ball).flatten().tolist() == pytest.approx(middle, abs=1e-4)
    assert Spread()(ball).flatten().tolist() == pytest.approx([moment * radius**2] * dimensions, rel=0.01)


def test_an_empty_region_is_at_the_centre_with_finite_gradients() -> None:
    for statistic, expected in ((Size, [0.0]), (Centroid, [2.5, 3.0]), (Spread, [0.0, 0.0]), (MeanIntensity, [0.0])):
        region = torch.zeros(1, 1, 6, 7, requires_grad=True)
        value = statistic()(region, image=torch.rand(1, 1, 6, 7))
        assert value.flatten().tolist() == expected
        value.sum().backward()
        assert region.grad.isfinite().all()


def test_spread_of_a_small_region_in_a_far_corner() -> None:
    mask = torch.zeros(1, 1, 512, 500)
    mask[..., 1:4, 495:499] = 1
    # Centred coordinates reach 255, whose square is 65025: float32 keeps 1e-7 of that.
    torch.testing.assert_close(Spread()(mask).flatten(), torch.tensor([8 / 12, 15 / 12]), rtol=0, atol=0.01)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64, torch.float16, torch.bfloat16])
def test_masks_of_any_type_beyond_the_range_of_float16(dtype: torch.dtype) -> None:
    mask = torch.ones(1, 2, 301, 303, dtype=dtype)  # 91203 > 65504
    size = Size(classes=[1])(mask)
    assert size.dtype == torch.float32 and size.item() == 301 * 303
    assert Centroid(classes=[1])(mask).flatten().tolist() == pytest.approx([150, 151])


def test_autocast_is_left() -> None:
    region, image = region_and_image(*SHAPES[0])
    with torch.autocast("cpu", torch.bfloat16):
        for statistic, _ in LOOPS:
            inside = statistic()(region, image=image)
            assert inside.dtype == torch.float32
            with torch.autocast("cpu", enabled=False):
                assert torch.equal(inside, statistic()(region, image=image))
        watched = Brightness()
        watched.sums(region, image=image)
        assert not watched.autocast


def test_a_million_soft_voxels_lose_no_digits() -> None:
    region = torch.full((1, 1, 1024, 1024), 0.1)
    assert Size()(region).item() == pytest.approx(1024**2 * float(torch.tensor(0.1)), rel=1e-6)
    expected = (1024**2 - 1) / 12
    assert Spread()(region).flatten().tolist() == pytest.approx([expected, expected], rel=1e-5)


def test_metatensors_come_out_plain() -> None:
    region, image = region_and_image(*SHAPES[0])
    for statistic, _ in LOOPS:
        got = statistic(classes=[1, 2])(MetaTensor(region), image=MetaTensor(image))
        assert type(got) is Tensor
        assert torch.equal(got, statistic(classes=[1, 2])(region, image=image))


def test_a_validation_in_inference_mode_does_not_disturb_training() -> None:
    for statistic in (Size(), Centroid(), Spread()):
        region = torch.rand(2, 1, 11, 13, requires_grad=True)  # a shape of this test alone: maps are cached by shape
        with torch.inference_mode():
            statistic(region)
        statistic(region).sum().backward()
        assert region.grad.isfinite().all()


def test_the_cache_does_not_grow_with_every_shape() -> None:
    statistic = Centroid()
    for width in range(3, 3 + 3 * CACHED_SHAPES):
        assert statistic(torch.ones(1, 1, 4, width)).flatten().tolist() == [1.5, (width - 1) / 2]
    assert len(statistic._cache) <= CACHED_SHAPES


class Brightness(Statistic):
    """A user's statistic with all kinds of features: a number, (*S) and (B, *S)."""

    needs_image = True

    def features(self, coordinates: Sequence[Tensor], image: Tensor | None) -> list[float | Tensor]:
        assert image is not None
        self.autocast = torch.is_autocast_enabled("cpu")
        return [2.0, coordinates[0], image[:, 0] ** 2]

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        return sums[..., 2:] / sums[..., :1]


def test_features_of_every_shape_are_combined() -> None:
    region, image = region_and_image(*SHAPES[1])
    sums = Brightness(classes=[3, 1]).sums(region, image=image)
    s = region[:, [3, 1]].double()
    rows = torch.arange(6).double()[:, None, None] - 2.5
    expected = [2 * s, s * rows, s * image[:, :1].double() ** 2]
    expected_sums = torch.stack([e.flatten(2).sum(-1) for e in expected], dim=-1)
    torch.testing.assert_close(sums.double(), expected_sums, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("classes", [[], [1, 1], [-1, 2]])
def test_wrong_lists_of_classes(classes: list[int]) -> None:
    with pytest.raises(ValueError, match=r"Size: classes=.* must be distinct channels >= 0"):
        Size(classes=classes)


def test_errors_name_the_shapes() -> None:
    region = torch.rand(3, 5, 6, 7)
    with pytest.raises(ValueError, match=r"Centroid: expected \(B, C, H, W\).*got \(5, 6, 7\)"):
        Centroid()(region[0])
    with pytest.raises(ValueError, match=r"Size: classes=\[1, 5\] but the region has 5 channels"):
        Size(classes=[1, 5])(region)
    with pytest.raises(ValueError, match="needs both its offset and the whole image's shape"):
        Size()(region, offset=torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"Size: offset \(2,\); expected \(B, D\) = \(3, 2\)"):
        Size()(region, offset=torch.zeros(2), shape=(12, 14))
    with pytest.raises(ValueError, match="MeanIntensity: needs the image"):
        MeanIntensity()(region)
    for wrong in ((3, 2, 6, 8), (1, 2, 6, 7), (3, 6, 7)):
        with pytest.raises(ValueError, match=r"MeanIntensity: image .* does not fit .*expected .* \(3, C, 6, 7\)"):
            MeanIntensity()(region, image=torch.rand(wrong))
