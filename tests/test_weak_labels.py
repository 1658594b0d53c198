from __future__ import annotations

import re

import nibabel
import numpy as np
import pytest
import torch
from conftest import data_root
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Randomizable
from scipy import ndimage

from monai_constraints.transforms.annotation.scribbles import FullLabeld, ScribbleLabeld
from monai_constraints.transforms.annotation.weak_labels import ErodedLabeld, PointLabeld

CLASSES = [0, 2, 3]


def blobs(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """A label (1, *shape) of smooth regions of the classes 0 to 3, some of them in several pieces."""
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, 2.0)
    return np.digitize(smooth, np.quantile(smooth, [0.4, 0.6, 0.85]))[None].astype(np.int64)


def sample(label: np.ndarray, *, case: str = "patient001_frame01", slice_index: int = 3) -> dict:
    return {"label": torch.as_tensor(label), "case": case, "slice": slice_index}


def pieces(mask: np.ndarray) -> list[np.ndarray]:
    components, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return [components == i for i in range(1, count + 1)]


def disc(mask: np.ndarray, centre: tuple[int, ...], radius: float) -> set[tuple[int, ...]]:
    """Oracle: the voxels of the mask within `radius` of `centre`, by a loop over all."""
    near = set()
    for voxel in np.ndindex(mask.shape):
        if mask[voxel] and sum((a - b) ** 2 for a, b in zip(voxel, centre)) <= radius * radius:
            near.add(voxel)
    return near


def erosion(mask: np.ndarray, sides: list[int]) -> set[tuple[int, ...]]:
    """Oracle: the first kernel that leaves something, by a loop over kernels and voxels."""
    kept: set[tuple[int, ...]] = set()
    for side in sides:
        for voxel in np.ndindex(mask.shape):
            first = [v - side // 2 for v in voxel]
            if all(0 <= v and v + side <= n for v, n in zip(first, mask.shape)):
                if mask[tuple(slice(v, v + side) for v in first)].all():
                    kept.add(voxel)
        if kept:
            break
    return kept


def voxels(mask: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(v) for v in np.argwhere(mask).tolist()}


STRATEGIES = [
    ErodedLabeld(classes=CLASSES, size=5),
    PointLabeld(classes=CLASSES, radius=2),
    ErodedLabeld(classes=CLASSES, size=5, connected_components=True),
    PointLabeld(classes=CLASSES, radius=2, connected_components=True),
]
strategies = pytest.mark.parametrize(
    "strategy", STRATEGIES, ids=lambda t: f"{t.name}{'-components' * t.connected_components}"
)


@strategies
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), shape=st.sampled_from([(17, 23), (5, 12, 9)]))
def test_known_voxels_agree_with_the_label_and_nothing_that_must_be_marked_is_missed(
    strategy: ErodedLabeld, seed: int, shape: tuple[int, ...]
) -> None:
    label = blobs(seed, shape)
    weak = strategy(sample(label))["weak"]
    assert weak.dtype == torch.uint8 and weak.shape == label.shape
    weak, truth = weak.numpy()[0], label[0]
    known = weak != 255
    assert (weak[known] == truth[known]).all()
    assert set(np.unique(weak[known])) == set(CLASSES) & set(np.unique(truth))
    if strategy.connected_components:
        assert all(known[piece].any() for k in CLASSES for piece in pieces(truth == k))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), shape=st.sampled_from([(17, 23), (5, 12, 9)]))
def test_a_disc_is_one_voxels_surroundings_clipped_to_its_component(seed: int, shape: tuple) -> None:
    truth = blobs(seed, shape)[0]
    point, marked = (
        PointLabeld(classes=[2], radius=r, connected_components=True)(sample(truth[None]))["weak"][0] == 2
        for r in (0, 3)
    )
    point, marked = point.numpy(), marked.numpy()
    for piece in pieces(truth == 2):
        (centre,) = voxels(point & piece)
        assert voxels(marked & piece) == disc(piece, centre, 3)


SIDES = [(6, [6, 4, 2, 1]), (range(5, 0, -2), [5, 3, 1]), ([8], [8, 1])]


