"""Bad input of every kind, through the real command, as a table: refused in words, or passed although wrong?

    python tests/bad_input.py [WORD ...]        kinds whose group or name has one of the words; all without

Exit code 1 if a kind passed although wrong, failed after the training had begun, or was refused unclearly. Clear is:
ten lines at most, without a traceback, that name what is wrong. `test_bad_input.py` runs the quick ones.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
import yaml
from bundle_data import BUNDLES, make_acdc

from monai_constraints.engines import start

CONFIGS = BUNDLES / "acdc_lv" / "configs"
TINY: dict[str, Any] = {
    "bundle_root": str(BUNDLES / "acdc_lv"), "padded_size": [48, 48], "spatial_size": [32, 32],
    "trunk#features": [4, 4, 8, 8, 8, 4], "max_epochs": 2, "val_interval": 1, "progress": False, "device": "cpu",
}  # fmt: skip
CLEAR, UNCLEAR, LATE, PASSED, ACCEPTED = "refused clearly", "UNCLEAR", "FAILED LATE", "PASSED WRONG", "rightly accepted"
BAD = (UNCLEAR, LATE, PASSED)


class Place(NamedTuple):
    """Where a kind is tried: copies that it may harm."""

    root: Path  # the data set
    out: Path  # the folder of the run

    def path(self, ending: str = "", patient: int = 1) -> Path:
        return self.root / f"patient{patient:03d}" / f"patient{patient:03d}_frame01{ending}.nii.gz"

    def edit(self, change: Callable[[np.ndarray], np.ndarray], ending: str = "", patient: int = 1) -> None:
        """Change the voxels of one file; its header stays."""
        file: Any = nib.load(self.path(ending, patient))
        data = change(np.asarray(file.dataobj).copy())
        nib.save(nib.Nifti1Image(data, file.affine), self.path(ending, patient))


@dataclass(frozen=True)
class Kind:
    """One kind of bad input: what is given, what is done to files before, and words that its refusal must have."""

    group: str
    name: str
    words: str  # a pattern; empty: it has to be accepted
    options: dict[str, Any] = field(default_factory=dict)
    harm: Callable[[Place], Any] | None = None
    overlay: str | bytes | None = None
    after_a_run: bool = False


def misspelt(name: str) -> str:
    """Two letters in the wrong order, as fingers do it."""
    middle = next((n for n in range(len(name) // 2, len(name) - 1) if name[n] != name[n + 1]), 0)
    return name[:middle] + name[middle + 1] + name[middle] + name[middle + 2 :]


def kinds() -> Iterator[Kind]:
    """All of them."""
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

    def voxel(value: float, kind: Any, ending: str = "") -> Callable[[Place], None]:
        def change(data: np.ndarray) -> np.ndarray:
            data = data.astype(kind)
            data[5, 6, 1] = value
            return data

        return lambda at: at.edit(change, ending)

    for name, harm, words in (
        ("no image", lambda at: at.path().unlink(), "no patient001_frame.*in .*/patient001; unpack"),
        ("no label", lambda at: at.path("_gt").unlink(), "patient001_frame01_gt|case patient001_frame01, label"),
        ("a cut image", lambda at: at.path().write_bytes(at.path().read_bytes()[:500]), "truncated or not NIfTI"),
        ("an empty label", lambda at: at.path("_gt").write_bytes(b""), "truncated or not NIfTI"),
        ("NaN", voxel(np.nan, np.float32), "1 voxels are NaN or infinite"),
        ("infinity", voxel(np.inf, np.float32), "1 voxels are NaN or infinite"),
        ("not finite in float32", voxel(1e300, np.float64), "1 voxels are NaN or infinite"),
        ("complex", lambda at: at.edit(lambda d: d.astype(np.complex64)), "voxels of type complex64"),
        ("label 7", voxel(7, np.uint8, "_gt"), "expected integers 0..3, found 7"),
        ("label -1", voxel(-1, np.int16, "_gt"), "expected integers 0..3, found -1"),
        ("label 1.5", voxel(1.5, np.float32, "_gt"), "expected integers 0..3, found 1.5"),
        ("label of other shape", lambda at: at.edit(lambda d: d[:-1], "_gt"), "shape .47, 40, 4."),
        ("label in 4D", lambda at: at.edit(lambda d: np.stack([d, d], -1), "_gt"), "expected one volume"),
        ("the same image in both", lambda at: shutil.copy(at.path(), at.path(patient=13)), "same image|shape"),
    ):
        yield Kind("data", name, words, harm=harm)
    yield Kind("data", "a structure outside", "expected .*structure|structure.*0|OneStructured", {"structure": 9})
    yield Kind("data", "patients that are not there", "patient|cases", {"train_count": 99})
    yield Kind("data", "as it is", "")


def trained(out: Path) -> bool:
    """Whether a training has begun in the folder: it would have ended its first epoch at least."""
    return (out / "metrics.csv").is_file()


def outcome(kind: Kind, at: Place) -> tuple[str, str]:
    """What became of a kind, and its last words."""
    files = [CONFIGS / "train.yaml"]
    options = {**TINY, "dataset_dir": str(at.root), "output_dir": str(at.out), **kind.options}
    files += [CONFIGS / "rows" / f"{row}.yaml" for row in options.pop("--rows", [])]
    if kind.overlay is not None:
        overlay = at.root.parent / "overlay.yaml"
        overlay.write_bytes(kind.overlay if isinstance(kind.overlay, bytes) else kind.overlay.encode())
        files.append(overlay)
    if kind.harm is not None:
        kind.harm(at)
    rows = (at.out / "metrics.csv").read_bytes() if trained(at.out) else b""
    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        code = start(files, options)
    logging.disable(logging.NOTSET)
    said = "\n".join(line for line in errors.getvalue().strip().splitlines() if "Warning" not in line)
    if code == 0:
        return (PASSED if kind.words else ACCEPTED), said.split("\n")[-1]
    now = (at.out / "metrics.csv").read_bytes() if trained(at.out) else b""
    clear = kind.words and re.search(kind.words, said) and "Traceback" not in said and len(said.splitlines()) <= 10
    return (LATE if now != rows else CLEAR if clear else UNCLEAR), said


def run(chosen: Iterable[Kind]) -> list[tuple[Kind, str, str]]:
    """Try the kinds, each in copies of its own."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        data, done = make_acdc(Path(folder) / "acdc"), Path(folder) / "done"
        chosen = list(chosen)
        if any(kind.after_a_run for kind in chosen):
            with contextlib.redirect_stdout(io.StringIO()):
                assert start([CONFIGS / "train.yaml"], {**TINY, "dataset_dir": str(data), "output_dir": str(done)}) == 0
        for number, kind in enumerate(chosen):
            own = Path(folder) / str(number)
            at = Place(own / "acdc" if kind.harm else data, own / "out")
            own.mkdir()
            if kind.harm:
                shutil.copytree(data, at.root)
            if kind.after_a_run:
                shutil.copytree(done, at.out)
                config = yaml.safe_load((at.out / "config.yaml").read_text(encoding="utf-8"))
                config |= {"dataset_dir": str(at.root), "output_dir": str(at.out)}
                (at.out / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
            results.append((kind, *outcome(kind, at)))
            shutil.rmtree(own)
    return results


def main(words: list[str]) -> int:
    results = run(kind for kind in kinds() if not words or any(word in f"{kind.group} {kind.name}" for word in words))
    for kind, what, said in results:
        last = said.split("\n")[-1] if said else ""
        sys.stdout.write(f"| {kind.group} | {kind.name} | {what} | {last[:160]} |\n")
    counts = Counter(what for _, what, _ in results)
    summary = ", ".join(f"{counts[what]} {what}" for what in (CLEAR, ACCEPTED, *BAD))
    sys.stdout.write(f"{summary}; {len(results)} kinds\n")
    return int(any(counts[what] for what in BAD))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
