from __future__ import annotations

from typing import Any

import edt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.data import DataLoader, Dataset, MetaTensor
from monai.losses import BoundaryLoss
from scipy import ndimage

from monai_constraints.data import SliceDataset
from monai_constraints.transforms import SignedDistanceMapd
from monai_constraints.transforms.maps import distances

masks = st.integers(2, 3).flatmap(lambda d: hnp.arrays(bool, hnp.array_shapes(min_dims=d, max_dims=d, max_side=6)))
sizes = st.floats(0.1, 6.0)


def brute(mask: np.ndarray, spacing: list[float]) -> np.ndarray:
    """phi in float64 from the distances between all pairs of voxels."""
    if not mask.any() or mask.all():
        return np.zeros(mask.shape)
    at = np.argwhere(np.ones(mask.shape)) * np.array(spacing)
    between = np.linalg.norm(at[:, None] - at[None], axis=-1)
    flat = mask.ravel()
    nearest = np.where(flat[:, None] != flat[None], between, np.inf).min(1).reshape(mask.shape)
    step = min(size for size, n in zip(spacing, mask.shape) if n > 1)
    return np.where(mask, step - nearest, nearest)


def published(mask: np.ndarray, spacing: list[float] | None = None, shift: float = 1.0) -> np.ndarray:
    """The two transforms of SciPy."""
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
    inside = ndimage.distance_transform_edt(mask, sampling=spacing)
    return outside * ~mask - (inside - shift) * mask


def phi(label: Any, **options: Any) -> torch.Tensor:
    options = {"classes": [1], **options}
    if not isinstance(label, MetaTensor) and "spacing_key" not in options:
        options.setdefault("spacing", "voxel")
    return SignedDistanceMapd(**options)({"label": label})["distance"]


def blob(*shape: int, seed: int = 0, share: float = 70) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 3)
    return noise > np.percentile(noise, share)