@pytest.mark.parametrize("shape", [(17, 23), (7, 12, 9)])
@pytest.mark.parametrize(("size", "sides"), SIDES)
def test_erosion_takes_the_first_kernel_that_leaves_some(shape: tuple, size: int | list, sides: list) -> None:
    truth = blobs(5, shape)[0]
    weak = ErodedLabeld(classes=CLASSES, size=size)(sample(truth[None]))["weak"].numpy()[0]
    for k in CLASSES:
        assert voxels(weak == k) == erosion(truth == k, sides)
    each = ErodedLabeld(classes=CLASSES, size=size, connected_components=True)
    weak = each(sample(truth[None]))["weak"].numpy()[0]
    for k in CLASSES:
        for piece in pieces(truth == k):
            assert voxels((weak == k) & piece) == erosion(piece, sides)


def test_erosion_closed_form() -> None:
    label = np.zeros((1, 40, 50), dtype=np.int64)
    label[0, 5:30, 8:40] = 1  # 25 x 32: the kernel of 10 leaves 16 x 23
    label[0, 32:40, 41:50] = 2  # 8 x 9, in the corner: the kernel of 7 leaves 2 x 3
    label[0, 0, 0] = 3  # one pixel stays
    weak = ErodedLabeld(classes=[1, 2, 3])(sample(label))["weak"]
    assert [int((weak == k).sum()) for k in (0, 1, 2, 3)] == [0, 16 * 23, 2 * 3, 1]
    assert ErodedLabeld(classes=[1]).sizes == [10, 7, 4, 2, 1]


def point_of(label: np.ndarray, *, seed: int = 0, k: int = 2, classes: tuple = (2,), **keys: object) -> tuple:
    data = {"label": label, "case": "patient001_frame01", **keys}
    (point,) = voxels(PointLabeld(classes=classes, radius=0, seed=seed)(data)["weak"].numpy()[0] == k)
    return point


def test_a_point_depends_on_seed_case_slice_and_class_alone() -> None:
    label = blobs(11, (37, 53))
    point = point_of(label)
    assert point_of(label) == point
    assert point_of(label, index=8, image=torch.zeros(1, 37, 53)) == point
    assert point_of(label, classes=(3, 2, 0)) == point
    swapped = np.where(label == 2, 3, np.where(label == 3, 2, label))
    others = [point_of(label, seed=s) for s in range(1, 4)]
    others += [point_of(label, slice=s) for s in range(4)]
    others += [point_of(label, case="patient001_frame12"), point_of(swapped, k=3, classes=(3,))]
    assert len({point, *others}) == 1 + len(others)
    assert len({point_of(label, slice=s) for s in (2, np.int64(2), torch.tensor(2))}) == 1


def test_points_stay_the_same_in_every_process_and_version() -> None:
    full = np.full((1, 37, 53), 2)
    assert [point_of(full), point_of(full, slice=2), point_of(full, seed=5)] == [(17, 28), (12, 32), (16, 47)]


def test_points_are_spread_evenly() -> None:
    full = np.full((1, 4, 5), 2)
    points = [point_of(full, slice=s) for s in range(2000)]
    counts = [points.count(v) for v in np.ndindex(4, 5)]
    assert 60 < min(counts) and max(counts) < 145  # 100 +- 4.5 standard deviations


def test_equal_components_have_points_of_their_own() -> None:
    label = np.zeros((1, 20, 43), dtype=np.int64)
    label[0, :, :21], label[0, :, 22:] = 1, 1
    weak = PointLabeld(classes=[1], radius=0, connected_components=True)(sample(label))["weak"][0]
    left, right = weak[:, :21].eq(1).nonzero(), weak[:, 22:].eq(1).nonzero()
    assert len(left) == len(right) == 1 and not torch.equal(left, right)


def test_no_strategy_is_redrawn_by_monai() -> None:
    transforms = [*STRATEGIES, FullLabeld(), ScribbleLabeld(classes=4)]
    assert not any(isinstance(t, Randomizable) for t in transforms)


@strategies
def test_an_absent_class_leaves_nothing(strategy: ErodedLabeld) -> None:
    weak = strategy(sample(np.ones((1, 6, 7), dtype=np.int64)))["weak"]
    assert (weak == 255).all()


@strategies
def test_numpy_tensor_and_float_labels_give_the_same(strategy: ErodedLabeld) -> None:
    label = blobs(3, (17, 23))
    expected = strategy(sample(label))["weak"]
    for other in (label, label.astype(np.uint16), label.astype(np.float64), torch.as_tensor(label).float()):
        weak = strategy({**sample(label), "label": other})["weak"]
        assert type(weak) is torch.Tensor and torch.equal(weak, expected)


