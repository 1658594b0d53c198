"""Kinds of bad configurations: names, types, overlays, folders, resuming, and trainings that are not finite."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import yaml
from bad_kind import Kind
from bundle_data import BUNDLES

CONFIGS = BUNDLES / "acdc_lv" / "configs"


def misspelt(name: str) -> str:
    """Two letters in the wrong order, as fingers do it."""
    middle = next((n for n in range(len(name) // 2, len(name) - 1) if name[n] != name[n + 1]), 0)
    return name[:middle] + name[middle + 1] + name[middle] + name[middle + 2 :]


def configuration_kinds() -> Iterator[Kind]:
    """Of acdc_lv."""
    base = yaml.safe_load((CONFIGS / "train.yaml").read_text(encoding="utf-8"))
    for name in base:
        if "#" not in name:
            yield Kind("names", f"--{misspelt(name)}", f"nothing reads {misspelt(name)}", {misspelt(name): 1})
    for path in ("train#dataset#date", "optimizer#lrr", "loss#temprature", "trunk#featurs",
                 "loss#terms#size#wieght", "loss#terms#size#loss#penalti", "augmentation#transforms#0#rotate",
                 "preprocessing#transform", "checkpoint#paths", "train#trainer#max_epoch", "size#classes"):  # fmt: skip
        yield Kind("names", f"--{path}", "takes no " + path.rpartition("#")[2], {path: 1})
    yield Kind("names", "--train#dataloader#batchsize", "did you mean batch_size", {"train#dataloader#batchsize": 1})
    for path in ("train#handler", "validate#key_metrics", "train#preprocesing"):
        yield Kind("names", f"--{path}", f"nothing reads {path}", {path: []})
    for path in ("trian#dataset#data", "loss#term#ce#weight", "loss#terms#sise#weight", "train#handlers#99#path"):
        yield Kind("names", f"--{path}", "goes nowhere", {path: 1})
    for path in ("optimizer", "loss", "size", "lr_scheduler", "trunk", "train#trainer"):
        given = {f"{path}#_target_": f"monai_constraints.losses.No{path[:3]}"}
        yield Kind("names", f"no such class of {path}", f"{path}#_target_: no monai", given)

    for name in ("max_epochs", "val_interval", "batch_size", "learning_rate", "seed", "structure", "label_classes"):
        yield Kind("types", f"a text for {name}", f"{name} is the text 'many', expected a number", {name: "many"})
    for name in ("resume", "progress", "restart"):
        yield Kind("types", f"yes for {name}", f"{name} is the text 'yes', expected True", {name: "yes"})
        yield Kind("types", f"the text false for {name}", "", {name: "false"})
    yield Kind("types", "a text in an overlay", "restart is the text 'False'; write", overlay="restart: 'False'")
    words = "learning_rate is the text '1e-3'"
    yield Kind("types", "1e-3 in YAML, which is a text", words, overlay="learning_rate: 1e-3")

    for name, text, words in (
        ("not YAML", "a: [1,", "is neither JSON nor YAML"), ("tabs", "a:\n\t- 1", "is neither JSON nor YAML"),
        ("a key twice", "seed: 1\nseed: 2", "has a name twice .Duplicate key: `seed`"), ("a list", "- 1", "is a list"),
        ("nothing", "", "is a NoneType"), ("a picture", b"\x89PNG\r\n\x00\xff", "is neither JSON nor YAML"),
        ("a new name, unread", "often: 1", "nothing reads often"), ("a reference to nothing", "seed: '@sed'", "@sed"),
    ):  # fmt: skip
        yield Kind("overlays", name, words, overlay=text)
    yield Kind("overlays", "a new name that is read", "", overlay="often: 1\nseed: '@often'")
    for first, second in (("full", "tags"), ("common", ""), ("full", "full"), ("thesis_tags", "")):
        rows = [name for name in (first, second) if name]
        yield Kind("overlays", f"rows {' and '.join(rows)}", "Preflight: the row|nothing reads|@", {"--rows": rows})

    yield Kind("folders", "a finished run", "holds a finished training", after_a_run=True)
    yield Kind("folders", "an interrupted run", "holds a training that was interrupted",
               harm=lambda at: (at.out / "model.pt").unlink(), after_a_run=True)  # fmt: skip
    yield Kind("folders", "weights alone", "holds a finished training",
               harm=lambda at: (at.out / "checkpoint.pt").unlink(), after_a_run=True)  # fmt: skip
    yield Kind("folders", "restart", "", {"restart": True}, after_a_run=True)
    yield Kind("folders", "resume", "", {"resume": True, "max_epochs": 3}, after_a_run=True)
    yield Kind("folders", "both", "choose one", {"restart": True, "resume": True}, after_a_run=True)
    yield Kind("folders", "a file", "is a file, not a folder", {"output_dir": str(CONFIGS / "train.yaml")})
    yield Kind("folders", "below a file", "is a file, not a folder", {"output_dir": str(CONFIGS / "train.yaml" / "a")})
    yield Kind("folders", "in /proc", "cannot write in /proc/a", {"output_dir": "/proc/a"})
    yield Kind("folders", "no data", "no folder /nowhere", {"dataset_dir": "/nowhere"})
    yield Kind("folders", "no datalist", "no datalist at /no.json", {"datalist_file": "/no.json"})

    for name, write in (
        ("cut", lambda path: path.write_bytes(path.read_bytes()[:-300])),
        ("text", lambda path: path.write_text("hello")), ("empty", lambda path: path.write_bytes(b"")),
        ("a list", lambda path: torch.save([1], path)),
        ("other names", lambda path: torch.save({"net": 1}, path)),
        ("another network", lambda path: torch.save({**torch.load(path), "network": {"a": torch.ones(1)}}, path)),
    ):  # fmt: skip
        yield Kind("resume", f"checkpoint: {name}", "Resume: .*checkpoint.pt", {"resume": True, "max_epochs": 3},
                   harm=lambda at, write=write: write(at.out / "checkpoint.pt"), after_a_run=True)  # fmt: skip
    for key, value in {
        "seed": 7, "learning_rate": 0.01, "batch_size": 3, "structure": 1, "train_count": 1, "trunk#features": [8] * 6,
        "loss#terms#size#weight": 1, "loss#terms#size#loss#penalty#t": 4, "loss#temperature": 1, "augmentation": None,
        "weak_label#radius": 2, "size_rule#relative": 0.2, "optimizer#betas": [0.8, 0.9], "lr_scheduler#eta_min": 1e-5,
        "gpu": True, "val_interval": 2, "max_epochs": 5,
    }.items():  # fmt: skip
        words = "" if key in ("val_interval", "max_epochs") else rf"take_folder: .*\n(.*\n)*{key}.*, was "
        yield Kind("resume", f"other {key}", words, {"resume": True, "max_epochs": 3, key: value}, after_a_run=True)

    nan = "FiniteLoss: .* in epoch 1, step .*, on patient"
    yield Kind("finite", "a learning rate of 1e30", nan, {"learning_rate": 1e30})
    yield Kind("finite", "a weight of infinity", nan, {"loss#terms#size#weight": float("inf")})
    yield Kind("finite", "a weight that is NaN", nan, {"loss#terms#size#weight": float("nan")})
    yield Kind("finite", "a temperature that is NaN", nan + "|temperature", {"loss#temperature": float("nan")})
