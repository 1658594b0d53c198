"""The command `monai-constraints`: what it lists, copies and refuses, and own data from strokes to masks."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import REPOSITORY

from monai_constraints.command import BUNDLES, main, train, typed

NAMES = sorted(path.parents[1].name for path in (REPOSITORY / "bundles").glob("*/configs/metadata.json"))
TINY = ["--trunk#features", "[4, 4, 8, 8, 8, 4]", "--max_epochs", "1", "--progress", "False", "--device", "cpu"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:parsing config_file"),
    pytest.mark.filterwarnings("ignore:No hash value provided"),
]


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The last line of what is said."""
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_bundles_and_their_rows_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundles"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == NAMES and all(len(line.split()) > 4 for line in lines)
    assert main(["bundles", "acdc_lv"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert rows.keys() == {path.stem for path in (BUNDLES / "acdc_lv" / "configs" / "rows").glob("*.yaml")}
    assert "#" not in rows["tags"] and len(rows["tags"].split()) > 4


def test_lists_and_help_need_neither_torch_nor_monai() -> None:
    code = (
        "import sys\nfrom monai_constraints.command import main\nmain(['bundles'])\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'monai', 'ignite'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_reader_may_stop_reading() -> None:
    """`monai-constraints bundles | head -0`: no word about it."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "monai_constraints", "bundles"]
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run(command, cwd=REPOSITORY, stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine"
    assert main(["copy", "acdc_lv", str(mine)]) == 0
    assert (mine / "configs" / "train.yaml").read_text() == (BUNDLES / "acdc_lv/configs/train.yaml").read_text()
    (mine / "models").mkdir()
    assert main(["copy", str(mine), str(tmp_path / "again")]) == 0
    assert not (tmp_path / "again" / "models").exists() and (tmp_path / "again" / "LICENSE").is_file()
    assert "is there already" in refusal(capsys, "copy", "acdc_lv", str(mine))
    (tmp_path / "empty").mkdir()
    assert main(["copy", "acdc_lv", str(tmp_path / "empty")]) == 0
    assert "acdc_lv, " in refusal(capsys, "copy", "acdc_vl", str(tmp_path / "new"))


def test_options_have_the_types_of_fire() -> None:
    words = ["--a", "1", "--b=[1, 2]", "--c-d", "None", "--e#f", "data/x", "--g", "--h", "-1.5", "--i", "{k: v}"]
    words.append("--j=a=b")
    expected = {"a": 1, "b": [1, 2], "c_d": None, "e#f": "data/x", "g": True, "h": -1.5, "i": {"k": "v"}, "j": "a=b"}
    assert typed(words) == expected


def test_words_with_spaces_make_a_list() -> None:
    words = ["--class_names", "[left ventricle, my ring]", "--padded_size", "[192, 160]", "--seed", "$[one two]"]
    assert typed(words) == {
        "class_names": ["left ventricle", "my ring"], "padded_size": [192, 160], "seed": "$[one two]",
    }  # fmt: skip
    assert typed(["--a", "[b: c: d]"]) == {"a": "[b: c: d]"}  # neither fire nor YAML reads it


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["train", "acdc_lv", "--rows", "tagz"], "tagz is neither a file nor a row of acdc_lv; its rows are common, "),
        (["train", "acdc_lv", "--seed", "1", "--seed", "2"], "--seed is given twice"),
        (["train", "acdc_lv", "more"], "more belongs to no option"),
        (["train", "acdc_lv", "--config_file", "a.yaml"], "--config_file is made from the bundle and --rows"),
        (["train", "nowhere"], "nowhere is neither a folder with configs/ nor one of the bundles acdc, "),
        (["evaluate", "nowhere"], "nowhere is not the folder of a run, it has no evaluate.yaml"),
        (["predict", "nowhere", "--images", "x"], "nowhere is not the folder of a run, it has no inference.yaml"),
        (["predict", "nowhere"], "the following arguments are required: --images"),
        (["bundles", "acdc_lv", "more"], "more is one argument too many"),
    ],
)
def test_refusals_end_with_the_reason(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert reason in refusal(capsys, *arguments)


def test_a_shipped_bundle_writes_into_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text("seed: 3\n")
    files, options = train("acdc_lv", ["tags", "my.yaml"], {"seed": 1})
    configs = BUNDLES / "acdc_lv" / "configs"
    assert files == [configs / "train.yaml", configs / "rows" / "tags.yaml", Path("my.yaml")]
    assert options == {"bundle_root": str(BUNDLES / "acdc_lv"), "output_dir": str(tmp_path / "acdc_lv"), "seed": 1}
    assert train("acdc_lv", [], {"output_dir": "/x"})[1]["output_dir"] == "/x"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert train("acdc_lv", [], {})[0][-1] == configs / "multi_gpu_train.yaml"
    main(["copy", "acdc_lv", "acdc_lv"])  # a folder of that name comes before the shipped one
    assert train("acdc_lv", [], {})[1] == {"bundle_root": str(tmp_path / "acdc_lv")}


def strokes(folder: Path) -> dict[str, Any]:
    """Small volumes with one bright structure of classes 1 and 2, strokes in it alone and 255 elsewhere."""
    random = np.random.default_rng(0)
    for number in (1, 2, 3):
        label = np.zeros((35, 51, 4), np.uint8)
        label[8:18, 10:20, :3], label[18:24, 10:20, :3] = 1, 2
        scribble = np.full_like(label, 255)
        scribble[14:21, 15, :3] = label[14:21, 15, :3]
        image = (1000 * (label > 0) + random.normal(500, 50, label.shape)).astype(np.float32)
        for kind, data in {"images": image, "labels": label, "strokes": scribble}.items():
            (folder / kind).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(data, np.eye(4)), folder / kind / f"0{number}.nii.gz")
    text = (REPOSITORY / "docs" / "own_data.md").read_text(encoding="utf-8")
    datalist, overlay = (re.findall(rf"```{kind}\n(.*?)```", text, flags=re.DOTALL)[0] for kind in ("json", "yaml"))
    (folder / "my_cases.json").write_text(datalist)
    return {"overlay": overlay, "cases": json.loads(datalist)}


def test_the_steps_for_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/own_data.md has them, in an empty folder; only the network is smaller and the training short."""
    monkeypatch.chdir(tmp_path)
    page = strokes(tmp_path / "data")
    assert main(["copy", "acdc_lv", "my_bundle"]) == 0
    (tmp_path / "my_bundle" / "configs" / "rows" / "my_data.yaml").write_text(page["overlay"])
    assert main(["train", "my_bundle", "--rows", "scribbles,my_data", *TINY]) == 0
    run = tmp_path / "my_bundle" / "models"
    assert {"model.pt", "metrics.csv", "evaluate.yaml", "inference.yaml"} <= {path.name for path in run.iterdir()}
    monkeypatch.chdir(tmp_path / "data")
    assert main(["evaluate", "../my_bundle", "--progress", "False"]) == 0
    assert "03,03,hippocampus," in (run / "evaluation" / "patients.csv").read_text()
    assert main(["predict", "../my_bundle", "--images", "images", "--output_dir", "masks", "--progress", "False"]) == 0
    masks = sorted(path.name for path in (tmp_path / "data" / "masks").rglob("*.nii.gz"))
    assert masks == ["01_pred.nii.gz", "02_pred.nii.gz", "03_pred.nii.gz"]
    mask = np.asarray(nib.load(tmp_path / "data" / "masks" / "01_pred.nii.gz").dataobj)  # type: ignore[attr-defined]
    assert mask.shape == (35, 51, 4) and set(np.unique(mask)) <= {0, 1}


def test_a_copied_run_is_evaluated_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    overlay = strokes(tmp_path / "data")["overlay"]
    (tmp_path / "my_data.yaml").write_text(overlay)
    assert main(["train", "acdc_lv", "--rows", "scribbles,my_data.yaml", "--output_dir", "first", *TINY]) == 0
    shutil.copytree("first", "elsewhere/second")
    weights = torch.load("elsewhere/second/model.pt", weights_only=True)
    torch.save({name: torch.zeros_like(value) for name, value in weights.items()}, "elsewhere/second/model.pt")
    monkeypatch.chdir(tmp_path / "elsewhere")
    before = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert main(["evaluate", "second", "--progress", "False"]) == 0
    assert main(["predict", "second", "--images", "../data/images", "--progress", "False"]) == 0
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == before
    assert (tmp_path / "elsewhere" / "second" / "evaluation" / "patients.csv").is_file()
    masks = sorted((tmp_path / "elsewhere" / "second" / "predictions").rglob("*.nii.gz"))
    assert len(masks) == 3  # of a network of zeros, which is sure of nothing
    assert not any(np.asarray(nib.load(mask).dataobj).any() for mask in masks)  # type: ignore[attr-defined]
