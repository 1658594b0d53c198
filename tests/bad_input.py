"""Bad input of every kind, through the real commands, as a table: refused in words, or passed although wrong?

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
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from bad_configuration import configuration_kinds
from bad_data import data_kinds
from bad_kind import Kind, Place
from bad_runs import run_kinds

from bundles import TABLE, configs, settings
from monai_constraints import command
from monai_constraints.engines import start

CLEAR, UNCLEAR, LATE, PASSED, ACCEPTED = "refused clearly", "UNCLEAR", "FAILED LATE", "PASSED WRONG", "rightly accepted"
SILENT = "NOT WARNED"
BAD = (UNCLEAR, LATE, PASSED, SILENT)
MADE = ("metrics.csv", "model.pt", "checkpoint.pt", "patients.csv", "*_raw.csv", "*_pred.nii.gz")


def kinds() -> Iterator[Kind]:
    """All of them."""
    yield from configuration_kinds()
    yield from data_kinds()
    yield from run_kinds()


@cache
def tiny(bundle: str) -> dict[str, Any]:
    """Options of a quick training; those of `resume` and `folders` go on with one of two epochs."""
    return settings(bundle) | ({"padded_size": [48, 48]} if bundle == "acdc_lv" else {})


class Heard(logging.Handler):
    """Keeps the warnings of this package."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def made(folder: Path) -> dict[Path, bytes]:
    """The results in a folder."""
    return {path: path.read_bytes() for pattern in MADE for path in folder.rglob(pattern) if path.is_file()}


def outcome(kind: Kind, at: Place) -> tuple[str, str]:
    """What became of a kind, and its last words."""
    given = kind.harm(at) if kind.harm is not None else None
    options = {**kind.options, **(given if isinstance(given, dict) else {})}
    before, heard = made(at.root.parent), Heard()
    logger = logging.getLogger("monai_constraints")
    logger.addHandler(heard)
    quiet, logger.propagate = logger.propagate, False
    logging.disable(logging.INFO)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                code = _train(kind, at, options) if kind.command == "train" else _command(kind, at, options)
            except SystemExit as end:  # of the parser
                code = int(end.code or 0)
    logging.disable(logging.NOTSET)
    logger.removeHandler(heard)
    logger.propagate = quiet
    said = "\n".join(line for line in errors.getvalue().strip().splitlines() if "Warning" not in line)
    if code == 0:
        silent = kind.warns and not any(re.search(kind.warns, one) for one in heard.said)
        return (PASSED if kind.words else SILENT if silent else ACCEPTED), "\n".join([*heard.said, ""])[:-1]
    clear = kind.words and re.search(kind.words, said) and "Traceback" not in said and len(said.splitlines()) <= 10
    return (LATE if made(at.root.parent) != before else CLEAR if clear else UNCLEAR), said


def _train(kind: Kind, at: Place, options: dict[str, Any]) -> int:
    epochs = 2 if kind.group in ("", "resume", "folders") else 1
    places = {"dataset_dir": str(at.root), "output_dir": str(at.out)}
    options = {**tiny(kind.bundle), "max_epochs": epochs, **places, **options}
    rows = [f"rows/{row}" for row in options.pop("--rows", [])]
    files: list[str | Path] = [*configs(kind.bundle, "train", *rows)]
    if kind.overlay is not None:
        overlay = at.root.parent / f"overlay{at.out.parent.name}.yaml"
        overlay.write_bytes(kind.overlay if isinstance(kind.overlay, bytes) else kind.overlay.encode())
        files.append(overlay)
    return start(files, {key: value for key, value in options.items() if value is not None or "#" not in key})


def _command(kind: Kind, at: Place, options: dict[str, Any]) -> int:
    if "--arguments" in options:
        return command.main(options["--arguments"])
    arguments = [kind.command, str(at.out)]
    if kind.command == "predict":
        arguments += ["--images", str(options.pop("--images", at.root))]
        options = {"output_dir": str(at.out / "masks"), **options}
    options = {"progress": False, "device": "cpu", **options}
    return command.main([*arguments, *(f"--{key}={value}" for key, value in options.items())])


def run(chosen: Iterable[Kind]) -> Iterator[tuple[Kind, str, str]]:
    """Try the kinds, each in copies of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        @cache
        def data(bundle: str) -> Path:
            make = TABLE[bundle].make
            assert make is not None
            return make(folder / bundle)

        @cache
        def done(bundle: str) -> Path:
            out = folder / f"{bundle}_run"
            assert outcome(Kind("", "", "", bundle=bundle), Place(data(bundle), out, bundle))[0] == ACCEPTED
            return out

        for number, kind in enumerate(chosen):
            own = folder / str(number)
            at = Place(own / "data" if kind.harm else data(kind.bundle), own / "out", kind.bundle)
            own.mkdir()
            if kind.harm:
                shutil.copytree(data(kind.bundle), at.root)
            if kind.after_a_run:
                shutil.copytree(done(kind.bundle), at.out)
                places = {"dataset_dir": str(at.root), "output_dir": str(at.out)}
                for name, given in (("config", places), ("evaluate", places), ("inference", {"run_dir": str(at.out)})):
                    path = at.out / f"{name}.yaml"
                    config = {**yaml.safe_load(path.read_text(encoding="utf-8")), **given}
                    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
            yield kind, *outcome(kind, at)
            shutil.rmtree(own)


def main(words: list[str]) -> int:
    chosen = [kind for kind in kinds() if not words or any(word in f"{kind.group} {kind.name}" for word in words)]
    results = []
    for kind, what, said in run(chosen):
        results.append((kind, what, said))
        last = said.split("\n")[-1] if said else ""
        sys.stdout.write(f"| {kind.group} | {kind.bundle} | {kind.name} | {what} | {last[:200]} |\n")
        sys.stdout.flush()
    columns = (CLEAR, ACCEPTED, *BAD)
    sys.stdout.write(f"\n| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}\n")
    counts = Counter((kind.group, what) for kind, what, _ in results)
    for group in [*dict.fromkeys(kind.group for kind, _, _ in results), ""]:
        row = [sum(n for (of, what), n in counts.items() if what == column and group in ("", of)) for column in columns]
        sys.stdout.write(f"| {group or f'all {len(results)}'} | {' | '.join(map(str, row))} |\n")
    return int(any(what in BAD for _, what, _ in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
