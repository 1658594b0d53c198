"""Files of boxes: JSON, CSV, and the ROI markups of 3D Slicer."""

from __future__ import annotations

import csv
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["FileBox", "read_boxes"]

COLUMNS = ("case", "class", "x0", "y0", "z0", "x1", "y1", "z1")
MAX_LINES = 20
MARKUP = ".mrk.json"


class FileBox(NamedTuple):
    """A box of a file: its class, the middle, and the vectors from there to three of its sides (rows)."""

    of_class: int
    centre: np.ndarray
    halves: np.ndarray
    where: str
    world: str
    """"" for voxels, whose borders are the corners; "LPS" or "RAS" for mm."""


def read_boxes(
    path: str | os.PathLike[str], *, classes: int, class_names: Sequence[str] = (), coordinates: str = "voxel"
) -> dict[str, list[FileBox]]:
    """The boxes of each case, of a JSON, a CSV, a Slicer markup, or a folder of markups CASE.mrk.json.

    CSV: a row a box, columns case, class, x0, y0, z0, x1, y1, z1, without z0 and z1 of images of one slice. A row with
    an empty class says that the case has no object. JSON: {case: [{"class": 1, "box": [[x0, x1], [y0, y1], [z0,
    z1]]}, ...]}, and [] where there is none. x0 is the first voxel and x1 one past the last, or they are corners in
    mm. A markup says itself in which coordinates it is; the class is that of `class_names` that is the ROI's name, or
    the number that the name ends with, or 1 where there is but one class.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: all that is wrong with the boxes, at most 20 lines.
    """
    path = Path(path)
    if coordinates not in ("voxel", "LPS", "RAS"):
        raise ValueError(f"read_boxes: coordinates={coordinates!r}; choose voxel, LPS or RAS")
    world = "" if coordinates == "voxel" else coordinates
    found: dict[str, list[FileBox]] = defaultdict(list)
    problems: list[str] = []
    if path.is_dir():
        files = sorted(path.glob(f"*{MARKUP}"))
        if not files:
            raise FileNotFoundError(f"read_boxes: no CASE{MARKUP} in {path}; save the ROIs there, or pass a CSV")
        for file in files:
            found[file.name.removesuffix(MARKUP)] += _markup(file, _json(file), class_names, classes, problems)
    elif not path.is_file():
        raise FileNotFoundError(f"read_boxes: no file of boxes at {path}; correct the path")
    elif path.suffix == ".csv":
        _csv(path, world, found, problems)
    else:
        content = _json(path)
        if "markups" in content:
            found[path.name.removesuffix(MARKUP)] += _markup(path, content, class_names, classes, problems)
        else:
            _cases(path, content, world, found, problems)
    for case, boxes in found.items():
        for box in boxes:
            if not 1 <= box.of_class <= classes:
                problems.append(f"{box.where}: class {box.of_class} of case {case}, expected 1 to {classes}")
    if problems:
        lines = problems[:MAX_LINES] + ([f"... and {len(problems) - MAX_LINES} more"] if problems[MAX_LINES:] else [])
        raise ValueError(f"read_boxes: {len(problems)} problems in {path}\n" + "\n".join(lines))
    return dict(found)


def _csv(path: Path, world: str, found: dict[str, list[FileBox]], problems: list[str]) -> None:
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        names = [name for name in COLUMNS if name not in ("z0", "z1") or name in (reader.fieldnames or ())]
        missing = [name for name in names if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"read_boxes: {path} has no columns {missing}, it has {reader.fieldnames}; add them")
        for number, row in enumerate(reader, start=2):
            where = f"{path.name}, line {number}"
            of_case = found[str(row["case"]).strip()]
            if not str(row["class"] or "").strip():
                continue
            try:
                corners = [[float(row.get(f"{a}{end}") or end) for end in "01"] for a in "xyz"]
                of_class = int(str(row["class"]))
            except ValueError:
                problems.append(f"{where}: {row}; expected whole classes and six numbers")
                continue
            _add(of_case, of_class, corners, where, world, problems)


def _cases(
    path: Path, content: dict[str, Any], world: str, found: dict[str, list[FileBox]], problems: list[str]
) -> None:
    for case, boxes in content.items():
        of_case = found[case]
        for number, box in enumerate(boxes):
            where = f"{path.name}, {case}, box {number}"
            try:
                corners = [[float(x) for x in side] for side in box["box"]]
                of_class = int(box["class"])
                assert all(len(side) == 2 for side in corners) and len(corners) in (2, 3)
            except (AssertionError, KeyError, TypeError, ValueError):
                problems.append(f'{where}: {box}; expected {{"class": 1, "box": [[x0, x1], [y0, y1], [z0, z1]]}}')
                continue
            _add(of_case, of_class, corners + [[0.0, 1.0]] * (3 - len(corners)), where, world, problems)


def _add(
    boxes: list[FileBox], of_class: int, corners: list[list[float]], where: str, world: str, problems: list[str]
) -> None:
    sides = np.asarray(corners, float)
    if not np.isfinite(sides).all() or (sides[:, 1] <= sides[:, 0]).any():
        problems.append(
            f"{where}: sides {corners} are empty or inverted; the first corner has to be below the second on each axis"
        )
        return
    # A voxel's centre is its index, so its borders are half a voxel away.
    shift = 0.0 if world else -0.5
    boxes.append(FileBox(of_class, sides.mean(1) + shift, np.diag(sides[:, 1] - sides[:, 0]) / 2, where, world))


def _markup(
    path: Path, content: dict[str, Any], class_names: Sequence[str], classes: int, problems: list[str]
) -> list[FileBox]:
    boxes = []
    for number, one in enumerate(content.get("markups", [])):
        where = f"{path.name}, markup {number}"
        if one.get("type") != "ROI":
            problems.append(f"{where}: type {one.get('type')!r}, expected ROI; draw boxes with the ROI tool")
            continue
        points = one.get("controlPoints") or [{}]
        name = str(one.get("name") or points[0].get("label") or one.get("label") or "")
        digits = name[len(name.rstrip("0123456789")) :]
        of_class = list(class_names).index(name) + 1 if name in class_names else int(digits or 0)
        of_class = 1 if classes == 1 else of_class
        size, centre = (np.asarray(one.get(key, []), float) for key in ("size", "center"))
        axes = np.asarray(one.get("orientation", np.eye(3).ravel()), float)
        if (size.shape, centre.shape, axes.shape) != ((3,), (3,), (9,)) or not size.min() > 0:
            problems.append(f"{where}: center {centre.tolist()}, size {size.tolist()} mm; expected a box")
            continue
        world = str(one.get("coordinateSystem", "LPS")).upper()
        if world not in ("LPS", "RAS"):
            problems.append(f"{where}: coordinateSystem {world!r}, expected LPS or RAS; save it in one of these")
            continue
        boxes.append(FileBox(of_class, centre, axes.reshape(3, 3).T * size[:, None] / 2, where, world))
    return boxes


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"read_boxes: {path} is not JSON ({error}); save it again, or pass a CSV") from error
    if not isinstance(content, dict):
        raise ValueError(f"read_boxes: {path} is a {type(content).__name__}, expected {{case: [boxes]}}")
    return content
