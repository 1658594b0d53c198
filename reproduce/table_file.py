"""A table of experiments as one YAML, read strictly: whatever is wrong is said before anything starts."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from monai.bundle.config_parser import CheckKeyDuplicatesYamlLoader

__all__ = ["SHOWN", "Protocol", "Row", "Selection", "Table", "read_table"]

Selection = Literal["last", "legacy"]
METRICS = ("dice_2d", "dice_2d_present", "left_empty", "missed", "dice_3d", "hd95", "ms_per_batch")
SHOWN = METRICS[:-1]  # unless the file names others


@dataclass(frozen=True)
class Protocol:
    """How all rows are trained: overlays and options of the bundle, seeds, and a sentence for the report."""

    note: str
    overlays: tuple[str, ...]
    options: Mapping[str, Any]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One row: what it changes, and what was published. `pending` says why it can't run yet."""

    name: str
    label: str
    overlays: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, float | None] = field(default_factory=dict)
    pending: str = ""


@dataclass(frozen=True)
class Table:
    """A table: the bundle whose `configs` the overlays are in, protocols by name, and rows."""

    path: Path
    title: str
    source: str
    bundle: Path
    protocols: Mapping[str, Protocol]
    rows: tuple[Row, ...]
    reference: str = ""
    metrics: tuple[str, ...] = SHOWN
    notes: tuple[str, ...] = ()
    selection: Selection = "last"
    serial: bool = False


def read_table(path: str | Path) -> Table:
    """The table of a YAML file. `docs/tables.md` says what each key means.

    Raises:
        FileNotFoundError: no such file, or no such bundle or overlay.
        ValueError: not YAML, an unknown or missing key, a wrong type, or a name that occurs twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"table: no file {path}; pass one of tables/*.yaml or your own")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), CheckKeyDuplicatesYamlLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"table: {path} is not YAML ({error}); correct it") from error
    reader = _Reader(path)
    data = reader.mapping(
        content, "the file", ("title", "source", "bundle", "protocols", "rows"),
        ("reference", "metrics", "notes", "selection", "serial"),
    )  # fmt: skip
    bundle = path.parent / reader.typed(data["bundle"], str, "bundle")
    if not (bundle / "configs" / "train.json").is_file():
        raise FileNotFoundError(f"table: {path}: bundle {data['bundle']} has no configs/train.json; paths start here")
    protocols = {
        str(name): reader.protocol(value, f"protocol {name}", bundle)
        for name, value in reader.typed(data["protocols"], dict, "protocols").items()
    }
    rows = tuple(
        reader.row(value, f"row {i}", bundle) for i, value in enumerate(reader.typed(data["rows"], list, "rows"), 1)
    )
    names = [row.name for row in rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not rows or not protocols:
        reader.fail("rows", f"names {twice} occur twice" if twice else "expected one row and one protocol or more")
    reference = reader.typed(data.get("reference", ""), str, "reference")
    if reference and reference not in names:
        reader.fail("reference", f"there is no row {reference!r}; choose one of {names}")
    return Table(
        path=path,
        title=reader.typed(data["title"], str, "title"),
        source=reader.typed(data["source"], str, "source"),
        bundle=bundle,
        protocols=protocols,
        rows=rows,
        reference=reference,
        metrics=reader.names(data.get("metrics", SHOWN), "metrics", METRICS),
        notes=reader.names(data.get("notes", []), "notes"),
        selection=cast(Selection, reader.names([data.get("selection", "last")], "selection", ("last", "legacy"))[0]),
        serial=reader.typed(data.get("serial", False), bool, "serial"),
    )


class _Reader:
    """Checks of one file, whose name stands in every message."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, where: str, what: str) -> None:
        raise ValueError(f"table: {self.path}, {where}: {what}")

    def typed(self, value: Any, kind: type, where: str) -> Any:
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.fail(where, f"expected {kind.__name__}, got {value!r}")
        return value

    def mapping(self, value: Any, where: str, needed: Collection[str], optional: Collection[str]) -> dict[str, Any]:
        self.typed(value, dict, where)
        unknown, missing = sorted(map(str, set(value) - {*needed, *optional})), sorted(set(needed) - set(value))
        if unknown or missing:
            what = f"unknown keys {unknown}" if unknown else f"missing keys {missing}"
            self.fail(where, f"{what}; it takes {sorted({*needed, *optional})}")
        return cast("dict[str, Any]", value)

    def names(self, value: Any, where: str, known: Collection[str] = ()) -> tuple[str, ...]:
        listed = list(value) if isinstance(value, tuple) else self.typed(value, list, where)
        found = tuple(self.typed(item, str, where) for item in listed)
        if known and any(name not in known and not name.startswith("val_") for name in found):
            self.fail(where, f"got {listed}; choose among {sorted(known)}")
        return found

    def overlays(self, value: Any, where: str, bundle: Path) -> tuple[str, ...]:
        names = self.names(value, f"{where}, overlays")
        for name in names:
            if not (bundle / "configs" / name).is_file():
                raise FileNotFoundError(f"table: {self.path}, {where}: no overlay {bundle / 'configs' / name}")
        return names

    def options(self, value: Any, where: str) -> dict[str, Any]:
        return {self.typed(key, str, where): item for key, item in self.typed(value, dict, where).items()}

    def protocol(self, value: Any, where: str, bundle: Path) -> Protocol:
        data = self.mapping(value, where, ("note", "seeds"), ("overlays", "options"))
        seeds = tuple(self.typed(seed, int, f"{where}, seeds") for seed in self.typed(data["seeds"], list, where))
        if not seeds or len(set(seeds)) < len(seeds):
            self.fail(f"{where}, seeds", f"expected one seed or more, each once, got {list(seeds)}")
        return Protocol(
            note=self.typed(data["note"], str, f"{where}, note"),
            overlays=self.overlays(data.get("overlays", []), where, bundle),
            options=self.options(data.get("options", {}), f"{where}, options"),
            seeds=seeds,
        )

    def row(self, value: Any, where: str, bundle: Path) -> Row:
        data = self.mapping(value, where, ("name",), ("label", "overlays", "options", "published", "pending"))
        name = self.typed(data["name"], str, f"{where}, name")
        if not re.fullmatch(r"\w[\w.-]*", name):
            self.fail(where, f"name {name!r} becomes a folder: use letters, digits, '_', '-' and '.'")
        where = f"row {name}"
        published = self.options(data.get("published") or {}, f"{where}, published")
        for metric, number in published.items():
            self.names([metric], f"{where}, published", METRICS)
            if number is not None and not isinstance(number, int):
                self.typed(number, float, f"{where}, published")
        pending = self.typed(data.get("pending", ""), str, f"{where}, pending")
        return Row(
            name=name,
            label=self.typed(data.get("label", name), str, f"{where}, label"),
            overlays=self.overlays(data.get("overlays", []), where, bundle),
            options=self.options(data.get("options", {}), f"{where}, options"),
            published=published,
            pending=pending,
        )
