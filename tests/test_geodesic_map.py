from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy import ndimage

from monai_constraints.losses import BoundaryMapLoss
from monai_constraints.transforms import GeodesicDistanceMapd

UNKNOWN = 255


def steps(image: np.ndarray, spacing: list[float], intensity: float) -> np.ndarray:
    """The length of the step between any two voxels, infinite where they aren't neighbours; loops as in the paper."""
    at = list(product(*map(range, image.shape[1:])))
    found = np.full((len(at), len(at)), np.inf)
    for i, p in enumerate(at):
        for j, r in enumerate(at):
            if max(abs(a - b) for a, b in zip(p, r)) <= 1:
                length = sum((size * (a - b)) ** 2 for size, a, b in zip(spacing, p, r))
                apart = image[(slice(None), *p)] - image[(slice(None), *r)]
                found[i, j] = (length + intensity**2 * (apart**2).sum()) ** 0.5
    return found


def brute(image: np.ndarray, weak: np.ndarray, classes: list[int], lengths: np.ndarray) -> np.ndarray:
    """The maps from the shortest paths between all pairs of voxels (Floyd and Warshall)."""
    between = lengths.copy()
    for k in range(len(between)):
        between = np.minimum(between, between[:, k, None] + between[None, k])
    flat = weak.ravel()
    maps = []
    for k in classes:
        own, other = between[:, flat == k], between[:, (flat != k) & (flat != UNKNOWN)]
        if not own.size or not other.size:
            maps.append(np.zeros(weak.shape))
        else:
            maps.append(((own.min(1) - other.min(1)) / 2).reshape(weak.shape))
    return np.stack(maps)


def phi(image: Any, weak: Any, **options: Any) -> torch.Tensor:
    options = {"classes": [0, 1], "intensity": 10.0, **options}
    if not isinstance(image, MetaTensor) and "spacing_key" not in options:
        options.setdefault("spacing", "voxel")
    return GeodesicDistanceMapd(**options)({"image": image, "weak": weak, "case": "a"})["distance"]


def blank(*shape: int, **points: tuple[int, ...]) -> torch.Tensor:
    """Scribbles of one voxel each: c1=(3, 4) is class 1 there."""
    weak = torch.full((1, *shape), UNKNOWN, dtype=torch.uint8)
    for name, at in points.items():
        weak[(0, *at)] = int(name[1:])
    return weak


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[float], float]:
    axes = draw(st.integers(2, 3))
    shape = tuple(draw(st.lists(st.integers(1, 5 if axes == 2 else 3), min_size=axes, max_size=axes)))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    image = rng.random((draw(st.integers(1, 2)), *shape))
    weak = rng.choice([0, 1, 2, UNKNOWN], p=[0.1, 0.1, 0.1, 0.7], size=shape).astype(np.uint8)
    return image, weak, draw(st.lists(st.floats(0.2, 5), min_size=axes, max_size=axes)), draw(st.floats(0, 50))


@given(case=cases())
@settings(max_examples=60, deadline=None)
def test_equals_brute_force_on_any_image(case: tuple[np.ndarray, np.ndarray, list[float], float]) -> None:
    image, weak, spacing, intensity = case
    lengths = steps(image, spacing, intensity)
    expected = brute(image, weak, [0, 1, 2], lengths)
    got = phi(image, weak[None], classes=[0, 1, 2], spacing=spacing, intensity=intensity)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    # Half of a difference of distances changes by at most a step, and is negative in one class at most.
    flat = expected.reshape(3, -1)
    assert (np.abs(flat[:, :, None] - flat[:, None]) <= lengths + 1e-9).all()
    assert ((flat < 0).sum(0) <= 1).all()
    # Class 0 is not listed, but its scribbles are still others'.
    some = phi(image, weak[None], classes=[2], allow_others=True, spacing=spacing, intensity=intensity)
    np.testing.assert_allclose(some[0], expected[2], rtol=1e-5, atol=1e-5)


def test_between_two_lines_of_a_constant_image_it_is_the_signed_distance_to_the_middle() -> None:
    weak = blank(6, 21)
    weak[:, :, 0], weak[:, :, 20] = 0, 1
    got = phi(torch.full((1, 6, 21), 7.0), weak, spacing=[1.0, 0.5])
    expected = (0.5 * (10 - torch.arange(21.0))).expand(6, 21)
    torch.testing.assert_close(got, torch.stack([-expected, expected]))


