"""Who is annotated, what the others have instead, and what is refused before a training."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_data import AFFINE, load, make_acdc_semi, save

from monai_constraints.constraints import Centroid, Root, Size
from monai_constraints.data import (  # fmt: skip
    OracleSizes,
    PositionPrior,
    ReestimatedSizes,
    RegressedSizes,
    UnknownSizes,
    few_annotated,
)
from monai_constraints.data.datasets.acdc import acdc_datalist
from monai_constraints.data.known_sizes import slice_areas
from monai_constraints.transforms import LabelIfAnnotatedd, PseudoLabeld, RegressedBoundsd, RegressedVolumed

SPACING = (1.5, 1.25, 8.0)
Datalist = dict[str, Any]


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Datalist:
    """The miniature data set as a regressor's inference lists it: two annotated patients, sizes of the others."""
    datalist = acdc_datalist(make_acdc_semi(tmp_path_factory.mktemp("acdc")))
    cases = few_annotated(datalist, sizes=OracleSizes(classes=3), count=2)
    labels = {case["case"]: case["label"] for case in datalist["training"]}
    training = [{**case, "label": labels[case["case"]]} for case in cases]
    about = {"statistic": "Size", "classes": [3], "unit": "mm2", "margin": {"relative": 0.1}, "regressor": "abc"}
    about["trained_on"] = ["patient001", "patient002"]
    return {"training": training, "validation": datalist["validation"], "regressed": both(about)}


def both(about: dict[str, Any]) -> dict[str, Any]:
    """What is said of the sizes of slices, and of volumes."""
    return {"size": about, "volume": {**about, "unit": "mm3"}}


def written(content: Datalist, folder: Path) -> Path:
    path = folder / "list.json"
    path.write_text(json.dumps(content))
    return path


def chosen(content: Datalist, folder: Path, **options: Any) -> list[dict[str, Any]]:
    sizes = RegressedSizes(written(content, folder), classes=[3])
    return few_annotated(content, **{"sizes": sizes, **options})


def test_the_others_have_bounds_and_no_label(listed: Datalist, tmp_path: Path) -> None:
    cases = chosen(listed, tmp_path)
    assert [(case["case"], case.get("annotated", False), "label" in case) for case in cases] == [
        (f"patient{n:03d}_frame01", n < 3, n < 3) for n in (1, 2, 3, 4)
    ]
    assert all("scribble" not in case for case in cases) and all("scribble" in c for c in listed["validation"])
    assert all(("size_regressed" in case) is (n > 1) for n, case in enumerate(cases))
    alone = chosen(listed, tmp_path, alone=True)
    assert [case["patient"] for case in alone] == ["patient001", "patient002"]


def test_random_patients_are_nested_and_another_draw_is_another() -> None:
    cases = [{"patient": f"p{n // 2}", "case": f"c{n}", "label": "x", "image": "y"} for n in range(40)]

    def names(**options: Any) -> set[str]:
        found = few_annotated({"training": cases, "validation": []}, sizes=UnknownSizes(), patients="random", **options)
        return {case["patient"] for case in found if case.get("annotated")}

    draws = [[names(count=count, draw=draw) for count in (3, 5, 10)] for draw in range(3)]
    assert all(few < more < most and len(few) == 3 for few, more, most in draws)
    assert len({frozenset(few) for few, _, _ in draws}) == 3 and draws[0][0] != {"p0", "p1", "p2"}


def say(content: Datalist, **entries: Any) -> None:
    content["regressed"]["size"].update(entries)


def of_volumes(content: Datalist, **entries: Any) -> None:
    content["regressed"]["volume"].update(entries)


def of(content: Datalist, number: int) -> dict[str, Any]:
    case: dict[str, Any] = content["training"][number]
    return case


def saw(content: Datalist, patient: str) -> None:
    content["regressed"]["size"]["trained_on"].append(patient)


def add(content: Datalist, one: dict[str, Any], **entries: Any) -> None:
    content["training"].append({**one, **entries})


