from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from loops import Loop, centroid, mean_intensity, size, slope, spread, values
from monai.data import MetaTensor
from torch import Tensor

from monai_constraints.constraints import Centroid, MeanIntensity, Patch, Root, Size, Spread, Statistic
from monai_constraints.constraints.block_sums import block_sums
from monai_constraints.constraints.coordinates import CACHED_SHAPES
from monai_constraints.constraints.statistic import Feature

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
        watched.measure(region, image=image)
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
    statistic = LeftHalf()
    for width in range(3, 3 + 3 * CACHED_SHAPES):
        assert statistic(torch.ones(1, 1, 4, width)).item() == 4 * (width // 2)
    assert len(statistic._cache) <= CACHED_SHAPES


@pytest.mark.parametrize("shape", [(2, 3, 6, 7), (2, 3, 5, 6, 7)])
@pytest.mark.parametrize("statistic", [Size(), Centroid(), Spread()])
def test_row_and_column_sums_are_those_of_the_maps(statistic: Statistic, shape: tuple[int, ...]) -> None:
    """The shorter way to the same sums, with the same slope, for patches of images of several shapes too."""
    region = torch.rand(shape, requires_grad=True)
    dimensions = len(shape) - 2
    offset = torch.tensor([[3, 0, 9], [1, 4, 2]])[:, :dimensions]
    patch = Patch(offset, torch.randint(15, 40, (2, dimensions)))
    for where in (None, patch):
        got = statistic.measure(region, patch=where)
        expected = block_sums(region, statistic.feature_maps(shape[2:], region.device, patch=where))
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-3)
        weights = torch.randn_like(got)
        slopes = [torch.autograd.grad((sums * weights).sum(), region)[0] for sums in (got, expected)]
        torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-3)


def test_ten_million_voxels_lose_no_digits() -> None:
    region = torch.rand(1, 1, 16, 800, 800, generator=torch.Generator().manual_seed(0))
    rows = [region[0, 0].double().movedim(axis, 0).flatten(1).sum(1) for axis in range(3)]
    size = float(rows[0].sum())
    places = [torch.arange(len(r)).double() for r in rows]
    means = [float((r * x).sum() / size) for r, x in zip(rows, places)]
    spreads = [float((r * (x - m) ** 2).sum() / size) for r, x, m in zip(rows, places, means)]
    for statistic, expected in ((Size(), [size]), (Centroid(), means), (Spread(), spreads)):
        assert statistic(region).flatten().tolist() == pytest.approx(expected, rel=1e-6)


class LeftHalf(Statistic):
    """A map of a user's own, which is kept."""

    def features(self, coordinates: Sequence[Tensor], image: Tensor | None, boxes: Tensor | None) -> Sequence[Feature]:
        return [(coordinates[-1] < 0).float()]

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        return sums


class Outside(Statistic):
    """What lies outside of each class's boxes: a map for each sample and class."""

    needs_boxes = True

    def features(self, coordinates: Sequence[Tensor], image: Tensor | None, boxes: Tensor | None) -> Sequence[Feature]:
        assert boxes is not None
        sides = boxes[(...,) + (None,) * len(coordinates)]  # (B, K, J, D, 2, *S)
        inside = torch.ones(())
        for axis, c in enumerate(coordinates):
            c = c if c.ndim == len(coordinates) else c[:, None, None]
            inside = inside * ((c >= sides[:, :, :, axis, 0]) & (c < sides[:, :, :, axis, 1]))
        return [1 - inside.amax(2)]

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        return sums


def test_a_map_for_each_class_from_its_boxes_in_patches_too() -> None:
    region, boxes = torch.rand(2, 3, 8, 9), torch.randint(0, 7, (2, 2, 2, 2, 2))
    expected = torch.zeros(2, 2, 1)
    for b, k, y, x in torch.cartesian_prod(*map(torch.arange, (2, 2, 8, 9))).tolist():
        inside = [y0 <= y < y1 and x0 <= x < x1 for (y0, y1), (x0, x1) in boxes[b, k].tolist()]
        expected[b, k, 0] += 0.0 if any(inside) else region[b, k + 1, y, x]
    outside = Outside(classes=[1, 2])
    torch.testing.assert_close(outside(region, boxes=boxes), expected)
    shape = torch.tensor([[8, 9]] * 2)
    halves = [
        outside.measure(region[..., cut], boxes=boxes, patch=Patch(torch.tensor([[0, start]] * 2), shape))
        for start, cut in ((0, slice(0, 4)), (4, slice(4, 9)))
    ]
    torch.testing.assert_close(halves[0] + halves[1], expected)