@pytest.mark.parametrize(("shape", "excess"), [((30, 40), 1.0824), ((12, 14, 16), 1.1282)])
def test_on_a_constant_image_it_is_euclidean_within_the_error_of_a_grid(shape: tuple[int, ...], excess: float) -> None:
    rng = np.random.default_rng(0)
    weak = blank(*shape, **{f"c{k}": tuple(rng.integers(shape)) for k in (0, 1)})
    own, other = (ndimage.distance_transform_edt(weak[0] != k) for k in (1, 0))
    got = phi(torch.zeros(1, *shape), weak)[1].numpy()
    assert (got >= (own - excess * other) / 2 - 1e-4).all() and (got <= (excess * own - other) / 2 + 1e-4).all()
    assert np.abs(got - (own - other) / 2).max() > 0.1  # so the bounds say something


def test_a_wall_is_walked_around() -> None:
    image = torch.zeros(1, 9, 12)
    image[:, 1:, 5] = 1  # a gap in the first row
    weak = blank(9, 12, c1=(8, 4), c0=(8, 11))
    behind = (1, 8, 6)
    assert phi(image, weak, intensity=0)[behind] == (2 - 5) / 2
    # Up 7 and to the gap by a diagonal, down by a diagonal and 7.
    around = 7 + 2**0.5 + 2**0.5 + 7
    assert float(phi(image, weak, intensity=1000.0)[behind]) == pytest.approx((around - 5) / 2, rel=1e-5)
    # Where a path around is long enough, it goes through.
    assert float(phi(image, weak, intensity=2.0)[behind]) == pytest.approx((2 * 5**0.5 - 5) / 2, rel=1e-5)


def test_one_point_a_class_finds_a_disc_and_the_loss_prefers_it() -> None:
    x, y = np.ogrid[:32, :30]
    disc = (x - 14) ** 2 + (y - 17) ** 2 <= 49
    image = disc + 0.02 * np.random.default_rng(0).normal(size=disc.shape)
    weak = blank(32, 30, c0=(1, 2), c1=(17, 13))
    found = phi(image[None], weak, intensity=100.0)
    assert np.array_equal(found[1] < 0, disc) and torch.equal(found[0], -found[1])
    assert not np.array_equal(phi(image[None], weak, intensity=0)[1] < 0, disc)
    logits = torch.zeros(1, 2, 32, 30, requires_grad=True)
    BoundaryMapLoss(softmax=True)(logits, found[None]).backward()
    assert logits.grad is not None and np.array_equal(logits.grad[0, 1] < 0, disc)


def test_a_class_without_scribble_is_zero_and_one_class_alone_too() -> None:
    image = torch.rand(1, 8, 9)
    two = phi(image, blank(8, 9, c0=(1, 1), c2=(6, 7)), classes=[0, 1, 2])
    assert not two[1].any() and two[0].all() and torch.equal(two[0], -two[2])
    for weak in (blank(8, 9), blank(8, 9, c1=(3, 4)), blank(8, 9, c0=(3, 4))):
        assert not phi(image, weak, classes=[0, 1, 2]).any()


def test_slices_are_measured_alone() -> None:
    image = np.random.default_rng(0).random((2, 7, 6, 4))
    weak = blank(7, 6, 4, c0=(1, 1, 0), c1=(5, 4, 0), c2=(3, 3, 2))
    weak[0, 2, 3, 0] = 2
    whole = phi(image, weak, classes=[0, 1, 2], spacing=[1, 2, 3], slice_axis=-1)
    for z in range(4):
        alone = phi(image[..., z], weak[..., z], classes=[0, 1, 2], spacing=[1, 2])
        torch.testing.assert_close(whole[..., z], alone)
    assert whole[..., 0].all() and not whole[..., 1:].any()
    middle = phi(image, weak, classes=[0, 1, 2], spacing=[1, 2, 3], slice_axis=1)
    torch.testing.assert_close(middle[:, :, 3], phi(image[:, :, 3], weak[:, :, 3], classes=[0, 1, 2], spacing=[1, 3]))