Harm = Callable[[Datalist], Any]
WRONG: dict[str, tuple[str, Harm, dict[str, Any]]] = {
    "no prediction": ("1 of 2 cases .* no size_regressed, .* patient003", lambda d: of(d, 2).pop("size_regressed"), {}),
    "statistic": ("statistic 'Centroid', this training takes 'Size'", lambda d: say(d, statistic="Centroid"), {}),
    "class": (r"classes \[1\], this training takes \[3\]", lambda d: say(d, classes=[1]), {}),
    "unit": ("unit 'px', this training takes 'mm2'", lambda d: say(d, unit="px"), {}),
    "regressor": ("patient004_frame01 has .* another regressor", lambda d: of(d, 3).update(size_regressor="xyz"), {}),
    "volumes' unit": ("predictions of volumes .* unit 'ml', .* 'mm3'", lambda d: of_volumes(d, unit="ml"), {}),
    "volumes' class": (r"of volumes .* \[1\], .* takes \[3\]", lambda d: of_volumes(d, classes=[1]), {}),
    "volumes' regressor": ("of volumes .* regressor 'x', .* 'abc'", lambda d: of_volumes(d, regressor="x"), {}),
    "nothing of volumes": ("under 'regressed' what its 'volume'", lambda d: d["regressed"].pop("volume"), {}),
    "nothing said": ("does not say under 'regressed'", lambda d: d.pop("regressed"), {}),
    "trained on more": ("trained on patient003, who is not annotated", lambda d: saw(d, "patient003"), {}),
    "trained on the reported": ("trained on patient013, .* reported", lambda d: saw(d, "patient013"), {}),
    "reported": ("patient013 is annotated and among those that are reported",
                 lambda d: add(d, d["validation"][0], annotated=True, case="new"), {}),
    "nobody": ("no case of the training list is marked", lambda d: [c.pop("annotated", 0) for c in d["training"]], {}),
    "zero": ("count is 0", lambda d: None, {"count": 0}),
    "too many": ("count is 5, the list has 4 patients", lambda d: None, {"count": 5}),
    "all": ("all 4 patients .* are annotated", lambda d: [c.update(annotated=True) for c in d["training"]], {}),
    "others than marked": ("marks patient001, patient002 .* chooses patient001; leave", lambda d: None, {"count": 1}),
    "half a patient": ("half is not annotated, but", lambda d: add(d, of(d, 0), annotated=False, case="half"), {}),
    "no label": ("annotated case patient002_frame01 has no label", lambda d: of(d, 1).pop("label"), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(name: str, listed: Datalist, tmp_path: Path) -> None:
    words, harm, options = WRONG[name]
    content = copy.deepcopy(listed)
    harm(content)
    with pytest.raises(ValueError, match=words):
        chosen(content, tmp_path, **options)


def test_without_a_file_the_way_to_sizes_is_said(listed: Datalist) -> None:
    with pytest.raises(ValueError, match="no datalist_file, .* acdc_size"):
        few_annotated(listed, sizes=RegressedSizes("", classes=3))


def test_areas_and_oracle(listed: Datalist) -> None:
    case = listed["training"][2]
    label = np.asarray(load(case["label"]).dataobj)
    expected = np.stack([(label == k).sum((0, 1)) for k in (3, 1)], 1) * SPACING[0] * SPACING[1]
    np.testing.assert_allclose(slice_areas(case, [3, 1]), expected)
    sagittal = np.stack([(label == k).sum((1, 2)) for k in (3,)], 1) * SPACING[1] * SPACING[2]
    np.testing.assert_allclose(slice_areas(case, [3], axis=0), sagittal)
    areas = expected[:, 0]
    assert areas[-1] == 0 and case["size_regressed"][-1] == [[[0.0, 0.0]]]
    np.testing.assert_allclose(np.array(case["size_regressed"])[:, 0, 0], np.outer(areas, [0.9, 1.1]))
    np.testing.assert_allclose(np.array(case["size_predicted"])[:, 0, 0], areas)
    ((volume,),) = case["volume_regressed"]
    np.testing.assert_allclose(volume, areas.sum() * SPACING[2] * np.array([0.9, 1.1]))
    with pytest.raises(ValueError, match="no label to measure"):
        OracleSizes(classes=3)([], [{"case": "a", "image": "b"}], [])


def test_position_prior(tmp_path: Path) -> None:
    """By hand: the mean of the areas at a slice's relative depth among cases of the same phase."""

    def case(patient: str, phase: int, sizes: list[int]) -> dict[str, Any]:
        label = np.zeros((12, 10, len(sizes)), np.uint8)
        for z, size in enumerate(sizes):
            label[:, :, z].flat[:size] = 2
        name = f"{patient}_{phase}"
        files = {key: str(save(tmp_path / f"{name}_{key}.nii", label, AFFINE)) for key in ("image", "label")}
        return {**files, "case": name, "patient": patient, "spacing": [2.0, 1.5, 9.0]}

    annotated = [case("a", 0, [0, 10, 20]), case("a", 1, [6, 6, 6]), case("b", 0, [0, 20, 40]), case("b", 1, [8, 8, 8])]
    annotated += [case("c", 0, [0, 30, 60]), case("c", 1, [4, 4, 4])]
    others = [case("d", 0, [9, 9, 9]), case("d", 1, [9, 9])]
    first, second = PositionPrior(classes=[2], level=0.99)(annotated, others, [])
    np.testing.assert_allclose(np.array(first["size_predicted"])[:, 0, 0], np.array([0, 20, 40]) * 3, atol=0.5)
    np.testing.assert_allclose(np.array(second["size_predicted"])[:, 0, 0], np.array([6, 6]) * 3)
    # Predicted without a, whose own slices end at 20, the last slice of a is 50: the largest error of all, 30 pixels.
    low, high = np.array(first["size_regressed"])[:, 0, 0].T
    np.testing.assert_allclose(high - np.array([0, 60, 120]), 90, atol=1)
    np.testing.assert_allclose(low, np.clip(np.array([0, 60, 120]) - 90, 0, None), atol=1)
    with pytest.raises(ValueError, match="expected two or more"):
        PositionPrior(classes=2)(annotated[:2], others, [])


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("root", [False, True])
def test_square_millimetres_become_pixels_of_the_grid(axis: int, root: bool) -> None:
    statistic = Root(Size(classes=[1, 2])) if root else Size(classes=[1, 2])
    zoom = [2.0, 3.0, 1.0] if axis == -1 else [1.0, 2.0, 3.0]
    bounds = RegressedBoundsd(statistic, zoom=zoom, axis=axis)
    slices = [
        [[[9.0, 90.0]], [[0, 0]]],
        [[[None, 45.0]], [None]],
        [[[-30.0, 18.0]], [[-9, -3]]],
    ]
    volume: dict[Hashable, Any] = {"case": "a", "size_regressed": slices, "spacing": [0.5, 2.0, 3.0]}
    volume["image"] = torch.zeros(1, 3, 3, 3)
    assert bounds(volume) == volume
    pixel = 2.0 * 3.0 * (0.5 * 2.0 if axis == -1 else 2.0 * 3.0)
    inf = float("inf")
    expected = [[[[9, 90]], [[0, 0]]], [[[-inf, 45]], [[-inf, inf]]], [[[0, 18]], [[0, 0]]]]
    for number, one in enumerate(expected):
        found = bounds({**volume, "slice": number})["size_bounds"]
        pixels = torch.tensor(one, dtype=torch.float32) / pixel
        torch.testing.assert_close(found, statistic.link(pixels))
        assert found.dtype == torch.float32 and found.shape == (2, 1, 2)
    frees: list[dict[Hashable, Any]] = [{**volume, "annotated": True}, {**volume, "size_regressed": []}]
    for free in frees:
        assert bounds(free) == free and bounds({**free, "slice": 1})["size_bounds"].isinf().all()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ([[[[1, 2]]]] * 2, "has 2 slices, the image 3 along axis -1"),
        ("missing", "is missing"),
        ([[[[1, 2]], [[1, 2]]]] * 3, r"\(K, M, 2\) is \(2, 1, 2\)"),
        ([[[[2, 1]]]] * 3, "has a > b"),
        ([[[[1, float("nan")]]]] * 3, "is NaN"),
        ([[[[1]]]] * 3, "is no pair"),
        ([[[5.0]]] * 3, "expected K=1 lists of one pair"),
    ],
)
def test_lists_that_do_not_fit(entry: Any, words: str) -> None:
    case: dict[Hashable, Any] = {"case": "a", "image": torch.zeros(1, 3, 3, 3), "spacing": [1, 1, 1]}
    case["size_regressed"] = entry
    if entry == "missing":
        del case["size_regressed"]
    with pytest.raises(ValueError, match=words):
        RegressedBoundsd(Size(classes=[1]), zoom=[1, 1, 1])(case)