@given(mask=masks, spacing=st.lists(sizes, min_size=3, max_size=3))
@settings(max_examples=150, deadline=None)
def test_equals_brute_force_at_any_spacing(mask: np.ndarray, spacing: list[float]) -> None:
    spacing = spacing[: mask.ndim]
    label = torch.from_numpy(mask)[None]
    both = phi(label.to(torch.uint8), classes=[0, 1], spacing=spacing)
    assert both.dtype == torch.float32 and both.shape == (2, *mask.shape)
    np.testing.assert_allclose(both[1], brute(mask, spacing), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(both[0], brute(~mask, spacing), rtol=1e-5, atol=1e-5)
    assert (both[1][label[0]] <= 0).all() and (both[1][~label[0]] >= 0).all()


@pytest.mark.parametrize("shape", [(60, 71), (25, 31, 37)])
def test_equals_two_scipy_transforms_at_unit_spacing(shape: tuple[int, ...]) -> None:
    mask = blob(*shape)
    np.testing.assert_allclose(phi(mask[None])[0], published(mask), atol=1e-4)
    spacing = [0.7, 1.3, 5.0][: len(shape)]
    np.testing.assert_allclose(phi(mask[None], spacing=spacing)[0], published(mask, spacing, 0.7), atol=1e-4)


@pytest.mark.parametrize("size", [0.5, 2.0])
def test_the_voxel_next_to_the_boundary_is_zero_in_any_unit(size: float) -> None:
    mask = blob(40, 50)
    np.testing.assert_allclose(phi(mask[None], spacing=[size, size]), size * phi(mask[None]), atol=1e-5)
    edge = mask & ~ndimage.binary_erosion(mask, border_value=1)
    assert phi(mask[None], spacing=[size, size])[0][torch.from_numpy(edge)].abs().max() == 0


@pytest.mark.parametrize("spacing", [(0.7, 0.7), (1.4, 1.4), (1.9, 1.9), (0.7, 1.3), (1.0, 1.0), (0.7, 1.4, 1.9)])
def test_legacy_is_the_published_map_to_the_voxel(spacing: tuple[float, ...]) -> None:
    """In float32 distances that are whole millimetres, such as 5 x 1.4, fall to either side."""
    mask = blob(*(70, 90, 30)[: len(spacing)])
    sides = [ndimage.distance_transform_edt(side, sampling=spacing) for side in (mask, ~mask)]
    expected = (sides[1] * ~mask - (sides[0] - 1) * mask).astype(int)
    got = phi(mask[None], classes=[0, 1], legacy=True, spacing=list(spacing))
    assert got.dtype == torch.float32 and np.array_equal(got[1], expected)
    assert np.array_equal(got[0], (sides[0] * mask - (sides[1] - 1) * ~mask).astype(int))
    assert 0.3 < (got[1] != phi(mask[None], spacing=list(spacing))[0]).float().mean()


def test_legacy_within_slices() -> None:
    mask = blob(20, 30, 4)
    got = phi(mask[None], legacy=True, slice_axis=2, spacing=[0.7, 1.3, 5.0])[0]
    for z in range(4):
        assert np.array_equal(got[..., z], published(mask[..., z], [0.7, 1.3]).astype(int))


def test_agrees_with_monai_on_isotropic_voxels() -> None:
    noise = np.stack([blob(30, 40, seed=s) * 1 + blob(30, 40, seed=s + 9) for s in range(3)])
    label = torch.from_numpy(noise)[:, None]
    one_hot = torch.nn.functional.one_hot(label[:, 0], 3).permute(0, 3, 1, 2)
    theirs = BoundaryLoss().compute_distance_map(one_hot)
    ours = torch.stack([phi(one, classes=[0, 1, 2], allow_others=True) for one in label])
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("full", [False, True])
def test_empty_and_full_masks_are_zero(full: bool) -> None:
    for shape in ((1, 6, 5), (1, 6, 5, 4)):
        label = torch.full(shape, int(full), dtype=torch.uint8)
        assert not phi(label, classes=[0, 1]).any() and not phi(label, legacy=True).any()
        assert not phi(label, classes=[0, 1], normalise=True, clip=3.0).any()


def test_holes_and_several_components() -> None:
    mask = np.zeros((20, 20), bool)
    mask[3:12, 3:12] = True
    mask[7, 7] = False
    mask[16, 16] = True
    np.testing.assert_allclose(phi(mask[None])[0], brute(mask, [1, 1]), atol=1e-5)
    assert phi(mask[None])[0, 7, 7] == 1 and phi(mask[None])[0, 16, 16] == 0


def test_spacing_from_the_affine_an_entry_or_a_list() -> None:
    mask, spacing = blob(8, 9, 7), [0.5, 1.25, 8.0]
    label = torch.from_numpy(mask)[None]
    turned = np.array([[0, -1.25, 0, 3], [0.5, 0, 0, 4], [0, 0, 8, 5], [0, 0, 0, 1.0]])
    loaded = MetaTensor(label, affine=torch.from_numpy(turned))
    got = phi(loaded)
    assert isinstance(got, MetaTensor) and torch.equal(got.affine, loaded.affine)
    np.testing.assert_allclose(got[0], brute(mask, spacing), rtol=1e-5)
    image = MetaTensor(torch.rand(2, 8, 9, 7), affine=torch.diag(torch.tensor([*spacing, 1.0])))
    lying = MetaTensor(label, affine=torch.eye(4))
    for sample, options in (
        ({"label": lying, "image": image}, {"spacing_key": "image"}),
        ({"label": lying, "spacing": spacing}, {"spacing_key": "spacing"}),
        ({"label": lying, "spacing": torch.tensor(spacing)}, {"spacing_key": "spacing"}),
        ({"label": lying}, {"spacing": spacing}),
    ):
        written = SignedDistanceMapd(classes=[1], **options)(sample)["distance"]  # type: ignore[arg-type]
        np.testing.assert_allclose(written[0], brute(mask, spacing), rtol=1e-5)
    flat = MetaTensor(label[..., 3], affine=torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0])))
    np.testing.assert_allclose(phi(flat)[0], brute(mask[..., 3], [2, 3]), rtol=1e-5)