def test_spacing_from_the_images_affine_an_entry_or_a_list() -> None:
    values, spacing = torch.rand(1, 4, 3, 2), [0.5, 1.25, 8.0]
    weak = blank(4, 3, 2, c0=(0, 0, 0), c1=(3, 2, 1))
    expected = brute(values.numpy(), weak[0].numpy(), [0, 1], steps(values.double().numpy(), spacing, 10))
    turned = np.array([[0, -1.25, 0, 3], [0.5, 0, 0, 4], [0, 0, 8, 5], [0, 0, 0, 1.0]])
    image = MetaTensor(values, affine=torch.from_numpy(turned))
    lying = MetaTensor(weak, affine=torch.eye(4, dtype=torch.float64))
    samples: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"image": image, "weak": lying}, {}),
        ({"image": values, "weak": lying, "other": image}, {"spacing_key": "other"}),
        ({"image": values, "weak": weak, "spacing": spacing}, {"spacing_key": "spacing"}),
        ({"image": image, "weak": weak}, {"spacing": spacing}),
    ]
    for sample, options in samples:
        got = GeodesicDistanceMapd(classes=[0, 1], intensity=10, **options)(sample)["distance"]
        np.testing.assert_allclose(got, expected, rtol=1e-5)
        assert isinstance(got, MetaTensor) == isinstance(sample["weak"], MetaTensor)
    first = GeodesicDistanceMapd(classes=[0, 1], intensity=10)(samples[0][0])["distance"]
    assert torch.equal(first.affine, lying.affine)


def test_clip_and_the_value_of_unknown() -> None:
    image, weak = torch.rand(1, 12, 9), blank(12, 9, c0=(0, 0), c1=(11, 8))
    plain = phi(image, weak)
    assert plain.abs().max() > 5
    assert torch.equal(phi(image, weak, clip=5), plain.clamp(-5, 5))
    assert torch.equal(phi(image, torch.where(weak == 255, 4, weak), unknown=4), plain)


IMAGE = torch.zeros(1, 4, 5)


@pytest.mark.parametrize(
    ("weak", "options", "message"),
    [
        (torch.full((1, 4, 5), 0.5), {}, r"'weak' of case 'a' holds 0.5; expected \[0, 1\], or unknown=255"),
        (torch.full((1, 4, 5), 0.5), {"allow_others": True}, "holds 0.5"),
        (torch.full((1, 4, 5), 4), {}, r"holds 4; expected \[0, 1\], or unknown=255: .* allow_others=True"),
        (torch.arange(20).reshape(1, 4, 5), {}, "holds 2, 3, 4, 5, 6 and more; expected"),
        (torch.zeros(2, 4, 5), {}, r"shape \(2, 4, 5\); expected \(1, \*S\)"),
        (torch.zeros(1, 5), {}, r"shape \(1, 5\); expected \(1, \*S\)"),
        (torch.zeros(1, 4, 5), {"slice_axis": -1}, "slice_axis=-1 is for volumes"),
        (torch.zeros(1, 4, 6), {}, r"'image' of case 'a' has shape \(1, 4, 5\), 'weak' \(1, 4, 6\)"),
        (torch.zeros(1, 4, 5), {"spacing": None}, "voxel size of case 'a' is missing: 'image' is a Tensor without"),
        (torch.zeros(1, 4, 5), {"spacing": [1.0, 1.0, 1.0]}, r"is \[1.0, 1.0, 1.0\]; expected 2 numbers > 0"),
    ],
)  # fmt: skip
def test_bad_scribbles_are_named(weak: torch.Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        phi(IMAGE, weak, **options)


def test_bad_settings_and_images_are_named() -> None:
    for options, message in (
        ({"classes": [1, 1]}, "GeodesicDistanceMapd: classes="),
        ({"classes": [0, 255]}, "hold unknown=255"),
        ({"intensity": -1}, "intensity=-1"),
        ({"intensity": float("nan")}, "intensity=nan"),
        ({"clip": 0}, "clip=0"),
        ({"spacing": [1, 1], "spacing_key": "spacing"}, "give one of them"),
    ):
        with pytest.raises(ValueError, match=message):
            GeodesicDistanceMapd(**{"classes": [0, 1], "intensity": 1, **options})  # type: ignore[arg-type]
    transform = GeodesicDistanceMapd(classes=[0, 1], intensity=1, spacing="voxel")
    for missing in ("image", "weak"):
        sample = {"image": IMAGE, "weak": blank(4, 5)}
        del sample[missing]
        with pytest.raises(KeyError, match=f"the sample has no '{missing}'"):
            transform(sample)
    with pytest.raises(ValueError, match="'image' of case 'b' holds NaN or infinite"):
        transform({"image": IMAGE / 0, "weak": blank(4, 5), "case": "b"})