@pytest.mark.parametrize("root", [False, True])
def test_cubic_millimetres_become_voxels_of_the_grid(root: bool) -> None:
    statistic = Root(Size(classes=[1, 2])) if root else Size(classes=[1, 2])
    bounds = RegressedVolumed(statistic, zoom=[2.0, 3.0, 1.0])
    volume: dict[Hashable, Any] = {"case": "a", "spacing": [0.5, 2.0, 5.0], "image": torch.zeros(1, 3, 3, 3)}
    found = bounds({**volume, "volume_regressed": [[[-30.0, 300.0]], [[None, 600.0]]]})["size_bounds"]
    voxel = 0.5 * 2 * 2.0 * 3 * 5.0
    expected = torch.tensor([[[0.0, 300 / voxel]], [[-float("inf"), 600 / voxel]]])
    torch.testing.assert_close(found, statistic.link(expected))
    assert bounds({**volume, "annotated": True})["size_bounds"].isinf().all()
    wrong = {"is missing, the size of the whole volume": volume, r"\(K, M, 2\) is \(1, 1, 2\)": [[[1, 2]]],
             "has a > b": [[[2, 1]]] * 2, "is no pair": [[[1]]] * 2}  # fmt: skip
    for words, entry in wrong.items():
        with pytest.raises(ValueError, match=words):
            bounds(volume if entry is volume else {**volume, "volume_regressed": entry})
    with pytest.raises(ValueError, match="RegressedVolumed: Centroid"):
        RegressedVolumed(Centroid(classes=[1]), zoom=[1, 1, 1])


