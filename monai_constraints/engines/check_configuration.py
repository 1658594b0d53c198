"""Names of a configuration that nothing reads, arguments that nothing takes, and texts where numbers belong."""

from __future__ import annotations

import difflib
import inspect
import os
import pydoc
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ComponentLocator, ConfigComponent, ConfigParser, ReferenceResolver

from monai_constraints.data.preflight import check_rows
from monai_constraints.engines.configuration import running_parser
from monai_constraints.engines.refusal import show_refusals

__all__ = ["check_configuration", "check_names"]

# MONAI's own, and those of its experiment tracking.
KNOWN: tuple[str, ...] = ("_meta_", "imports", "initialize", "run", "finalize", "evaluate", "save_execute_config")
KNOWN += ("tracking_uri", "experiment_name", "run_name", "is_not_rank0", "mlflow_transform")
KNOWN += ("trainer", "validator", "evaluator")


def check_configuration() -> None:
    """Refuse the running configuration for what is wrong with it by itself; the first expression of `initialize`.

    Its base is the bundle's own file, `train.yaml` or `inference.yaml` in `configs/` of `bundle_root`, where it is
    there. From here on errors are shown by their reason (`show_refusals`).

    Raises:
        ValueError: as `check_names`; rows that do not go together, as `check_rows`.
        RuntimeError: outside of a configuration.
    """
    show_refusals()
    parser = running_parser()
    kind = "train" if "train" in parser else "inference"
    check_rows(parser.get("rows") or [])  # before anything is made of them: two that do not fit may fail anywhere
    root = Path(str(parser.get_parsed_content("bundle_root"))) if "bundle_root" in parser else Path()
    path = root / "configs" / f"{kind}.yaml"
    if path.is_file():
        check_names(parser, ConfigParser.load_config_file(str(path)))


def check_names(parser: ConfigParser, base: Mapping[str, Any]) -> None:
    """Every name is read by something: it is the base's, or an expression or reference of the configuration has it.

    So an overlay may bring names of its own, as long as it uses them. The same holds below top level, until a
    component begins (a dict with `_target_`), whose arguments are those that the class or function has.

    Args:
        parser: the configuration, overlays and options included.
        base: the bundle's own file, read but not parsed.

    Raises:
        ValueError: a name that nothing reads, with the nearest one; an argument that a component does not take; a
            component that is not there; a text where the base has a number, or True or False.
    """
    config = {key: value for key, value in parser.get().items() if key != "_meta_"}
    known = ConfigParser({})
    for key, value in base.items():
        known.set(value, key.removeprefix("+"))
    references = {ref for _, value in _leaves(config) if isinstance(value, str) for ref in _references(value)}
    _check_read("", config, known.get(), references)
    locator = ComponentLocator()
    for key, value in _components(config):
        _check_component(key, value, locator)
    for key, value in _leaves(config):
        _check_value(key, value, known)


def _check_read(key: str, config: Mapping[str, Any], known: Any, references: Collection[str]) -> None:
    for name, value in config.items():
        own = f"{key}::{name}" if key else str(name)
        base = known.get(name) if isinstance(known, Mapping) else None
        used = own in references or any(ref.startswith(f"{own}::") for ref in references)
        if not used and not (isinstance(known, Mapping) and name in known) and (key or name not in KNOWN):
            names = [*(known if isinstance(known, Mapping) else ()), *(() if key else KNOWN)]
            raise ValueError(
                f"check_names: nothing reads {own.replace('::', '#')}{_nearest(str(name), names)}; correct the name, "
                "or use it in the configuration"
            )
        plain = isinstance(value, Mapping) and "_target_" not in value
        if plain and own not in references and isinstance(base, Mapping):
            _check_read(own, value, base, references)


def _check_component(key: str, config: Mapping[str, Any], locator: ComponentLocator) -> None:
    target = config["_target_"]
    if not isinstance(target, str) or target.startswith(("$", "@", "%")):
        return
    item = ConfigComponent(config=dict(config), id=key, locator=locator)
    component = pydoc.locate(str(item.resolve_module_name()))
    if component is None:
        module = pydoc.locate(target.rpartition(".")[0]) if "." in target else None
        raise ValueError(
            f"check_names: {key}#_target_: no {target}{_nearest(target.rpartition('.')[2], dir(module))}; correct it"
        )
    try:
        parameters = inspect.signature(component).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):  # written in C
        return
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return
    for name in config:
        if name not in parameters and name not in ConfigComponent.non_arg_keys:
            raise ValueError(
                f"check_names: {key}#{name}: {target} takes no {name}{_nearest(str(name), parameters)}; its arguments "
                f"are {', '.join(parameters)}"
            )


def _check_value(key: str, value: Any, known: ConfigParser) -> None:
    if not isinstance(value, str) or value.startswith(("$", "@", "%")) or key.endswith("_disabled_"):
        return
    default = known.get(key)
    if value.strip().lower() in ("true", "false"):
        raise ValueError(f"check_names: {key} is the text {value!r}; write {value.strip().capitalize()}")
    if isinstance(default, str) and default.startswith("$") and "@gpu" in default:
        default = known.get_parsed_content(key)
    if isinstance(default, (bool, int, float)):
        expected = "True or False" if isinstance(default, bool) else "a number"
        raise ValueError(f"check_names: {key} is the text {value!r}, expected {expected}, such as {default}")


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if children is None:
        yield key, value
        return
    for name, one in children:
        yield from _leaves(one, f"{key}#{name}" if key else str(name))


def _components(value: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, dict) and "_target_" in value:
        yield key, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in children:
        yield from _components(one, f"{key}#{name}" if key else str(name))


def _references(text: str) -> Iterator[str]:
    yield from ReferenceResolver.match_refs_pattern(os.fspath(text))


def _nearest(name: str, names: Collection[str]) -> str:
    found = difflib.get_close_matches(name, [str(one) for one in names if not str(one).startswith("__")], 1)
    return f", did you mean {found[0]}?" if found else ""
