"""Lists of cases: reading, writing and choosing."""

from __future__ import annotations

import json
import logging
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monai_constraints.data.loading import case_name, without_nulls
from monai_constraints.files import replacing
from monai_constraints.keys import CASE, IMAGE, PATH_KEYS, PATIENT

__all__ = ["all_cases", "cases_of", "choose_cases", "find_images", "log_cases", "read_datalist", "write_datalist"]

logger = logging.getLogger(__name__)

IMAGES = (".nii", ".nii.gz", ".mhd", ".mha")


def write_datalist(datalist: dict[str, list[dict[str, Any]]], path: str | os.PathLike[str]) -> None:
    """Write a datalist as JSON, whole or not at all: to a temporary file in the same folder, then renamed.

    Args:
        datalist: lists of items by key, e.g. {"training": [...], "validation": [...]}.
        path: the JSON file; missing folders are made.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    text = json.dumps(datalist, indent=1) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_datalist(
    path: str | os.PathLike[str],
    key: str,
    *,
    base_dir: str | os.PathLike[str] | None = None,
    path_keys: Sequence[str] = PATH_KEYS,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """The items of one key of a datalist JSON, with relative paths resolved and without entries that are null.

    Args:
        path: the JSON file.
        key: "training", "validation", ...
        base_dir: folder that relative paths start from; None: the folder of the JSON.
        path_keys: the entries of an item that hold a path or a list of paths.
        limit: keep the first `limit` patients (cases, where an item has no "patient"), for smoke runs.

    Raises:
        FileNotFoundError: no such JSON.
        ValueError: not JSON, no such key, an empty list, items that are not dicts, or `limit` below 1.
    """
    path = Path(path)
    if limit is not None and limit < 1:
        raise ValueError(f"read_datalist: limit is {limit}; pass at least 1, or None for all cases")
    if not path.is_file():
        raise FileNotFoundError(
            f"read_datalist: no datalist at {path}; write it with the prepare command of the data set"
        )
    try:
        datalist = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"read_datalist: {path} is not JSON ({error}); write it again") from error
    if not isinstance(datalist, dict) or key not in datalist:
        found = sorted(datalist) if isinstance(datalist, dict) else f"a {type(datalist).__name__}"
        raise ValueError(f"read_datalist: {path} has no key '{key}', it has {found}; pass one of its keys")
    items = datalist[key]
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError(f"read_datalist: '{key}' of {path} must be a list of dicts; write it again")
    if not items:
        raise ValueError(f"read_datalist: '{key}' of {path} is an empty list; prepare the data set again")

    items = [without_nulls(item) for item in items]
    base = path.parent if base_dir is None else Path(base_dir)
    if limit is not None:
        owners = [_owner(item, position) for position, item in enumerate(items)]
        kept = set(list(dict.fromkeys(owners))[:limit])
        items = [item for item, owner in zip(items, owners) if owner in kept]
    return [
        {name: _resolved(value, base) if name in path_keys else value for name, value in item.items()}
        for item in items
    ]


def choose_cases(
    items: Sequence[dict[str, Any]],
    count: int | None,
    by: str = "patient",
    *,
    patients: str = "spread",
    draw: int = 0,
) -> list[dict[str, Any]]:
    """The cases of `count` patients, or `count` cases; the same ones every time, whatever the seed.

    Patients are evenly spaced in the order of the list (ACDC's is by disease). Evenly spaced cases could all be of
    one heart phase, so these are drawn at random, the fewer always among the more.

    Args:
        items: the cases of a datalist, with a "patient" each, or else a "case".
        count: how many; None: all.
        by: what is counted, "patient" with all cases of each, or "case".
        patients: which of them: "spread" as above; "first" of the list, as chapter 5 of the thesis takes them, which
            in ACDC are all of one disease; or "random", the fewer always among the more.
        draw: which of the random orders.

    Raises:
        ValueError: `by` or `patients` is none of these, or `count` is below 1 or above the number of them.
    """
    if by not in ("patient", "case"):
        raise ValueError(f"choose_cases: by is {by!r}; pass 'patient' or 'case'")
    if patients not in ("spread", "first", "random"):
        raise ValueError(f"choose_cases: patients is {patients!r}; pass 'spread', 'first' or 'random'")
    if count is None:
        return list(items)
    cases = range(len(items))
    owners = list(cases) if by == "case" else [_owner(one, i) for i, one in zip(cases, items)]
    units = list(dict.fromkeys(owners))
    if not 1 <= count <= len(units):
        raise ValueError(f"choose_cases: count is {count}, the list has {len(units)} {by}s; pass 1 to that")
    if patients == "first":
        chosen = set(units[:count])
    elif patients == "random":
        chosen = set(random.Random(draw).sample(units, len(units))[:count])
    elif by == "case":
        chosen = set(random.Random(0).sample(units, len(units))[:count])
    else:
        chosen = {units[(2 * i + 1) * len(units) // (2 * count)] for i in range(count)}
    return [item for item, owner in zip(items, owners) if owner in chosen]


def cases_of(
    prepare: Callable[[Any], dict[str, list[dict[str, Any]]]],
    root: str | os.PathLike[str],
    *,
    file: str = "",
    count: int | None = None,
    count_by: str = "patient",
) -> dict[str, list[dict[str, Any]]]:
    """{"training", "validation"} of a folder in a data set's layout, or of a datalist JSON where one is given.

    Args:
        prepare: makes the datalist of the folder, such as `acdc_datalist`.
        root: the folder.
        file: the JSON, or "".
        count, count_by: of the training cases, as in :func:`choose_cases`.
    """
    parts = {part: read_datalist(file, part) for part in ("training", "validation")} if file else prepare(root)
    return {**parts, "training": choose_cases(parts["training"], count, count_by)}


def all_cases(datalist: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """All cases of a datalist, whatever its split, by name."""
    items = [item for part in datalist.values() for item in part]
    return sorted(items, key=lambda item: str(item.get("case", item.get("image"))))


def find_images(
    root: str | os.PathLike[str], *, not_images: Sequence[str] = (), leave_out: str | os.PathLike[str] = ""
) -> list[dict[str, Any]]:
    """The NIfTI files and MetaImages below a folder, or one such file, as cases of an image; hidden files are none.

    Args:
        root: the folder or the file.
        not_images: ends of the names (before the suffix) of files that are none, such as labels.
        leave_out: a folder below it that is not looked into, such as the one that predictions are written to.

    Raises:
        FileNotFoundError: there is none.
    """
    root = Path(root).expanduser().absolute()
    if root.is_file():
        return [{"image": str(root), "case": _stem(root)}]
    # By their real names, as either may be given through a link.
    out = Path(leave_out).expanduser().resolve() if leave_out else None
    found = [
        path
        for path in sorted(root.rglob("*"))
        if path.name.endswith(IMAGES)
        and not path.name.startswith(".")  # what macOS leaves beside each file in an archive, `._NAME`
        and not _stem(path).endswith(tuple(not_images))
        and not (out is not None and out != root.resolve() and path.resolve().is_relative_to(out))
    ]
    if not found:
        raise FileNotFoundError(
            f"find_images: no {', '.join(IMAGES)} in {root} but those that end in {list(not_images)}; pass the folder "
            "of the images"
        )
    return [{"image": str(path), "case": str(path.relative_to(root).with_name(_stem(path)))} for path in found]


def log_cases(items: Sequence[dict[str, Any]], what: str) -> None:
    """Say which cases an evaluation or an inference is about to read, all of them by name.

    Raises:
        ValueError: two cases of one name, whose masks would be one file.
    """
    seen: dict[str, str] = {}
    for item in items:
        name = case_name(item)
        if name in seen:
            raise ValueError(
                f"log_cases: {seen[name]} and {_shown(item)} are both the case {name!r}, so their masks would be one "
                "file; give each a case of its own in a datalist, or leave one out"
            )
        seen[name] = _shown(item)
    logger.info("%s of %d cases: %s", what, len(seen), ", ".join(seen))


def _owner(item: dict[str, Any], position: int) -> Any:
    """The patient, or else the case, or else the place in the list; each is one of its kind."""
    found = next((item[key] for key in (PATIENT, CASE) if item.get(key) not in (None, "")), position)
    return str(found) if found is not position else position


def _shown(item: dict[str, Any]) -> str:
    image = item.get(IMAGE)
    return str(image) if isinstance(image, (str, os.PathLike, list)) else "an image in memory"


def _stem(path: Path) -> str:
    return next(path.name.removesuffix(end) for end in sorted(IMAGES, key=len, reverse=True) if path.name.endswith(end))


def _resolved(value: Any, base: Path) -> Any:
    if isinstance(value, list):
        return [_resolved(one, base) for one in value]
    return os.path.abspath(base / value) if isinstance(value, str) else value