class Band:
    """The same bounds for all slices of any case."""

    def __init__(self, pair: Any, slices: int, classes: int = 1) -> None:
        self.bounds = [[[pair]] * classes] * slices

    def __call__(self, annotated: Any, others: Any, validation: Any) -> list[dict[str, Any]]:
        return [{**case, "size_regressed": self.bounds} for case in others]


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize(
    ("band", "expected"),
    [
        ([0.0, 1000.0], [75.0, 145.0]),  # v = 110, m = 0.2 v + 13 = 35
        ([100.0, 1000.0], [100.0, 145.0]),
        ([0.0, 120.0], [75.0, 120.0]),
        ([200.0, 1000.0], [200.0, 1000.0]),  # nothing in common: as it was
        ([0.0, 50.0], [0.0, 50.0]),
        ([None, 120.0], [75.0, 120.0]),
        ([20.0, None], [75.0, 145.0]),
        (None, [75.0, 145.0]),
    ],
)
def test_a_second_round_narrows_the_band(band: Any, expected: list[float], axis: int, tmp_path: Path) -> None:
    shape = (10, 12, 3) if axis == -1 else (3, 10, 12)
    image = save(tmp_path / "a.nii.gz", np.zeros(shape, np.int16), np.eye(4))
    mask = np.zeros(shape, np.uint8)
    np.moveaxis(mask, axis, 0)[1].flat[:55] = 1
    case = {"image": str(image), "case": "b/a", "spacing": [1.0, 2.0, 1.0] if axis == -1 else [1.0, 1.0, 2.0]}
    save(tmp_path / "run" / "predictions" / "b" / "a_pred.nii.gz", mask, np.eye(4))
    sizes = ReestimatedSizes(Band(band, 3), run=tmp_path / "run", relative=0.2, absolute=13, axis=axis)
    (found,) = sizes([], [case], [])
    assert found["size_regressed"][1] == [[pytest.approx(expected)]]
    if band == [0.0, 1000.0]:
        assert found["size_regressed"][0] == [[[0.0, 13.0]]]


