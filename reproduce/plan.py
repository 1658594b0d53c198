"""From a table to the runs that it needs: folders, commands, and what is there already."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from monai_constraints.data.preflight import check_rows
from reproduce.table_file import Protocol, Row, Table, config_file

__all__ = ["Run", "changed_keys", "make_plan", "read_record"]

# The runner sets these; they say where and how a run is done, not what it is.
OWN = ("bundle_root", "output_dir", "progress", "resume", "seed")


@dataclass(frozen=True)
class Run:
    """One row with one seed: `python -m monai.bundle run` with `arguments`, into `folder`."""

    row: Row
    seed: int
    folder: Path
    arguments: tuple[str, ...]
    config: Mapping[str, Any]
    epochs: int

    @property
    def name(self) -> str:
        return f"{self.row.name} seed {self.seed}"

    @property
    def command(self) -> str:
        """As a user types it."""
        return "python -m monai.bundle run " + " ".join(map(_quoted, self.arguments))


def make_plan(
    table: Table,
    protocol: Protocol,
    out: Path,
    *,
    extra: Mapping[str, str] | None = None,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Run]:
    """The runs of a table, row after row for the first seed, then for the next.

    Args:
        table: from `read_table`.
        protocol: one of its protocols.
        out: the folder; runs lie in `runs/<row>/seed<k>`.
        extra: options of the bundle as on its command line, above those of protocol and row.
        rows: only these; all that are not pending by default.
        seeds: instead of the protocol's.

    Raises:
        ValueError: a row that is not there or pending, an option that the bundle has not, or one of the runner's own;
            overlays that do not go together.
    """
    chosen = [row for row in table.rows if not row.pending] if rows is None else [_row(table, name) for name in rows]
    made = {row.name: _configure(table, protocol, row, extra or {}) for row in chosen}
    runs = []
    for seed in protocol.seeds if seeds is None else seeds:
        for row in chosen:
            arguments, config, epochs = made[row.name]
            folder = out / "runs" / row.name / f"seed{seed}"
            # No bar of its own: its log is a file.
            own = ("--output_dir", _shown(folder), "--seed", str(seed), "--progress", "False")
            runs.append(Run(row, seed, folder, (*arguments, *own), {**config, "seed": seed}, epochs))
    return runs


def _row(table: Table, name: str) -> Row:
    row = next((row for row in table.rows if row.name == name), None)
    if row is None or row.pending:
        why = f"is pending: {row.pending}" if row else "is not there"
        possible = [row.name for row in table.rows if not row.pending]
        raise ValueError(f"table: row {name!r} of {table.path} {why}; choose among {possible}")
    return row


def _configure(
    table: Table, protocol: Protocol, row: Row, extra: Mapping[str, str]
) -> tuple[tuple[str, ...], dict[str, Any], int]:
    """The bundle's arguments, the configuration that they amount to, and its number of epochs."""
    where = f"table: row {row.name} of {table.path}"
    files = [config_file(table.bundle, name) for name in ("train", *protocol.overlays, *row.overlays)]
    given = {**protocol.options, **row.options}
    texts = {key: _text(value) for key, value in given.items()} | dict(extra)
    # MONAI's command leaves out an option that is None, and takes the bundle's; an expression it takes along.
    texts = {key: "$None" if DefaultParseValue(text) is None else text for key, text in texts.items()}
    own = sorted(set(texts) & set(OWN))
    if own:
        raise ValueError(f"{where}: the runner itself sets {own}; take them out of the options")
    parser = ConfigParser(ConfigParser.load_config_files(files))
    for key, text in texts.items():
        parent, value = parser.get(key.rpartition("#")[0]) if "#" in key else None, DefaultParseValue(text)
        # What is not there yet: an argument of a part, or one more part among others, such as a term of the loss.
        added = isinstance(parent, dict) and ("_target_" in parent or isinstance(value, dict) and "_target_" in value)
        if key not in parser and not added:
            raise ValueError(f"{where}: the bundle has no option {key!r}; correct it (part of another: size#classes)")
        parser[key] = value  # as the bundle's command line does
    try:
        check_rows(parser.get("rows") or [])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    epochs = parser.get_parsed_content("max_epochs", default=None)
    if not isinstance(epochs, int):
        raise ValueError(f"{where}: max_epochs of the bundle is {epochs!r}, expected a number")
    names = ",".join(f"'{_shown(file)}'" for file in files)
    pairs = [part for key, text in texts.items() for part in (f"--{key}", text)]
    arguments = ("--config_file", f"[{names}]", "--bundle_root", _shown(table.bundle), *pairs)
    return arguments, {key: value for key, value in parser.get().items() if key not in OWN}, epochs


def _text(value: Any) -> str:
    """What the command line turns into `value` again."""
    return value if isinstance(value, str) and DefaultParseValue(value) == value else repr(value)


def _quoted(argument: str) -> str:
    plain = shlex.quote(argument)
    return plain if plain == argument or set('"$`\\!') & set(argument) else f'"{argument}"'


def _shown(path: Path) -> str:
    """Relative to where the command is typed: that is what the report prints."""
    return os.path.relpath(path)


def read_record(run: Run) -> dict[str, Any]:
    """What `run.json` says of an earlier start; empty where there was none."""
    path = run.folder / "run.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"table: {path} is damaged ({error}); remove the folder to train the run again") from error


def changed_keys(run: Run, *, ignore: Sequence[str] = ()) -> list[str]:
    """The parts of the configuration that differ from those that an earlier start of this run had."""
    record = read_record(run)
    if not record:
        return []
    before, now = record.get("config", {}), json.loads(json.dumps(run.config))
    differing = [key for key in dict.fromkeys([*now, *before]) if before.get(key) != now.get(key)]
    there = record.get("directory", ".")
    return [key for key in differing if key not in ignore and not _same_path(before.get(key), there, now.get(key))]


def _same_path(before: Any, there: str, now: Any) -> bool:
    """Whether two options name one file or folder, each from where its command was typed."""
    if not isinstance(before, str) or not isinstance(now, str) or not os.path.exists(now):
        return False
    return os.path.realpath(os.path.join(there, before)) == os.path.realpath(now)
