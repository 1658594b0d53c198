"""The configuration that is being run: found from inside of it, recorded, and compared with that of an earlier run."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

__all__ = ["CONFIG", "differences", "plain_values", "recorded", "running_parser"]

CONFIG = "config.yaml"
# Whether there is a GPU decides on sizes: another machine must not decide again.
GPU = "gpu"
PATHS = ("bundle_root", "dataset_dir", "datalist_file", "output_dir", "initial_weights")
# What a resumed training may have otherwise: its length, where it runs, what it shows, and the code around it.
MAY_CHANGE: tuple[str, ...] = ("max_epochs", "val_interval", "device", "progress", "resume", "restart", "bundle_root")
MAY_CHANGE += ("output_dir", "_meta_", "imports", "initialize", "run", "finalize", "preflight", "checkpoint")
MAY_CHANGE_ANYWHERE = ("max_epochs", "num_workers", "pin_memory", "prefetch_factor", "progress", "print_lr")


def running_parser() -> ConfigParser:
    """The parser that evaluates the expression from which this is called: MONAI passes none to it.

    Raises:
        RuntimeError: outside of a configuration.
    """
    frame = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, ConfigParser):
            return owner
        frame = frame.f_back  # type: ignore[assignment]
    raise RuntimeError("running_parser: not called from a configuration; use it in a bundle's initialize")


def recorded(parser: ConfigParser, folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The configuration as a run in `folder` records it: overlays and options included, decided where it depends on
    whether there is a GPU, and with absolute paths."""
    config = copy.deepcopy({key: value for key, value in parser.get().items() if key != "_meta_"})
    for key, value in config.items():
        if isinstance(value, str) and value.startswith("$") and (key == GPU or f"@{GPU}" in value):
            found = parser.get_parsed_content(key)
            config[key] = found if _is_plain(found) else value
    for key in PATHS:
        if config.get(key):
            config[key] = os.path.abspath(parser.get_parsed_content(key))
    config["output_dir"] = str(Path(folder).absolute())
    return config


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`key: NEW, was OLD` for every setting in which a resumed training would differ from the one that it resumes.

    The number of epochs, the device, progress bars and the like may change; a path may be written otherwise.
    """
    # Through YAML, as the old one went.
    texts = (yaml.safe_dump(plain_values(config), sort_keys=False) for config in (old, new))
    was, now = (dict(_leaves(yaml.safe_load(text))) for text in texts)
    lines = []
    for key in dict.fromkeys([*now, *was]):
        here, there = now.get(key, "(not set)"), was.get(key, "(not set)")
        parts = key.split("#")
        if here == there or parts[0] in MAY_CHANGE or parts[-1] in MAY_CHANGE_ANYWHERE:
            continue
        if key in PATHS and all(isinstance(p, str) for p in (here, there)) and _real(here) == _real(there):
            continue
        lines.append(f"{key}: {_short(here)}, was {_short(there)}")
    return lines


def plain_values(value: Any) -> Any:
    """The same of what YAML can hold; an option may have been given as an object."""
    if isinstance(value, Mapping):
        return {str(key): plain_values(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(one) for one in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    inside = [leaf for name, one in children for leaf in _leaves(one, f"{key}#{name}" if key else str(name))]
    yield from inside or [(key, value)]


def _real(path: str) -> str:
    return os.path.realpath(path) if path else ""


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(one) for one in value)
    return value is None or isinstance(value, (bool, int, float, str))
