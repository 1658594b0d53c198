"""All cases read once before work begins, with all that is wrong with any of them in one message."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from monai_constraints.data.loading import case_name
from monai_constraints.data.volume_file import CaseError
from monai_constraints.keys import CASE, IMAGE, LABEL

__all__ = ["check_occurs", "check_readable", "classes_in", "listed_problems", "read_case"]

MAX_LINES = 20
Transform = Callable[[Any], Any]


def check_readable(
    items: Sequence[Mapping[str, Any]], transform: Transform, *, keys: Sequence[str] = (IMAGE,),
    classes: Sequence[str] = (),
) -> None:
    """Read all cases of an evaluation or an inference, by two threads, and keep none.

    Otherwise a damaged file stops it half-way, when the masks of other cases are written. It takes the time of reading
    twice.

    Args:
        items: the cases, dicts of paths.
        transform: from paths to volumes (C, X, Y, Z), `LoadCased` first.
        keys: what each has to have.
        classes: names of the foreground classes that have to occur in the labels; a Dice over none of them is 1.

    Raises:
        ValueError: problems of cases (at most 20 lines), or a class that never occurs.
    """  # fmt: skip
    problems: list[str] = []
    seen: set[int] = set()

    def look(item: Mapping[str, Any]) -> CaseError | set[int]:
        found = read_case(item, transform, keys)
        return found if isinstance(found, CaseError) else classes_in(found, LABEL) if classes else set()

    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(look, items):
            if isinstance(found, CaseError):
                problems += found.problems
            else:
                seen |= found
    if problems:
        raise ValueError(f"check_readable: {listed_problems(problems, len(items))}")
    check_occurs(classes, {LABEL: seen}, len(items), "check_readable")


def read_case(item: Mapping[str, Any], transform: Transform, keys: Sequence[str]) -> CaseError | Mapping[str, Any]:
    """The volumes of a case, or what is wrong with it."""
    try:
        volume: Mapping[str, Any] = transform({**item, CASE: case_name(item)})
    except (RuntimeError, CaseError) as error:
        cause: BaseException | None = error
        while isinstance(cause, RuntimeError):  # each Compose of MONAI wraps what a transform raised
            cause = cause.__cause__
        if isinstance(cause, CaseError):
            return cause
        raise
    missing = [key for key in keys if key not in volume]
    if missing:
        lacks = f"case {volume[CASE]}: no {', '.join(missing)}, it has {', '.join(sorted(map(str, item)))}"
        return CaseError([f"{lacks}; add it to the datalist, or change train_keys"])
    return volume


def classes_in(volume: Mapping[str, Any], key: str) -> set[int]:
    """The classes that a label (1, *S) has; counting bytes takes a tenth of the time of `unique`."""
    label = torch.as_tensor(volume[key]).as_subclass(Tensor)
    if label.dtype == torch.uint8:
        return set(label.flatten().bincount().nonzero().flatten().tolist())
    return {int(k) for k in label.unique().tolist()}


def check_occurs(names: Sequence[str], seen: Mapping[str, Collection[int]], count: int, caller: str) -> None:
    """Refuse classes that never occur, since they can neither be learned nor measured.

    Args:
        names: of the foreground classes 1, 2, ...
        seen: the classes that each map has, of full labels or of scribbles.
        count: of cases.
        caller: for the message.

    Raises:
        ValueError: with the first map that lacks a class.
    """
    for key, classes in seen.items():
        absent = [name for k, name in enumerate(names, 1) if k not in classes]
        if absent:
            raise ValueError(
                f"{caller}: {', '.join(absent)} in no {key} of {count} cases, which have the classes {sorted(classes)} "
                "after the transform; correct the structure, the mapping of labels, or the sizes that crop them"
            )


def listed_problems(problems: Iterable[str], count: int) -> str:
    """Problems of so many cases, a line each, and at most 20 of them."""
    lines = list(problems)
    shown = lines[:MAX_LINES]
    if len(lines) > MAX_LINES:
        shown[-1] = f"... and {len(lines) - MAX_LINES + 1} more"
    return f"{len(lines)} problems in {count} cases\n" + "\n".join(shown)