def test_clip_and_normalise() -> None:
    mask = blob(40, 50, share=95)
    plain = phi(mask[None])
    assert plain.max() > 5 and plain.min() < -1
    assert torch.equal(phi(mask[None], clip=5.0), plain.clamp(-5, 5))
    both = phi(mask[None], classes=[0, 1], normalise=True)
    assert both.abs().amax((1, 2)).tolist() == [1, 1]
    torch.testing.assert_close(both[1] * plain.abs().max(), plain[0])
    torch.testing.assert_close(phi(mask[None], clip=5.0, normalise=True), plain.clamp(-5, 5) / 5)


def test_slices_of_a_volume_carry_its_distances_or_their_own() -> None:
    """Thesis 4.3.3: batches of 2D slices with a map measured in 3D, or in each slice."""
    mask = blob(12, 14, 6, share=90)
    mask[..., 0], mask[..., 1] = False, True
    sample = {
        "image": torch.rand(1, 12, 14, 6),
        "label": MetaTensor(torch.from_numpy(mask)[None].byte(), affine=torch.diag(torch.tensor([1.0, 2.0, 4.0, 1.0]))),
        "case": "a",
    }
    for axis, shape in ((None, (12, 14)), (-1, (12, 14)), (1, (12, 6))):
        volume = SignedDistanceMapd(classes=[1], slice_axis=axis)(sample)
        cut = 2 if axis is None else axis % 3
        slices = SliceDataset([volume], keys=["image", "label", "distance"], axis=cut)
        whole = brute(mask, [1, 2, 4])
        for z, item in enumerate(slices):  # type: ignore[arg-type]
            one = np.take(mask, z, axis=cut)
            spacing = [size for i, size in enumerate([1, 2, 4]) if i != cut]
            expected = np.take(whole, z, axis=cut) if axis is None else brute(one, spacing)
            assert item["distance"].shape == (1, *shape) and type(item["distance"]) is torch.Tensor
            np.testing.assert_allclose(item["distance"][0], expected, rtol=1e-5)


def test_an_axis_of_one_voxel_has_no_say() -> None:
    mask = blob(20, 30)
    flat = phi(torch.from_numpy(mask)[None, ..., None], spacing=[2.0, 3.0, 0.1])
    torch.testing.assert_close(flat[..., 0], phi(mask[None], spacing=[2.0, 3.0]))


def test_binary_channels_may_overlap() -> None:
    channels = np.stack([blob(20, 30, seed=s) for s in range(3)])
    got = phi(channels.astype(np.float32), classes=[2, 0])
    for k, channel in zip((0, 1), (2, 0)):
        np.testing.assert_allclose(got[k], published(channels[channel]), atol=1e-4)


def test_threads_and_memory_order_change_nothing() -> None:
    mask = blob(20, 30, 25)
    label = torch.from_numpy(np.asfortranarray(mask))[None]
    assert torch.equal(phi(label, threads=2, spacing=[1, 2, 3.0]), phi(mask[None], threads=1, spacing=[1, 2, 3.0]))


def test_threads_default_to_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    transform = edt.edt
    monkeypatch.setattr(distances.edt, "edt", lambda *a, **k: seen.append(k["parallel"]) or transform(*a, **k))
    phi(blob(8, 9, 3)[None])
    phi(blob(8, 9, 3)[None], threads=3)
    assert seen == [torch.get_num_threads(), 3]


@given(mask=hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)), size=sizes)
@settings(max_examples=150, deadline=None)
def test_square_pixels_equal_brute_force_too(mask: np.ndarray, size: float) -> None:
    pytest.importorskip("cv2", reason="the faster transform needs opencv-python-headless")
    spacing = [size, size * (1 + 1e-8)]  # what an affine in float32 makes of a square
    np.testing.assert_allclose(phi(mask[None], spacing=spacing)[0], brute(mask, spacing), rtol=2e-6, atol=1e-5)


