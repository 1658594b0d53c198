"""Annotated boxes: files, coordinates, and what may be wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_constraints.transforms import BoxesFromFiled, BoxesOfSliced, ToGridd

# 2 x 1.5 x 4 mm, the first two axes against R and A, as most files.
AFFINE = np.array([[-2.0, 0, 0, 30], [0, -1.5, 0, 40], [0, 0, 4.0, -20], [0, 0, 0, 1]])
SHAPE = (20, 24, 6)
BOX = [[4, 9], [6, 12], [2, 3]]


def volume(affine: np.ndarray = AFFINE) -> MetaTensor:
    tensor = torch.as_tensor(affine)
    return MetaTensor(torch.zeros(1, *SHAPE), affine=tensor, meta={"original_affine": tensor.clone()})


def csv(path: Path, *rows: str, header: str = "case,class,x0,y0,z0,x1,y1,z1") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def corners(affine: np.ndarray, world: str) -> np.ndarray:
    """(3, 2) mm of the borders of BOX."""
    ends = np.array(BOX, float) - 0.5
    points = (affine[:3, :3] @ ends) + affine[:3, 3:]
    points = points * ([[-1], [-1], [1]] if world == "LPS" else 1)
    return np.sort(points, axis=1)


def found(file: Path, image: MetaTensor | None = None, **options: Any) -> list[Any]:
    boxes = BoxesFromFiled(file, classes=2, **options)({"image": volume() if image is None else image, "case": "a"})
    return boxes["volume_boxes"].tolist()  # type: ignore[no-any-return]


def test_voxels_and_mm_of_csv_and_json_are_the_same_box(tmp_path: Path) -> None:
    expected = [[[[0, 0]] * 3], [BOX]]
    assert found(csv(tmp_path / "v.csv", "a,2,4,6,2,9,12,3", "b,1,0,0,0,1,1,1")) == expected
    (tmp_path / "v.json").write_text(json.dumps({"a": [{"class": 2, "box": BOX}]}))
    assert found(tmp_path / "v.json") == expected
    for world in ("RAS", "LPS"):
        mm = corners(AFFINE, world)
        row = ",".join(["a", "2", *map(str, mm[:, 0]), *map(str, mm[:, 1])])
        assert found(csv(tmp_path / "w.csv", row), coordinates=world) == expected


def roi(world: str, name: str, orientation: np.ndarray | None = None) -> dict[str, Any]:
    mm = corners(AFFINE, world)
    axes = np.eye(3) if orientation is None else orientation
    return {
        "type": "ROI", "coordinateSystem": world, "center": mm.mean(1).tolist(),
        "size": (mm[:, 1] - mm[:, 0]).tolist(), "orientation": axes.ravel().tolist(),
        "controlPoints": [{"label": name}],
    }  # fmt: skip


def test_slicer_markups_in_a_folder_know_their_coordinates(tmp_path: Path) -> None:
    expected = [[[[0, 0]] * 3], [BOX]]
    for world, name in (("LPS", "R-2"), ("RAS", "lesion")):
        (tmp_path / "a.mrk.json").write_text(json.dumps({"markups": [roi(world, name)]}))
        assert found(tmp_path, class_names=["organ", "lesion"]) == expected
        assert found(tmp_path / "a.mrk.json", class_names=["organ", "lesion"]) == expected
    # A file of its own in the datalist, whatever it is called; turned by a half turn it is the same box.
    (tmp_path / "other.mrk.json").write_text(json.dumps({"markups": [roi("LPS", "R-2", np.diag([-1, -1, 1]))]}))
    sample = {"image": volume(), "case": "a", "boxes": str(tmp_path / "other.mrk.json")}
    out = BoxesFromFiled(classes=2)(sample)
    assert out["volume_boxes"].tolist() == expected and "boxes" not in out


def test_boxes_follow_cropping_and_resampling(tmp_path: Path) -> None:
    """Padded by two in the first axis, cropped by two in the second, then halved: as the mask of the box is."""
    grid = ToGridd(["image"], padded_size=[24, 20], spatial_size=[12, 10])
    image = grid({"image": volume()})["image"]
    assert found(csv(tmp_path / "v.csv", "a,2,4,6,2,9,12,3"), image)[1] == [[[3, 5], [2, 5], [2, 3]]]
    mask = MetaTensor(torch.zeros(1, *SHAPE, dtype=torch.uint8), affine=torch.as_tensor(AFFINE))
    for low, high in ((4, 9), (5, 6), (4, 5), (3, 12), (0, 20)):
        mask[:] = 0
        mask[0, low:high, 6:12, 2:3] = 1
        halved = ToGridd(["label"], padded_size=[24, 20], spatial_size=[12, 10])({"label": mask})["label"]
        (box,) = found(csv(tmp_path / "v.csv", f"a,2,{low},6,2,{high},12,3"), image)[1]
        places = halved[0].nonzero()
        if len(places):
            assert box == torch.stack([places.amin(0), places.amax(0) + 1], 1).tolist(), (low, high)
        else:
            assert box[0] == [3, 4]  # it lies between the voxels that are taken: a box keeps one


def test_slices_get_their_own_boxes_tight_and_those_of_several_slices_loose() -> None:
    boxes = torch.tensor([[BOX, [[0, 20], [0, 5], [1, 4]], [[0, 0]] * 3]])
    sample = {"volume_boxes": boxes, "image": torch.zeros(1, 20, 24), "case": "a"}
    cut = BoxesOfSliced(max_boxes=2)
    second = cut({**sample, "slice": 2})
    assert second["boxes"].tolist() == [[[[0, 20], [0, 5]], [[4, 9], [6, 12]]]]
    assert second["loose"].tolist() == [[True, False]]
    assert cut({**sample, "slice": 5})["boxes"].sum() == 0
    with pytest.warns(UserWarning, match="slice 2: 2 boxes of a class"):
        assert BoxesOfSliced()({**sample, "slice": 2})["loose"].tolist() == [[True]]


def test_a_network_in_3d_takes_the_boxes_of_the_volume(tmp_path: Path) -> None:
    file = csv(tmp_path / "v.csv", "a,2,4,6,2,9,12,3")
    out = BoxesFromFiled(file, classes=2, volume=2)({"image": volume(), "case": "a"})
    assert out["boxes"].shape == (2, 2, 3, 2) and out["boxes"][1, 0].tolist() == BOX


def test_a_case_may_say_that_it_has_no_object(tmp_path: Path) -> None:
    assert np.sum(found(csv(tmp_path / "v.csv", "a,,,,,,,"))) == 0
    (tmp_path / "v.json").write_text('{"a": []}')
    assert np.sum(found(tmp_path / "v.json")) == 0


@pytest.mark.parametrize(("rows", "message"), [
    (["a,1,9,6,2,4,12,3"], "line 2: sides .* are empty or inverted"),
    (["a,1,4,6,2,4,12,3"], "are empty or inverted"),
    (["a,3,4,6,2,9,12,3"], "class 3 of case a, expected 1 to 2"),
    (["a,x,4,6,2,9,12,3"], "expected whole classes and six numbers"),
    (["b,1,4,6,2,9,12,3"], "case a has no boxes"),
    (["a,1,40,6,2,49,12,3"], "outside of the image, which has"),
])  # fmt: skip
def test_wrong_boxes_are_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises((KeyError, ValueError), match=message):
        found(csv(tmp_path / "v.csv", *rows))


def test_a_box_beyond_the_border_is_cut_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="are cut at the border"):
        assert found(csv(tmp_path / "v.csv", "a,1,15,6,2,25,12,3"))[0] == [[[15, 20], [6, 12], [2, 3]]]


def test_sheared_and_oblique_affines_are_refused_in_mm_and_do_not_matter_in_voxels(tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.5
    with pytest.raises(ValueError, match="not parallel to the voxels"):
        found(csv(tmp_path / "w.csv", "a,2,4,6,2,9,12,3"), volume(sheared), coordinates="RAS")
    assert found(csv(tmp_path / "v.csv", "a,2,4,6,2,9,12,3"), volume(sheared))[1] == [BOX]


def test_all_that_is_wrong_with_a_file_is_listed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="25 problems.*\n(.*\n)*... and 5 more"):
        found(csv(tmp_path / "v.csv", *["a,7,4,6,2,9,12,3"] * 25))
    with pytest.raises(ValueError, match="no columns \\['x1'\\]"):
        found(csv(tmp_path / "v.csv", header="case,class,x0,y0,y1"))
    with pytest.raises(FileNotFoundError, match="no file of boxes"):
        found(tmp_path / "none.csv")
    with pytest.raises(FileNotFoundError, match="no CASE.mrk.json"):
        found(tmp_path)
    (tmp_path / "v.json").write_text("no")
    with pytest.raises(ValueError, match="is not JSON"):
        found(tmp_path / "v.json")
    (tmp_path / "a.mrk.json").write_text(json.dumps({"markups": [{"type": "Fiducial"}, {"type": "ROI", "size": [1]}]}))
    with pytest.raises(ValueError, match="2 problems"):
        found(tmp_path / "a.mrk.json")
