"""A table of experiments as one YAML, read strictly: whatever is wrong is said before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

__all__ = ["SHOWN", "Protocol", "Row", "Selection", "Table", "config_file", "read_table"]

Selection = Literal["last", "legacy"]
SHOWN = ("dice_2d", "dice_2d_present", "left_empty", "missed", "dice_3d", "hd95")  # unless the file names others


@dataclass(frozen=True)
class Protocol:
    """How all rows are trained: seeds, overlays and options of the bundle, and a sentence for the report."""

    note: str
    seeds: Sequence[int]
    overlays: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One row: what it changes, and what was published. `pending` says why it can't run yet."""

    name: str
    label: str
    overlays: Sequence[str] = ()
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
    rows: Sequence[Row]
    reference: str = ""
    metrics: Sequence[str] = SHOWN
    notes: Sequence[str] = ()
    selection: Selection = "last"
    serial: bool = False


def read_table(path: str | Path) -> Table:
    """The table of a YAML file; `table_schema.yaml` beside this module says what each key means.

    Raises:
        FileNotFoundError: no such file, or no such bundle or overlay.
        ValueError: not YAML, not as the schema says, a name that occurs twice, or a reference that is no row.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"table: no file {path} in {Path.cwd()}; pass your own, or from the root of the repository one of "
            "reproduce/tables/*.yaml"
        )
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"table: {path} is not YAML ({error}); correct it") from error
    schema = yaml.safe_load(Path(__file__).with_name("table_schema.yaml").read_text(encoding="utf-8"))
    wrong = best_match(Draft202012Validator(schema).iter_errors(data))
    if wrong is not None:
        raise ValueError(f"table: {path}, {wrong.json_path.removeprefix('$.')}: {wrong.message}; {_expected(wrong)}")

    names = [row["name"] for row in data["rows"]]
    if len(set(names)) < len(names):
        raise ValueError(f"table: {path}, rows: {names} has a name twice; rename one of them")
    if "reference" in data and data["reference"] not in names:
        raise ValueError(f"table: {path}, reference: there is no row {data['reference']!r}; choose one of {names}")
    bundle = path.parent / data["bundle"]
    config_file(bundle, "train")
    for where in (*data["protocols"].values(), *data["rows"]):
        for name in where.get("overlays", ()):
            config_file(bundle, name)
    protocols = {str(name): Protocol(**protocol) for name, protocol in data.pop("protocols").items()}
    rows = [Row(**{"label": row["name"], **row}) for row in data.pop("rows")]
    return Table(path, **{**data, "bundle": bundle, "protocols": protocols, "rows": rows})


def config_file(bundle: Path, name: str) -> Path:
    """The file of the bundle's `configs` with this name: NAME.yaml, or NAME.json where there is none."""
    files = [bundle / "configs" / f"{name}{ending}" for ending in (".yaml", ".json")]
    for file in files:
        if file.is_file():
            return file
    raise FileNotFoundError(f"table: there is no {files[0]} and no .json of that name; correct the name in the table")


class _Loader(yaml.SafeLoader):
    """YAML in which no key is given twice. Rows that have options in common share them by `&name` and `<<: *name`."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise ValueError(f"Duplicate key: {twice!r}")
        return node


def _expected(wrong: ValidationError) -> str:
    schema = wrong.schema if isinstance(wrong.schema, Mapping) else {}
    if "properties" in schema:
        return f"it takes {', '.join(schema['properties'])}, and needs {', '.join(schema['required'])}"
    return f"expected {schema.get('description', 'what table_schema.yaml says')}"