def test_workers_of_a_loader_are_not_blocked_by_what_their_parent_did() -> None:
    mask = torch.from_numpy(blob(256, 256)[None]).byte()
    transform = SignedDistanceMapd(classes=[1], spacing="voxel", threads=2)
    here = transform({"label": mask})["distance"]
    loader = DataLoader(Dataset([{"label": mask}] * 4, transform), batch_size=2, num_workers=2, timeout=60)
    for batch in loader:
        torch.testing.assert_close(batch["distance"], here.expand(2, -1, -1, -1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("share", [5, 70, 97])
def test_square_pixels_are_the_same_with_and_without_opencv(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    cv2 = pytest.importorskip("cv2", reason="the faster transform needs opencv-python-headless")
    threads, used, set_threads = cv2.getNumThreads(), [], cv2.setNumThreads
    monkeypatch.setattr(cv2, "setNumThreads", lambda n: used.append(n) or set_threads(n))
    mask = blob(180, 256, share=share)[None]
    faster = phi(mask, spacing=[0.7, 0.7], threads=1)
    assert used == [1, threads] and cv2.getNumThreads() == threads
    oblong = phi(mask, spacing=[0.7, 0.71], threads=1)
    assert used == [1, threads] and (oblong - faster).abs().max() > 0.01  # not OpenCV's, which has square pixels only
    monkeypatch.setattr(distances, "HAS_OPENCV", False)
    torch.testing.assert_close(faster, phi(mask, spacing=[0.7, 0.7], threads=1), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        (torch.full((1, 4, 5), 0.5), {}, r"holds 0.5; expected \[0, 1\]: threshold soft masks"),
        (torch.full((1, 4, 5), 255, dtype=torch.uint8), {}, r"holds 255; expected \[0, 1\]: .* allow_others=True"),
        (torch.full((1, 4, 5), 0.5), {"allow_others": True}, "holds 0.5"),
        (torch.full((1, 4, 5), float("nan")), {"allow_others": True}, "holds nan"),
        (torch.arange(20).reshape(1, 4, 5), {"classes": [0, 3]}, r"holds 1, 2, 4, 5, 6 and more; expected \[0, 3\]"),
        (torch.full((3, 4, 5), 2.0), {"classes": [0, 2]}, r"holds 2; expected \[0, 1\]: threshold"),
        (torch.zeros(2, 4, 5), {"classes": [1, 2]}, r"2 channels; classes=\[1, 2\] need 3 binary"),
        (torch.zeros(4, 5), {}, r"shape \(4, 5\); expected \(1, \*S\)"),
        (torch.zeros(1, 4, 5), {"slice_axis": -1}, "slice_axis=-1 is for volumes"),
        (torch.zeros(1, 4, 5), {"spacing": None}, "voxel size of case 'a' is missing: 'label' is a Tensor without"),
        (torch.zeros(1, 4, 5), {"spacing": [1.0, 1.0, 1.0]}, r"is \[1.0, 1.0, 1.0\]; expected 2 numbers > 0"),
        (torch.zeros(1, 4, 5), {"spacing": [1.0, 0.0]}, "expected 2 numbers > 0"),
    ],
)  # fmt: skip
def test_bad_labels_are_named(label: torch.Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SignedDistanceMapd(**{"classes": [1], "spacing": "voxel", **options})({"label": label, "case": "a"})


def test_bad_settings_are_named() -> None:
    for options, message in (
        ({"classes": []}, "classes="),
        ({"classes": [1, 1]}, "classes="),
        ({"spacing": "mm"}, "spacing='mm'"),
        ({"spacing": [1, 1], "spacing_key": "spacing"}, "give one of them"),
        ({"clip": 0}, "clip=0"),
    ):
        with pytest.raises(ValueError, match=message):
            SignedDistanceMapd(**{"classes": [1], **options})  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="no 'label'"):
        SignedDistanceMapd(classes=[1])({"mask": torch.zeros(1, 2, 2)})
    with pytest.raises(KeyError, match="no 'spacing'"):
        SignedDistanceMapd(classes=[1], spacing_key="spacing")({"label": torch.zeros(1, 2, 2)})


def test_other_values_may_be_outside() -> None:
    label = torch.from_numpy(blob(20, 30)[None] * 1 + blob(20, 30, seed=4)[None])
    torch.testing.assert_close(phi(label, classes=[2], allow_others=True), phi((label == 2).byte()))
