from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_data import load, save
from monai.data import MetaTensor

from monai_constraints.data import CaseError, LoadCased, collate_cases, read_datalist, write_datalist
from monai_constraints.transforms import SaveMaskd

AFFINE = np.diag([1.5, 1.25, 8.0, 1.0])
SHAPE = (6, 5, 3)


@pytest.fixture
def image(tmp_path: Path) -> str:
    return str(save(tmp_path / "a.nii.gz", np.arange(90).reshape(SHAPE).astype(np.int16), AFFINE))


@pytest.mark.parametrize(
    "spacing",
    [[1.5, 1.25], [1.5, 1.25, 8, 1], [1.5, 0, 8], [1.5, -1.25, 8], [1.5, np.nan, 8], [np.inf, 1.25, 8], "thin", 1.5, [],
     [1.5, None, 8], ["a", "b", "c"]],
)  # fmt: skip
def test_spacing_that_is_no_three_lengths(spacing: Any, image: str) -> None:
    with pytest.raises(CaseError, match="case a, spacing: .* expected three numbers above 0, in mm"):
        LoadCased("image")({"image": image, "spacing": spacing})


def test_spacing_is_compared_with_the_header(image: str, tmp_path: Path) -> None:
    assert LoadCased("image")({"image": image, "spacing": [1.5, 1.251, 8]})["spacing"] == [1.5, 1.251, 8]
    assert LoadCased("image")({"image": image, "spacing": None})["spacing"] == [1.5, 1.25, 8.0]
    for wrong in ([1.0, 1.0, 1.0], [8, 1.25, 1.5], [1.5, 1.5, 8]):
        with pytest.raises(CaseError, match=r"but the header of .*a.nii.gz says \[1.5, 1.25, 8.0\]"):
            LoadCased("image")({"image": image, "spacing": wrong})
    plain = save(tmp_path / "plain.nii.gz", np.zeros(SHAPE, np.uint8), np.eye(4))  # 1 mm: nobody has set it
    assert LoadCased("image")({"image": str(plain), "spacing": [2, 2, 3]})["spacing"] == [2, 2, 3]


@pytest.mark.parametrize("column", [0, 1, 2])
def test_an_affine_without_volume_is_no_millimetre(column: int, image: str) -> None:
    for affine in (np.where(np.arange(4) == column, 0, AFFINE), np.where(AFFINE == 8, np.nan, AFFINE)):
        bad = MetaTensor(torch.zeros(1, *SHAPE), affine=torch.as_tensor(affine))
        with pytest.raises(CaseError, match="case a, image.*affine .*correct the header"):
            LoadCased("image")({"image": bad, "case": "a"})


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_an_image_of_two_axes_is_one_slice(axis: int, tmp_path: Path) -> None:
    data = np.arange(30).reshape(6, 5).astype(np.int16)
    path = save(tmp_path / "flat.nii.gz", data, np.diag([1.5, 1.25, 1.0, 1.0]))
    sample = LoadCased("image", axis=axis)({"image": str(path), "spacing": [1.5, 1.25]})
    volume, expected = sample["image"], [1.5, 1.25]
    assert torch.equal(volume.as_tensor().squeeze(), torch.as_tensor(data).float())
    assert volume.shape[1 + axis % 3] == 1
    expected.insert(axis % 3, 1.0)
    assert sample["spacing"] == expected == volume.affine[:3, :3].norm(dim=0).tolist()
    assert LoadCased("image", axis=axis)({"image": torch.as_tensor(data)[None]})["image"].shape == volume.shape
    # Its mask has the shape and the affine of the file.
    sample["pred"] = MetaTensor(volume.as_tensor() % 2, meta=volume.meta)
    SaveMaskd("pred", output_dir=tmp_path)(sample)
    mask = load(tmp_path / "flat_pred.nii.gz")
    assert mask.shape == (6, 5) and np.array_equal(np.asarray(mask.dataobj), data % 2)
    assert np.allclose(mask.affine, load(path).affine)


@pytest.mark.parametrize("shape", [(1, 6, 5), (6, 1, 5), (6, 5, 1)])
def test_one_slice_lies_across_the_axis_of_the_slices(shape: tuple[int, ...], tmp_path: Path) -> None:
    data, sizes = np.arange(30).reshape(shape).astype(np.int16), [3.0, 2.0, 1.5]
    path = str(save(tmp_path / "one.nii.gz", data, np.diag([*sizes, 1.0])))
    place = shape.index(1)
    for axis in range(3):
        sample = LoadCased("image", axis=axis)({"image": path, "spacing": sizes})
        expected = [size for i, size in enumerate(sizes) if i != place]
        expected.insert(axis, sizes[place])
        assert sample["image"].shape[1 + axis] == 1 and sample["spacing"] == expected
        assert sample["image"].affine[:3, :3].norm(dim=0).tolist() == expected
        SaveMaskd("image", output_dir=tmp_path, ending=str(axis))(sample)
        mask = load(tmp_path / f"one{axis}.nii.gz")
        assert np.array_equal(np.asarray(mask.dataobj), data) and np.allclose(mask.affine, np.diag([*sizes, 1.0]))
    assert LoadCased("image")({"image": path})["image"].shape == (1, *shape)


def test_slices_of_one_row_are_refused(tmp_path: Path) -> None:
    path = str(save(tmp_path / "row.nii.gz", np.zeros((1, 6, 1), np.uint8), AFFINE))
    LoadCased("image")({"image": path})
    with pytest.raises(CaseError, match=r"case row, image, .*shape \(1, 6, 1\), expected slices of two axes"):
        LoadCased("image", axis=0)({"image": path})


@pytest.mark.parametrize("value", [5, [], [5], {"a": 1}, [None]])
def test_what_is_no_path_is_named(value: Any) -> None:
    with pytest.raises(CaseError, match="case a, image: .*expected a path"):
        LoadCased("image")({"image": value, "case": "a"})


def test_null_is_what_a_case_does_not_have(image: str, tmp_path: Path) -> None:
    item: dict[Any, Any] = {"image": image, "label": None, "patient": None, "age": None, "case": None, "spacing": None}
    sample = LoadCased(["image", "label"], allow_missing_keys=True)(item)
    assert sample.keys() == {"image", "case", "spacing"} and sample["case"] == "a"
    with pytest.raises(CaseError, match="case a, label: missing"):
        LoadCased(["image", "label"])(item)
    write_datalist({"training": [item, {**item, "patient": "b", "age": 3}, item]}, tmp_path / "list.json")
    items = read_datalist(tmp_path / "list.json", "training")
    assert items[0] == {"image": image} and items[1] == {"image": image, "patient": "b", "age": 3}
    assert len(read_datalist(tmp_path / "list.json", "training", limit=2)) == 2  # unnamed patients are not one patient
    batch = collate_cases([{"image": sample["image"], "bounds": [[[None, 3]]], "notes": {"a": [None]}, "age": 3}])
    assert batch.keys() == {"image", "age"}
