from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import data_root

from monai_constraints.data import read_datalist, write_datalist
from monai_constraints.data.datasets.acdc import acdc_datalist

SPACING = [1.5, 1.25, 8.0]


def write_volume(path: Path, zooms: list[float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.zeros((5, 4, 3), np.int16), np.diag([-1.0, -1.0, 1.0, 1.0]))
    image.header.set_zooms(zooms)  # as in ACDC: unit affine, true pixdim
    nib.save(image, path)


def make_acdc(root: Path, *, numbers: list[int], official: bool = False, suffix: str = ".nii.gz") -> Path:
    for number in numbers:
        folder = root / ("training" if official else "") / f"patient{number:03d}"
        for frame in ("01", "12"):
            stem = f"{folder.name}_frame{frame}"
            write_volume(folder / f"{stem}{suffix}", SPACING)
            write_volume(folder / f"{stem}_gt{suffix}", [1.0, 1.0, 1.0])
            if not official:
                write_volume(folder / f"{stem}_scribble{suffix}", [1.0, 1.0, 1.0])
        if official:
            (folder / f"{folder.name}_4d{suffix}").write_bytes(b"not read")
            (folder / "Info.cfg").write_text("ED: 1\nES: 12\n")
    return root


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
@pytest.mark.parametrize("official", [False, True])
def test_both_layouts(tmp_path: Path, official: bool, suffix: str) -> None:
    make_acdc(tmp_path, numbers=[12, 13, 16, 17, 34], official=official, suffix=suffix)
    datalist = acdc_datalist(tmp_path)
    assert [i["patient"] for i in datalist["training"][::2]] == ["patient012", "patient017"]
    assert [i["patient"] for i in datalist["validation"][::2]] == ["patient013", "patient016", "patient034"]
    first = datalist["training"][0]
    folder = tmp_path / ("training" if official else "") / "patient012"
    assert first["case"] == "patient012_frame01" and datalist["training"][1]["case"] == "patient012_frame12"
    assert first["image"] == str(folder / f"patient012_frame01{suffix}")
    assert first["label"] == str(folder / f"patient012_frame01_gt{suffix}")
    assert ("scribble" in first) is not official
    assert first["spacing"] == SPACING  # neither the affine's nor the ground truth's 1 mm


def test_official_root_may_be_training_itself(tmp_path: Path) -> None:
    make_acdc(tmp_path, numbers=[1], official=True)
    assert acdc_datalist(tmp_path / "training") == acdc_datalist(tmp_path)


def test_errors_name_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        acdc_datalist(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no patientNNN folders"):
        acdc_datalist(tmp_path)
    make_acdc(tmp_path, numbers=[1])
    (tmp_path / "patient001" / "patient001_frame12_gt.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match="patient001_frame12_gt.nii.gz"):
        acdc_datalist(tmp_path)
    (tmp_path / "patient002").mkdir()
    (tmp_path / "patient001" / "patient001_frame12.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match="patient002_frameFF"):
        acdc_datalist(tmp_path)


def test_real_data() -> None:
    datalist = acdc_datalist(data_root("acdc"))
    patients = {key: {item["patient"] for item in items} for key, items in datalist.items()}
    items = datalist["training"] + datalist["validation"]
    assert (len(patients["training"]), len(patients["validation"]), len(items)) == (60, 20, 160)
    assert not patients["training"] & patients["validation"]
    assert len({item["case"] for item in items}) == 160
    assert all(Path(item[key]).is_file() for item in items for key in ("image", "label", "scribble"))
    spacing = np.array([item["spacing"] for item in items])
    assert (spacing[:, :2] > 0.5).all() and (spacing[:, :2] < 2).all() and (spacing[:, :2] != 1).mean() > 0.9
    assert (spacing[:, 2] >= 5).all() and (spacing[:, 2] <= 10).all()


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = make_acdc(tmp_path / "acdc", numbers=[1, 13]), tmp_path / "new" / "acdc.json"
    monkeypatch.setattr(sys, "argv", ["acdc", str(root), str(out)])
    monkeypatch.delitem(sys.modules, "monai_constraints.data.datasets.acdc")
    runpy.run_module("monai_constraints.data.datasets.acdc", run_name="__main__")
    assert json.loads(out.read_text()) == acdc_datalist(root)
    assert list(out.parent.iterdir()) == [out]


def test_datalist_paths_and_limit(tmp_path: Path) -> None:
    items = [
        {"image": [f"a{n}.nii", "/b.nii"], "case": f"case{n}", "patient": f"p{n // 2}"} for n in range(5)
    ]
    path = tmp_path / "list.json"
    write_datalist({"training": items, "validation": []}, path)
    read = read_datalist(path, "training", limit=2)
    assert [item["case"] for item in read] == ["case0", "case1", "case2", "case3"]
    assert read[1] == {**items[1], "image": [str(tmp_path / "a1.nii"), "/b.nii"]}
    assert read_datalist(path, "training", base_dir="/else")[0]["image"][0] == "/else/a0.nii"
    others = ("label", "scribble", "mask", "boxes")
    write_datalist({"training": [{"image": "a.nii", **{key: f"{key}.x" for key in others}, "tag": "a"}]}, path)
    (item,) = read_datalist(path, "training")
    assert [item[key] for key in others] == [str(tmp_path / f"{key}.x") for key in others] and item["tag"] == "a"
    write_datalist({"training": [{"image": "a", "case": str(n)} for n in range(3)]}, path)
    assert [item["case"] for item in read_datalist(path, "training", limit=2)] == ["0", "1"]


@pytest.mark.parametrize("failing", ["json.dumps", "pathlib.Path.write_text", "os.replace"])
def test_datalist_failed_write_keeps_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError("disk full")

    path = tmp_path / "list.json"
    write_datalist({"training": []}, path)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(failing, fail)
        write_datalist({"training": [{"image": "a"}]}, path)
    assert json.loads(path.read_text()) == {"training": []} and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no datalist at"),
        ("{", "is not JSON"),
        ('{"validation": []}', r"no key 'training', it has \['validation'\]"),
        ("[]", "it has a list"),
        ('{"training": []}', "empty list"),
        ('{"training": [1]}', "list of dicts"),
    ],
)
def test_datalist_errors(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "list.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises((FileNotFoundError, ValueError), match=message) as caught:
        read_datalist(path, "training")
    assert str(path) in str(caught.value)
    with pytest.raises(ValueError, match="limit is 0"):
        read_datalist(path, "training", limit=0)
