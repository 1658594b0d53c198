"""Tables as files, and reports of run folders; whole tables run in test_table_processes.py."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from bundle_data import BUNDLES, read_csv
from conftest import REPOSITORY
from fire.parser import DefaultParseValue
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from monai.bundle import ConfigParser, update_kwargs

from monai_constraints.engines.check_configuration import check_names
from reproduce import table as command
from reproduce.compare import compare_runs
from reproduce.figures import draw_cases
from reproduce.plan import changed_keys, make_plan
from reproduce.report import Heading, write_report
from reproduce.results import Group, measure
from reproduce.runner import locked
from reproduce.table_file import config_file, read_table

TABLES = sorted((REPOSITORY / "reproduce" / "tables").glob("*.yaml"))
PICTURES = {"curves.png", "satisfaction.png", "patients.png", "panel.png"}


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_tables_are_short_and_every_row_can_start(path: Path, tmp_path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 200
    table = read_table(path)
    base = ConfigParser.load_config_file(str(config_file(table.bundle, "train")))
    for protocol in table.protocols.values():
        plan = make_plan(table, protocol, tmp_path)
        assert len(plan) == len(protocol.seeds) * sum(not row.pending for row in table.rows)
        configs = [json.dumps({k: v for k, v in run.config.items()}, sort_keys=True) for run in plan]
        assert len(set(configs)) == len(plan), "two rows are the same training"
        assert all(run.epochs > 0 for run in plan)
        for run in plan[: len(plan) // len(protocol.seeds)]:  # what a training looks at before all else
            check_names(ConfigParser(dict(run.config)), base)


def test_published_values_are_the_thesiss() -> None:
    found = {path.stem: {row.name: row.published for row in read_table(path).rows} for path in TABLES}
    expected = [0.1497, 0.7707, 0.7924, 0.7924, None, 0.7854, 0.8004, 0.8004, None, 0.79, 0.79, 0.8708, 0.858]
    expected += [*[None] * 6, 0.8872]
    assert [values.get("dice_2d") for values in found["2_1"].values()] == expected
    expected = [0.8004, 0.5434, 0.8386, None, None, 0.6004, 0.8475, None, 0.7680, 0.8641, None, 0.8872]
    assert [values.get("dice_2d") for values in found["2_2"].values()] == expected
    expected = [0.1155, 0.5597, None, 0.79, None, None, 0.8604, *[None] * 6, 0.8999, None]
    assert [values.get("dice_2d") for values in found["2_3_vertebral"].values()] == expected
    expected = [0.1155, 0.5597, None, 0.79, None, 0.8604, *[None] * 3, 0.8999]
    assert [values.get("dice_2d") for values in found["2_3_vertebral_axial"].values()] == expected
    expected = [0.8604, 0.79, 0.6704, 0.6349, 0.7820, 0.6694, 0.6255, 0.5597]
    assert [values["dice_2d"] for values in found["2_4"].values()] == expected
    expected = [0.8604, 0.79, 0.6704, 0.7820, 0.6694, 0.5597]
    assert [values["dice_2d"] for values in found["2_4_vertebral_axial"].values()] == expected
    expected = [None, None, None, 0.511, 0.644, 0.582, 0.608, 0.631, 0.631, 0.650]
    assert [values.get("dice_3d") for values in found["4_stroke"].values()] == expected
    expected = [5.32, 4.778, 5.052, 5.326, 5.762, 9.234, 2.462, 3.335, 20.275, 4.952, 4.795, None]
    assert [values.get("hd95") for values in found["4_stroke_alpha"].values()] == expected
    expected = [None, None, None, 0.511, 0.644, 0.659, 0.582, 0.608, 0.631, 0.631, 0.650]
    assert [values.get("dice_3d") for values in found["4_1_isles"].values()] == expected
    expected = [None, None, None, 5.32, 4.795, 2.725, 4.126, 4.572, 5.961, 4.989, 1.77]
    assert [values.get("hd95") for values in found["4_1_isles"].values()] == expected
    expected = [None, 0.638, None, 0.768, 0.793, 0.818, 0.805, 0.757, 0.756, 0.808, 0.786]
    assert [values.get("dice_3d") for values in found["4_1_wmh"].values()] == expected
    expected = [None, 4.578, None, 3.634, 2.039, 1.702, 2.151, 4.355, 2.887, 1.816, 2.258]
    assert [values.get("hd95") for values in found["4_1_wmh"].values()] == expected
    tables = ("4_2_isles", "4_stroke_time", "4_2_wmh")
    times = [[values["ms_per_batch"] for values in found[name].values()] for name in tables]
    assert times == [[187, 190, 210], [187, 190, 210], [345, 345, 392]]
    expected = [0.511, 0.545, 0.566, 0.606, 0.605, 0.604, 0.628, 0.565, 0.549, 0.622, 0.644, None]
    assert [values.get("dice_3d") for values in found["4_3_isles"].values()] == expected
    assert list(found["4_3_isles"].values()) == list(found["4_stroke_alpha"].values())  # of the same table
    expected = [None, 0.827, None, None, 0.62, 0.774, 0.835]
    assert [values.get("dice_3d") for values in found["6_1_prostate"].values()][:7] == expected
    for table in ("6_1_atlas", "6_1_stroke"):
        expected = [None, 0.375, None, 0.161, 0.146, 0.159, 0.474]
        assert [values.get("dice_3d") for values in found[table].values()][:7] == expected
        assert found[table]["full"]["dice_3d"] == 0.489
    values = {row: of_row.get("dice_3d") for row, of_row in found["6_2_prostate"].items()}
    assert [values[row] for row in ("deepcut_0", "deepcut_10", "margin_0", "margin_10")] == [0.827, 0.684, 0.835, 0.778]
    assert values["full"] == found["6_1_prostate"]["full"]["dice_3d"] == 0.901
    assert [values.get("seconds_per_epoch") for values in found["b_1"].values()] == [150, 170, None, None, 150]
    assert found["b_1"]["deepcut"]["seconds_per_update"] == 440
    expected = [112, 113, 113, 610, 675, 221, None, 220, None, 112]
    assert [values.get("ms_per_batch") for values in found["2_5"].values()] == expected


def contents(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "title": "T", "source": "S", "bundle": str(BUNDLES / "acdc_lv"), "reference": "full",
        "protocols": {"p": {"note": "n", "seeds": [0, 1], "options": {"max_epochs": 3}}},
        "rows": [
            {"name": "tags", "overlays": ["rows/tags"], "published": {"dice_2d": 0.5, "hd95": None}},
            {"name": "later", "pending": "another issue"},
            {"name": "full", "label": "Full", "overlays": ["rows/full"], "options": {"batch_size": 2}},
        ],
    }  # fmt: skip
    return {**data, **changes}


def write(path: Path, data: Any) -> Path:
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data), encoding="utf-8")
    return path


BAD: list[tuple[Any, type[Exception], str]] = [
    ("title: [", ValueError, "is not YAML"),
    ("title: a\ntitle: b\n", ValueError, "Duplicate key: 'title'"),
    ("just text", ValueError, "is not of type 'object'; it takes title, source"),
    ({**contents(), "rows": [*contents()["rows"], {"name": "tags"}]}, ValueError, "a name twice"),
    (contents(colour="red"), ValueError, "'colour' was unexpected.; it takes title, source"),
    ({k: v for k, v in contents().items() if k != "source"}, ValueError, "'source' is a required property"),
    (contents(bundle="nowhere"), FileNotFoundError, "nowhere/configs/train.yaml and no .json"),
    (contents(reference="best"), ValueError, "no row 'best'; choose one of"),
    (contents(metrics=["dice"]), ValueError, r"metrics\[0\]: 'dice' .*expected dice_2d, "),
    (contents(selection="best"), ValueError, "selection: 'best' .*expected which epoch"),
    (contents(notes=5), ValueError, "notes: 5 is not of type 'array'; expected a list of sentences"),
    (contents(rows=[]), ValueError, "expected one row or more"),
    (contents(protocols={}), ValueError, "expected one protocol or more"),
    (contents(rows=[{"name": "a b"}]), ValueError, r"rows\[0\].name: 'a b' .*expected a folder's name"),
    (contents(rows=[{"name": "full", "overlay": []}]), ValueError, r"rows\[0\]: .*'overlay' was unexpected"),
    (contents(rows=[{"name": "full", "options": ["a"]}]), ValueError, r"rows\[0\].options: .*expected options of"),
    (contents(rows=[{"name": "full", "options": {5: 1}}]), ValueError, "5 is not of type 'string'"),
    (contents(rows=[{"name": "full", "overlays": ["rows/no"]}]), FileNotFoundError, "rows/no.yaml and no .json"),
    (contents(rows=[{"name": "full", "published": {"dice": 1}}]), ValueError, r"rows\[0\].published: 'dice'"),
    (contents(rows=[{"name": "full", "published": {"hd95": "1"}}]), ValueError, "published.hd95: '1' .*a number or"),
    (contents(protocols={"p": {"note": "n", "seeds": [0, 0]}}), ValueError, "p.seeds: .*each once"),
    (contents(protocols={"p": {"note": "n", "seeds": [True]}}), ValueError, r"p.seeds\[0\]: True .*a whole number"),
    (contents(protocols={"p": {"seeds": [0]}}), ValueError, "protocols.p: 'note' is a required property"),
]


@pytest.mark.parametrize(("data", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_a_wrong_table_is_refused(data: Any, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        read_table(write(tmp_path / "t.yaml", data))


def test_the_command_is_what_a_user_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    table = read_table(write(tmp_path / "t.yaml", contents()))
    plan = make_plan(table, table.protocols["p"], Path("out"), extra={"dataset_dir": "/data/my acdc"})
    assert [run.name for run in plan] == ["tags seed 0", "full seed 0", "tags seed 1", "full seed 1"]
    assert plan[1].command == (
        "python -m monai.bundle run --config_file "
        "\"['bundles/acdc_lv/configs/train.yaml','bundles/acdc_lv/configs/rows/full.yaml']\" "
        '--bundle_root bundles/acdc_lv --max_epochs 3 --batch_size 2 --dataset_dir "/data/my acdc" '
        "--output_dir out/runs/full/seed0 --seed 0 --progress False"
    )
    assert plan[1].config["batch_size"] == 2 and plan[1].epochs == 3 and plan[2].config["seed"] == 1
    (run,) = make_plan(table, table.protocols["p"], Path("out"), rows=["full"], seeds=[7], extra={"batch_size": "5"})
    assert run.config["batch_size"] == 5 and run.seed == 7


def test_configurations_may_be_yaml_and_rows_may_carry_options(tmp_path: Path) -> None:
    (tmp_path / "b" / "configs" / "rows").mkdir(parents=True)
    weights = {"_target_": "Constant", "value": 1}
    write(tmp_path / "b" / "configs" / "train.yaml", {"max_epochs": 7, "alpha": 1, "weight": weights})
    (tmp_path / "b" / "configs" / "rows" / "a.json").write_text('{"alpha": 2}', encoding="utf-8")
    write(tmp_path / "b" / "configs" / "rows" / "b.yaml", {"alpha": 3})
    other = {"_target_": "Linear", "start": 0.5}
    rows = [
        {"name": "a", "overlays": ["rows/a"]},
        {"name": "b", "overlays": ["rows/b"], "options": {"weight#value": 0.01}},
        {"name": "c", "options": {"weight": other, "alpha": "0.5"}},
    ]
    data = contents(bundle="b", rows=rows, reference="a")
    table = read_table(write(tmp_path / "t.yaml", {**data, "protocols": {"p": {"note": "n", "seeds": [0]}}}))
    configs = [run.config for run in make_plan(table, table.protocols["p"], tmp_path)]
    assert [config["alpha"] for config in configs] == [2, 3, "0.5"]
    assert [config["weight"] for config in configs] == [weights, {**weights, "value": 0.01}, other]


def test_an_option_that_is_none_reaches_the_run(tmp_path: Path) -> None:
    """MONAI's command leaves out what is None."""
    rows = [{"name": "a", "options": {"train_count": None}}, {"name": "full"}]
    table = read_table(write(tmp_path / "t.yaml", contents(rows=rows)))
    protocol = table.protocols["p"]
    of_row, *_ = make_plan(table, protocol, tmp_path, rows=["a"])
    of_user, *_ = make_plan(table, protocol, tmp_path, rows=["full"], extra={"train_count": "None"})
    for run in (of_row, of_user):
        words = shlex.split(run.command)
        value = DefaultParseValue(words[words.index("--train_count") + 1])
        passed = update_kwargs({}, train_count=value)
        parser = ConfigParser({"train_count": 3})
        parser.update(passed)
        assert parser.get_parsed_content("train_count") is None