class Longest(Outside):
    """A shorter way to the sum than a map, of a lifted region: the longest row within the boxes' first rows."""

    needs_boxes, reach = False, None

    def lift(self, region: Tensor) -> Tensor:
        return torch.cat([region, region.cummax(-1).values], dim=1)

    def sums(self, region: Tensor, *, image: Tensor | None, boxes: Tensor | None, patch: Patch | None) -> Tensor:
        return region.sum(-1)

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        return sums.amax(-1, keepdim=True).sum(-2, keepdim=True)  # one value of all classes


def test_a_lift_other_sums_and_values_of_several_classes() -> None:
    region = torch.rand(3, 4, 5, 6)
    chosen = region[:, [0, 2]]
    expected = chosen.sum(-1).amax(-1).sum(1) + chosen.cummax(-1).values.sum(-1).amax(-1).sum(1)
    torch.testing.assert_close(Longest(classes=[0, 2])(region).flatten(), expected)


@pytest.mark.parametrize("inner", [Size(classes=[1, 3]), Spread(classes=[1, 3])])
def test_a_root_is_that_of_the_values(inner: Statistic) -> None:
    region = torch.rand(3, 5, 6, 7)
    torch.testing.assert_close(Root(inner)(region), inner(region).sqrt())
    assert Root(inner).classes == (1, 3) and Root(inner).minimum == 0 and Root(inner).ruled is inner
    assert Root(Root(inner)).ruled is inner and Root(inner).absent == inner.absent
    empty = torch.zeros(3, 5, 6, 7, requires_grad=True)
    value = Root(inner)(empty)
    value.sum().backward()
    assert not value.any() and not empty.grad.any()


def test_a_root_needs_what_its_statistic_needs() -> None:
    region, image = region_and_image(*SHAPES[0])
    brightness = Brightness(classes=[2])
    brightness.minimum = 0.0
    torch.testing.assert_close(Root(brightness)(region, image=image), brightness(region, image=image).sqrt())
    with pytest.raises(ValueError, match="Root: needs the image"):
        Root(brightness)(region)
    with pytest.raises(ValueError, match="Root: Centroid may be negative"):
        Root(Centroid())


class Brightness(Statistic):
    """A user's statistic with all kinds of features: a number, (*S) and (B, *S)."""

    needs_image = True

    def features(self, coordinates: Sequence[Tensor], image: Tensor | None, boxes: Tensor | None) -> Sequence[Feature]:
        assert image is not None
        self.autocast = torch.is_autocast_enabled("cpu")
        return [2.0, coordinates[0], image[:, 0] ** 2]

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        return sums[..., 2:] / sums[..., :1]


def test_features_of_every_shape_are_combined() -> None:
    region, image = region_and_image(*SHAPES[1])
    sums = Brightness(classes=[3, 1]).measure(region, image=image)
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
    with pytest.raises(ValueError, match=r"Size: classes=\[1, 5\], but the input has 5 channels"):
        Size(classes=[1, 5])(region)
    with pytest.raises(ValueError, match=r"Size: the patch's offset is \(2,\); expected \(B, D\) = \(3, 2\)"):
        Size()(region, patch=Patch(torch.zeros(2), torch.tensor([[12, 14]] * 3)))
    with pytest.raises(ValueError, match=r"Size: the patch's shape is \(1, 2\); expected \(B, D\) = \(3, 2\)"):
        Size()(region, patch=Patch(torch.zeros(3, 2), torch.tensor([[12, 14]])))
    with pytest.raises(ValueError, match="Longest: looks at the whole image and cannot be summed over patches"):
        Longest()(region, patch=Patch(torch.zeros(3, 2), torch.tensor([[12, 14]] * 3)))
    with pytest.raises(ValueError, match="Outside: needs the boxes"):
        Outside()(region)
    with pytest.raises(ValueError, match=r"Outside: boxes \(3, 5, 1, 3, 2\) do not fit .*\(3, K, J, 2, 2\)"):
        Outside()(region, boxes=torch.zeros(3, 5, 1, 3, 2))
    with pytest.raises(ValueError, match="MeanIntensity: needs the image"):
        MeanIntensity()(region)
    for wrong in ((3, 2, 6, 8), (1, 2, 6, 7), (3, 6, 7)):
        with pytest.raises(ValueError, match=r"MeanIntensity: image .* does not fit .*expected .* \(3, C, 6, 7\)"):
            MeanIntensity()(region, image=torch.rand(wrong))