@pytest.mark.parametrize("transform", [*STRATEGIES[:3], FullLabeld(), ScribbleLabeld(classes=4, key="label")])
def test_metadata_is_copied_and_the_input_left_alone(transform: FullLabeld) -> None:
    affine = torch.diag(torch.tensor([1.5, 0.7, 8.0, 1.0], dtype=torch.float64))
    meta = {"filename_or_obj": "a.nii.gz"}
    label = MetaTensor(torch.as_tensor(blobs(3, (17, 23))), affine=affine, meta=meta)
    before = label.clone()
    data = {"label": label, "case": "a"}
    weak = transform(data)["weak"]
    assert isinstance(weak, MetaTensor) and weak.dtype == torch.uint8
    assert torch.equal(weak.affine, affine) and weak.meta["filename_or_obj"] == "a.nii.gz"
    weak.zero_(), weak.affine.zero_()
    assert set(data) == {"label", "case"} and torch.equal(label, before) and torch.equal(label.affine, affine)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.zeros((4, 6, 7)), r"shape (4, 6, 7).*AsDiscreted"),
        (np.zeros((6, 7)), r"shape (6, 7).*EnsureChannelFirstd"),
        (np.full((1, 6, 7), 0.5), r"case 'p7' holds [0.5], expected integer.*nearest"),
        (np.full((1, 6, 7), np.nan), r"holds [nan], expected integer"),
        (np.full((1, 6, 7), 255), r"case 'p7' holds [255].*unknown=255.*MapLabelValued"),
        (np.full((1, 6, 7), -2), r"holds [-2]"),
        (np.full((1, 6, 7), 259), r"holds [259]"),
    ],
)
@pytest.mark.parametrize("transform", [PointLabeld(classes=[1]), FullLabeld()], ids=["point", "full"])
def test_wrong_labels_are_explained(transform: FullLabeld, label: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message).replace(r"\.\*", ".*")):
        transform({"label": label, "case": "p7"})


def test_missing_keys_are_explained() -> None:
    with pytest.raises(KeyError, match="add a `case` entry"):
        PointLabeld(classes=[1])({"label": np.ones((1, 6, 7))})
    with pytest.raises(KeyError, match="no 'label'; its keys are \\['image'\\]"):
        FullLabeld()({"image": np.ones((1, 6, 7))})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PointLabeld(classes=[]), r"classes=\[\]"),
        (lambda: PointLabeld(classes=[1, 1]), r"classes=\[1, 1\]"),
        (lambda: PointLabeld(classes=[255]), "unknown=255"),
        (lambda: PointLabeld(classes=[-1]), "0 to 255"),
        (lambda: PointLabeld(classes=[1], unknown=256), "unknown=256"),
        (lambda: PointLabeld(classes=[1], radius=-1), "radius=-1"),
        (lambda: PointLabeld(classes=[1], radius=float("nan")), "radius=nan"),
        (lambda: ErodedLabeld(classes=[1], size=0), "size=0"),
        (lambda: ErodedLabeld(classes=[1], size=[]), r"size=\[\]"),
        (lambda: ScribbleLabeld(classes=256), "classes=256"),
    ],
)
def test_wrong_options_are_explained(make: type, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_acdc_every_slice_with_left_ventricle_has_a_small_mark() -> None:
    path = data_root("acdc") / "patient001" / "patient001_frame01_gt.nii.gz"
    volume = np.asanyarray(nibabel.load(path).dataobj)
    for strategy, most in [
        (ErodedLabeld(classes=[3]), 0.015),
        (ErodedLabeld(classes=[3], size=range(21, 0, -2)), 0.003),
        (PointLabeld(classes=[3]), 0.001),
    ]:
        known = 0
        for z in range(volume.shape[2]):
            truth = volume[None, :, :, z]
            weak = strategy({"label": truth, "case": "patient001_frame01", "slice": z})["weak"].numpy()
            assert (weak == 3).any() == (truth == 3).any()
            assert set(np.unique(weak)) <= {3, 255} and (truth[weak == 3] == 3).all()
            known += int((weak == 3).sum())
        assert 0 < known / volume.size < most