def test_rows_share_options_and_may_add_a_part(tmp_path: Path) -> None:
    text = yaml.safe_dump(contents(rows=[])).replace("rows: []", """rows:
- {name: full, options: &one {batch_size: 3}}
- {name: crf, options: {<<: *one, loss#terms#crf: {_target_: Identity}}}
- {name: wrong, options: {loss#terms#crf: 3}}""")
    table = read_table(write(tmp_path / "t.yaml", text))
    _, run = make_plan(table, table.protocols["p"], tmp_path, rows=["full", "crf"], seeds=[0])
    assert run.config["batch_size"] == 3 and run.config["loss"]["terms"]["crf"] == {"_target_": "Identity"}
    with pytest.raises(ValueError, match="no option 'loss#terms#crf'"):
        make_plan(table, table.protocols["p"], tmp_path, rows=["wrong"])


def test_wrong_options_and_rows_are_refused(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "t.yaml", contents()))
    for extra, message in (
        ({"max_epoch": "3"}, "no option 'max_epoch'"),
        ({"sizes#classes": "3"}, "no option 'sizes#classes'"),
        ({"seed": "3"}, r"itself sets \['seed'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            make_plan(table, table.protocols["p"], tmp_path, extra=extra)
    alone = [{"name": "a", "overlays": ["rows/deepcut"]}]
    data = contents(bundle=str(BUNDLES / "acdc_boxes"), reference="a", rows=alone)
    boxes = read_table(write(tmp_path / "boxes.yaml", data))
    with pytest.raises(ValueError, match="table: row a of .*boxes.yaml: .*deepcut goes after box_as_label"):
        make_plan(boxes, boxes.protocols["p"], tmp_path)
    for row, message in (("later", "is pending: another issue"), ("no", "is not there; choose among")):
        with pytest.raises(ValueError, match=message):
            make_plan(table, table.protocols["p"], tmp_path, rows=[row])


def make_run(
    folder: Path,
    dices: list[str],
    *,
    seconds: float = 10,
    cases: dict[str, float] | None = None,
    shape: tuple[int, int] = (20, 16),
) -> Path:
    folder.mkdir(parents=True)
    head = "epoch,seconds,batches,data_share,seconds_validation,val_dice,val_size_satisfied,val_size_stability"
    lines = [f"{i + 1},{seconds + i},5,0.25,2,{dice},0.5,{dice}" for i, dice in enumerate(dices)]
    (folder / "metrics.csv").write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    if cases:
        lines = [f"{c},{c[:2]},lv,{dice},{10 * dice},{dice / 2},{i + 1}" for i, (c, dice) in enumerate(cases.items())]
        text = "\n".join(["case,patient,class,dice,hd95,dice_2d,slices", *lines]) + "\n"
        (folder / "patients.csv").write_text(text, encoding="utf-8")
        planes = {}
        for i, case in enumerate(cases):
            image = np.random.default_rng(i).random(shape).astype(np.float16)
            label = np.zeros(shape, np.uint8)
            label[5:12, 4 + i : 9 + i] = 1
            planes |= {f"image/{case}": image, f"label/{case}": label, f"pred/{case}": np.roll(label, 2, 0)}
        np.savez_compressed(folder / "predictions.npz", **planes)  # type: ignore[arg-type]
    return folder


def reported(tmp_path: Path, **heading: Any) -> tuple[str, dict[str, dict[str, str]]]:
    cases = [{"p1_a": 0.6, "p2_a": 0.8}, {"p1_a": 0.7, "p2_a": 0.9}, {"p1_a": 0.9, "p2_a": 0.95}]
    groups = [
        Group("weak", "Weak | ours", published={"dice_2d": 0.7924}),
        Group("gone", "Gone", published={"dice_2d": 0.77}, pending="later"),
        Group("bad", "Bad", problems=["seed 0: failed"], log="ValueError: no"),
        Group("full", "Full"),
    ]
    groups[0].folders = [
        make_run(tmp_path / "weak0", ["0.1", "0.9", "0.3"], cases=cases[0]),
        make_run(tmp_path / "weak1", ["0.2", "", "0.5"], cases=cases[1], seconds=20),
    ]
    groups[3].folders = [make_run(tmp_path / "full0", ["0.8", "0.7"], cases=cases[2])]
    text = write_report(groups, tmp_path / "out", Heading(title="T", reference="full", **heading))
    name = "table_legacy.csv" if heading.get("selection") == "legacy" else "table.csv"
    return text, {row["row"]: row for row in read_csv(tmp_path / "out" / name)}


def test_the_report_says_what_the_runs_measured(tmp_path: Path) -> None:
    text, rows = reported(tmp_path)
    # weights 1 and 2 slices: (0.3 + 2 * 0.4) / 3 and (0.35 + 2 * 0.45) / 3
    a, b = 1.1 / 3, 1.25 / 3
    assert float(rows["weak"]["dice_2d"]) == pytest.approx((a + b) / 2, rel=1e-4)
    assert float(rows["weak"]["dice_2d_sd"]) == pytest.approx((b - a) / 2**0.5, rel=1e-4)
    assert float(rows["weak"]["dice_3d"]) == pytest.approx(0.75) and float(rows["weak"]["hd95"]) == pytest.approx(7.5)
    assert float(rows["weak"]["dice_3d_gap"]) == pytest.approx(0.925 - 0.75)
    assert rows["full"]["dice_3d_gap"] == "0" and rows["full"]["dice_3d_sd"] == ""
    assert float(rows["weak"]["seconds_per_epoch"]) == pytest.approx((11.5 + 21.5) / 2)
    assert float(rows["weak"]["ms_per_batch"]) == pytest.approx(1000 * (11.5 + 21.5) / 2 / 5)
    assert float(rows["full"]["minutes"]) == pytest.approx((10 + 11 + 4) / 60, rel=1e-4)
    assert rows["gone"]["dice_2d"] == "" and rows["gone"]["dice_2d_published"] == "0.77"
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert table[0][:9] == [
        "row", "Dice 2D", "published", "below full", "Dice 3D", "below full", "HD95 mm", "size satisfied %", "ms/batch"
    ]  # fmt: skip
    assert table[2][:6] == ["Weak / ours", "0.392 ± 0.035", "0.792", "0.075", "0.750 ± 0.071", "0.175"]
    assert table[2][6:8] == ["7.5 ± 0.7", "50.0 ± 0.0"]
    assert table[0][-1] == "remarks" and table[2][-1] == ""
    assert table[3][:3] == ["Gone", "–", "0.770"] and table[3][-1] == "pending: later"
    assert table[4][0] == "Bad" and table[4][-1] == "seed 0: failed"
    assert "nothing is chosen" in text and "ValueError: no" in text
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"table.md", "table.csv"} | PICTURES
    assert all((tmp_path / "out" / name).stat().st_size > 5000 for name in PICTURES)


def test_legacy_selection_is_labelled_and_kept_apart(tmp_path: Path) -> None:
    text, rows = reported(tmp_path, selection="legacy")
    assert float(rows["weak"]["dice_2d"]) == pytest.approx((0.9 + 0.5) / 2)
    assert float(rows["weak"]["epoch"]) == pytest.approx((2 + 3) / 2) and "dice_3d" not in rows["weak"]
    assert "LEGACY SELECTION" in text and "Dice 2D (legacy)" in text and "nothing is chosen" not in text
    assert {path.name for path in (tmp_path / "out").glob("table*")} == {"table_legacy.md", "table_legacy.csv"}


def test_classes_have_columns_of_their_own(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", ["0.5"], cases={"p1": 0.5})
    with open(folder / "patients.csv", "a", encoding="utf-8") as file:
        file.write("p1,p1,rv,0.9,3,0.1,1\n")
    numbers = measure(folder).numbers
    assert numbers["dice_3d"] == pytest.approx(0.7) and numbers["dice_3d/lv"] == 0.5 and numbers["hd95/rv"] == 3
    text = write_report([Group("a", "A", folders=[folder])], tmp_path / "out", Heading(title="T"))
    assert "| Dice 3D rv |" in text


def test_the_3d_dice_of_the_last_validations(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", ["0.1", "0.2", "", "0.3", "0.4", "0.5", "0.6"], cases={"p1_a": 0.6})
    assert "dice_3d_mean" not in measure(folder).numbers
    lines = (folder / "metrics.csv").read_text(encoding="utf-8").splitlines()
    dice = ["val_dice_3d", "0.9", "0.1", "", "0.2", "0.3", "0.4", "0.5"]
    (folder / "metrics.csv").write_text("\n".join(f"{a},{b}" for a, b in zip(lines, dice)) + "\n", encoding="utf-8")
    numbers = measure(folder).numbers
    assert numbers["dice_3d_mean"] == pytest.approx(0.3) and numbers["dice_2d_mean"] == pytest.approx(0.4)


def test_empty_slices_have_columns_where_there_are_any(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", ["0.4", "0.5"], cases={"p1": 0.5})
    text = (folder / "metrics.csv").read_text(encoding="utf-8").splitlines()
    lines = [f"{line},{cell}" for line, cell in zip(text, ["val_dice_present", "0.3", "0.7"])]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    head = "case,patient,class,dice,hd95,dice_2d,slices,absent,left_empty,missed"
    for rows, expected in (
        (["a,a,lv,0.5,3,0.5,8,3,2,1", "b,b,lv,0.5,3,0.5,7,2,2,0"], {"left_empty": 0.8, "missed": 0.1}),
        (["a,a,lv,0.5,3,0.5,8,0,0,1"], {}),
    ):
        (folder / "patients.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
        numbers = measure(folder).numbers
        expected |= {"dice_2d_present": 0.7} if expected else {}
        names = ("left_empty", "missed", "dice_2d_present")
        assert {name: numbers[name] for name in names if name in numbers} == pytest.approx(expected)
        table = write_report([Group("a", "A", folders=[folder])], tmp_path / "out", Heading(title="T"))
        assert ("| Dice 2D, present | left empty % | missed % |" in table) == bool(expected)
        assert ("| 0.700            | 80.0         | 10.0     |" in table) == bool(expected)


@pytest.mark.parametrize("methods", [1, 3])
def test_the_title_of_the_panel_is_whole(methods: int, tmp_path: Path) -> None:
    label = "Partial CE + tags + root of individual size, empty slices labelled"
    folders = [make_run(tmp_path / f"m{i}", ["0.5"], cases={"p1": 0.5}) for i in range(methods)]
    groups = [Group(folder.name, label, folders=[folder]) for folder in folders]
    figure = draw_cases(groups, {group.name: [measure(group.folders[0])] for group in groups}, "")
    assert figure is not None
    FigureCanvasAgg(figure).draw()
    text = figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_text().startswith("Worst"))[0]
    extent = text.get_window_extent()
    assert extent.x0 >= 0 and extent.x1 <= figure.bbox.width


@pytest.mark.parametrize("shape", [(20, 16), (16, 48)])
def test_the_rows_of_the_panel_follow_each_other(shape: tuple[int, int], tmp_path: Path) -> None:
    """Also those of wide images, such as axial slices of a spine."""
    folder = make_run(tmp_path / "m", ["0.5"], cases={"p1": 0.5, "p2": 0.6, "p3": 0.7}, shape=shape)
    figure = draw_cases([Group("m", "M", folders=[folder])], {"m": [measure(folder)]}, "")
    assert figure is not None
    FigureCanvasAgg(figure).draw()
    extents = [axes.get_window_extent() for axes in figure.axes[::2]]
    assert len(extents) == 3 and all(one.width > 2 * figure.dpi for one in extents)
    gaps = [upper.y0 - lower.y1 for upper, lower in zip(extents, extents[1:])]
    assert all(0 < gap < 0.7 * figure.dpi for gap in gaps)


def test_a_damaged_folder_is_its_rows_problem(tmp_path: Path) -> None:
    good = make_run(tmp_path / "b", ["0.5"])
    groups = [Group("a", "A", folders=[tmp_path / "none"]), Group("b", "B", folders=[good])]
    text = write_report(groups, tmp_path / "out", Heading(title="T"))
    assert re.search(r"^\| A .*\| none: report: ", text, re.MULTILINE) and "| B " in text


def test_an_epoch_without_validation_at_the_end_is_said(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "seed0", ["0.5", "0.6", ""])
    text = write_report([Group("a", "A", folders=[folder])], tmp_path / "out", Heading(title="T"))
    assert "seed0: last validated after epoch 2" in text and "0.600" in text


def test_compare_reports_folders(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "penalty", ["0.1", "0.3"]), make_run(tmp_path / "barrier", ["0.7", "0.9"])]
    text = compare_runs(runs, tmp_path / "out")
    rows = [[cell.strip() for cell in line.strip("|").split("|")][:2] for line in text.splitlines() if line[:1] == "|"]
    assert rows[2:] == [["penalty", "0.300"], ["barrier", "0.900"]]
    assert (tmp_path / "out" / "curves.png").stat().st_size > 5000
    with pytest.raises(FileNotFoundError, match="nowhere.*train into"):
        compare_runs([tmp_path / "nowhere"], tmp_path)
    with pytest.raises(FileNotFoundError, match="no epoch yet"):
        compare_runs([make_run(tmp_path / "young", [])], tmp_path)
    with pytest.raises(ValueError, match="same name"):
        compare_runs([runs[0], runs[0]], tmp_path)


def test_another_configuration_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, out = write(tmp_path / "t.yaml", contents()), tmp_path / "out"
    table = read_table(path)
    (run,) = make_plan(table, table.protocols["p"], out, rows=["full"], seeds=[0])
    make_run(run.folder, ["0.5"])
    record = {"status": "done", "config": {**run.config, "batch_size": 9}, "extra": {}, "command": run.command}
    (run.folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert changed_keys(run) == ["batch_size"]
    words = [str(path), "--out", str(out), "--rows", "full", "--seeds", "0"]
    assert command.main(words) == 2
    assert "full seed 0: batch_size" in caplog.text and "--redo" in caplog.text
    assert command.main([*words, "--report-only"]) == 0
    assert "made with another batch_size" in (out / "table.md").read_text(encoding="utf-8")
    assert command.main([*words, "--report-only", "--", "--batch_size", "9"]) == 0
    assert "made with another" not in (out / "table.md").read_text(encoding="utf-8")
    record["extra"] = {"batch_size": "9"}
    (run.folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert command.main([*words, "--report-only"]) == 0  # takes the options that the runs had
    assert "made with another" not in (out / "table.md").read_text(encoding="utf-8")


def test_the_same_data_by_another_path_is_the_same_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "work").mkdir()
    table = read_table(write(tmp_path / "t.yaml", contents()))
    (run,) = make_plan(
        table, table.protocols["p"], tmp_path, rows=["full"], seeds=[0], extra={"dataset_dir": str(tmp_path / "data")}
    )
    run.folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for before, directory, changed in (("data", ".", []), ("../data", "work", []), ("../data", ".", ["dataset_dir"])):
        record = {"config": {**run.config, "dataset_dir": before}, "directory": str(tmp_path / directory)}
        (run.folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
        assert changed_keys(run) == changed


def test_a_picture_without_runs_goes(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", ["0.5", "0.6"])
    write_report([Group("a", "A", folders=[folder])], tmp_path / "out", Heading(title="T"))
    assert (tmp_path / "out" / "curves.png").is_file()
    write_report([Group("a", "A")], tmp_path / "out", Heading(title="T"))
    assert not (tmp_path / "out" / "curves.png").exists()


def test_wrong_arguments_end_with_2(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "t.yaml", contents(serial=True))
    words = [str(path), "--out", str(tmp_path / "out")]
    for more, message in (
        (["--protocol", "q"], "choose --protocol among ['p']"),
        (["--workers", "2"], "1 where rows are timed"),
        (["--", "--size"], "expected pairs"),
        (["--rows", "nope"], "is not there"),
    ):
        caplog.clear()
        assert command.main([*words, *more]) == 2
        assert message in caplog.text
    with locked(tmp_path / "out"):
        assert command.main(words) == 2
    assert "another runner works in" in caplog.text


def test_the_table_of_the_page_can_start(tmp_path: Path) -> None:
    text = (REPOSITORY / "reproduce" / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    block = block.replace("../../bundles", str(BUNDLES)).replace("reference: full ", "reference: tags ")
    table = read_table(write(tmp_path / "t.yaml", block))
    assert [run.epochs for run in make_plan(table, table.protocols["cpu"], tmp_path)] == [20, 20]