def test_masks_that_are_not_of_the_case(tmp_path: Path) -> None:
    image = save(tmp_path / "a.nii.gz", np.zeros((10, 12, 3), np.int16), np.eye(4))
    cases = [{"image": str(image), "case": "a"}]
    with pytest.raises(ValueError, match="no run; name the folder"):
        ReestimatedSizes(Band([0, 1], 3), run="")([], cases, [])
    with pytest.raises(FileNotFoundError, match=r"1 of 1 masks .*a_pred.nii.gz; .*--datalist_key training"):
        ReestimatedSizes(Band([0, 1], 3), run=tmp_path)([], cases, [])
    mask = np.zeros((10, 12, 3), np.uint8)
    mask[0] = 2
    path = save(tmp_path / "predictions" / "a_pred.nii.gz", mask, np.eye(4))
    for band in (Band([0, 1], 2, classes=2), Band([0, 1], 3)):
        with pytest.raises(ValueError, match="has 3 slices and classes to 2, the bounds"):
            ReestimatedSizes(band, run=tmp_path)([], cases, [])
    (found,) = ReestimatedSizes(Band([0, 900], 3, classes=2), run=tmp_path, relative=0.2, absolute=1)([], cases, [])
    assert found["size_regressed"][0] == [[[0, 1]], [[pytest.approx(8.6), pytest.approx(15.4)]]]
    save(path, np.zeros((10, 12, 4), np.uint8), np.eye(4))
    with pytest.raises(ValueError, match="mask"):
        ReestimatedSizes(Band([0, 1], 3), run=tmp_path)([], cases, [])
    with pytest.raises(ValueError, match="relative=-1"):
        ReestimatedSizes(Band([0, 1], 3), run=tmp_path, relative=-1)


def test_predictions_in_square_millimetres_bound_sizes_only() -> None:
    with pytest.raises(ValueError, match="Centroid, classes=.*bound a Size"):
        RegressedBoundsd(Centroid(classes=[1]), zoom=[1, 1, 1])
    with pytest.raises(ValueError, match="classes=None"):
        RegressedBoundsd(Size(), zoom=[1, 1, 1])


def test_the_label_of_another_case_is_not_looked_at() -> None:
    label = torch.ones(1, 4, 5, dtype=torch.uint8)
    mark, image = LabelIfAnnotatedd(), torch.zeros(1, 4, 5)
    assert torch.equal(mark({"image": image, "label": label, "annotated": True})["weak"], label)
    others: list[dict[Hashable, Any]] = [{"image": image, "label": label}, {"image": image}]
    for other in others:
        assert (mark(other)["weak"] == 255).all() and mark(other)["weak"].shape == label.shape
    with pytest.raises(KeyError, match="no 'label'"):
        mark({"image": image, "annotated": True})


@pytest.mark.parametrize("axis", [-1, 0])
def test_pseudo_labels_are_what_the_network_finds(axis: int, tmp_path: Path) -> None:
    network = torch.nn.Conv2d(1, 3, 1)
    weights = {"weight": torch.tensor([0.0, 1.0, 2.0]).reshape(3, 1, 1, 1), "bias": torch.tensor([0.0, 0.0, -1.0])}
    torch.save(weights, tmp_path / "model.pt")
    image = torch.tensor([-1.0, 0.5, 2.0, -3.0]).repeat(15).reshape(1, 3, 5, 4)
    expected = torch.tensor([255, 1, 2, 255], dtype=torch.uint8).repeat(15).reshape(1, 3, 5, 4)
    mark = PseudoLabeld(network, tmp_path / "model.pt", axis=axis)
    found = mark({"image": image, "weak": torch.full_like(expected, 255)})["weak"]
    assert torch.equal(found, expected) and not found.requires_grad
    whole = PseudoLabeld(network, tmp_path / "model.pt", axis=axis, background=True)({"image": image})["weak"]
    assert torch.equal(whole, torch.where(expected == 255, 0, expected))
    assert mark({"image": image, "annotated": True, "weak": expected})["weak"] is expected
    with pytest.raises(FileNotFoundError, match="row full_few"):
        PseudoLabeld(network, tmp_path / "none.pt")
