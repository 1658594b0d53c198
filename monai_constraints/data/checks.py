"""Checks of files, weights and folders before a training starts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from monai_constraints.data.metaimage import SUFFIXES, read_metaimage
from monai_constraints.keys import UNKNOWN

__all__ = ["check_cases", "check_model", "check_output_dir"]

MAX_LINES = 20
AFFINE_TOLERANCE = 1e-3


class _Problem(NamedTuple):
    text: str
    missing: bool = False


class _Volume(NamedTuple):
    where: str
    data: np.ndarray
    affine: np.ndarray


def check_cases(
    items: Sequence[Mapping[str, Any]],
    *,
    classes: int,
    image_keys: Sequence[str] = ("image",),
    label_keys: Sequence[str] = ("label",),
    weak_keys: Sequence[str] = (),
    unknown: int = UNKNOWN,
    require_classes: bool | Sequence[int] = True,
    progress: bool = True,
    workers: int = 4,
) -> None:
    """Read every file of a datalist once, and list all that would break or spoil a training.

    For a datalist by itself: bundles check a case when they read it (`LoadCased`, `CachedSlices`).

    Args:
        items: dicts of paths, NIfTI or MetaImage, with the `case` for the messages. An image may be a list of paths,
            the modalities that LoadImaged stacks as channels: all files of an item must be on one grid.
        classes: number of classes, background included; labels are 0 .. classes - 1.
        image_keys, label_keys, weak_keys: what holds images, full labels, and weak labels such as scribbles.
        unknown: the value of a weak label where nothing is annotated.
        require_classes: a class that occurs nowhere in the list is an error; or which classes must occur.
        progress: whether to show a bar.
        workers: threads that read.

    Raises:
        FileNotFoundError: files are missing, and nothing else is wrong.
        ValueError: anything else; at most 20 lines, each with case, key, file and remedy.
    """
    if not items:
        raise ValueError("check_cases: the datalist is empty, expected cases; prepare the data again")

    def check(position: int) -> tuple[list[_Problem], set[int]]:
        return _check_item(items[position], position, classes, image_keys, label_keys, weak_keys, unknown)

    with ThreadPoolExecutor(max_workers=workers) as pool:
        running = pool.map(check, range(len(items)))
        results = list(tqdm(running, total=len(items), desc="checking the data", disable=not progress))
    problems = [problem for found, _ in results for problem in found]
    # With unreadable labels an absent class would be a consequence, not a finding.
    required = require_classes if not isinstance(require_classes, bool) else range(classes) if require_classes else ()
    if not problems and required and (label_keys or weak_keys):
        absent = set(required).difference(*(seen for _, seen in results))
        key = "/".join(label_keys or weak_keys)
        problems = [
            _Problem(
                f"all cases, {key}: class {c} never occurs, expected 0..{classes - 1}; correct the number of"
                " classes or the label mapping, or pass require_classes=False"
            )
            for c in sorted(absent)
        ]
    if problems:
        lines = [problem.text for problem in problems[:MAX_LINES]]
        if len(problems) > MAX_LINES:
            lines[-1] = f"... and {len(problems) - MAX_LINES + 1} more"
        error = FileNotFoundError if all(problem.missing for problem in problems) else ValueError
        raise error(f"check_cases: {len(problems)} problems in {len(items)} cases\n" + "\n".join(lines))


def _check_item(
    item: Mapping[str, Any],
    position: int,
    classes: int,
    image_keys: Sequence[str],
    label_keys: Sequence[str],
    weak_keys: Sequence[str],
    unknown: int,
) -> tuple[list[_Problem], set[int]]:
    name = f"case {item.get('case', f'number {position}')}"
    problems: list[_Problem] = []
    volumes: dict[str, list[_Volume]] = {}
    for key in (*image_keys, *label_keys, *weak_keys):
        if key not in item:
            problems.append(
                _Problem(f"{name}, {key}: missing key, the item has {sorted(item)}; prepare the data again")
            )
            continue
        paths = item[key] if isinstance(item[key], (list, tuple)) else [item[key]]
        read = [_read(path, f"{name}, {key}, {path}") for path in paths]
        problems += [one for one in read if isinstance(one, _Problem)]
        volumes[key] = [one for one in read if isinstance(one, _Volume)]

    flat = [volume for found in volumes.values() for volume in found]
    for volume in flat[1:]:
        problems += _compare(flat[0], volume)
    for key in image_keys:
        for volume in volumes.get(key, []):
            problems += _check_finite(volume)
    seen: set[int] = set()
    for key in (*label_keys, *weak_keys):
        allowed = {*range(classes), *([unknown] if key in weak_keys else [])}
        for volume in volumes.get(key, []):
            values = np.unique(volume.data)
            wrong = [f"{value:g}" for value in values if value not in allowed]
            if wrong:
                listed = ", ".join(wrong[:5]) + (", ..." if len(wrong) > 5 else "")
                expected = f"integers 0..{classes - 1}" + (f" or {unknown}" if key in weak_keys else "")
                remedy = "correct the number of classes or map the labels" + (
                    ", or pass its value of unannotated voxels as unknown" if key in weak_keys else ""
                )
                problems.append(_Problem(f"{volume.where}: expected {expected}, found {listed}; {remedy}"))
            elif key in (label_keys or weak_keys):
                seen.update(int(value) for value in values)
    return problems, seen


def _read(path: Any, where: str) -> _Volume | _Problem:
    if not os.path.isfile(str(path)):
        return _Problem(f"{where}: no such file; restore it, or correct the datalist", missing=True)
    metaimage = str(path).endswith(SUFFIXES)
    try:
        if metaimage:
            return _Volume(where, *read_metaimage(path))
        file: Any = nib.load(path)
        return _Volume(where, np.asanyarray(file.dataobj), file.affine)
    except ImportError:
        raise  # about the installation, not about this file
    except FileNotFoundError as error:
        return _Problem(f"{where}: {error}; restore it, or unpack both again", missing=True)
    except Exception as error:  # nibabel, gzip, zlib and ITK raise a dozen types for a damaged file
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        what = "MetaImage, or its file of voxels is" if metaimage else "NIfTI"
        return _Problem(f"{where}: truncated or not {what} ({reason}); copy or download the file again")


def _compare(first: _Volume, other: _Volume) -> list[_Problem]:
    if first.data.shape[:3] != other.data.shape[:3]:
        return [
            _Problem(
                f"{other.where}: shape {other.data.shape}, but {first.where} has {first.data.shape};"
                " resample one onto the other's grid"
            )
        ]
    difference = float(np.abs(first.affine - other.affine).max())
    if difference <= AFFINE_TOLERANCE:
        return []
    return [
        _Problem(
            f"{other.where}: affine differs by {difference:.3g} from {first.where}, allowed"
            f" {AFFINE_TOLERANCE:g}; resample one onto the other's grid, or correct the header"
        )
    ]


def _check_finite(volume: _Volume) -> list[_Problem]:
    bad = int(volume.data.size - np.isfinite(volume.data).sum())
    if not bad:
        return []
    return [_Problem(f"{volume.where}: {bad} voxels are NaN or infinite; replace them or leave the case out")]


def check_output_dir(path: str | os.PathLike[str]) -> None:
    """Make the folder, and prove that it takes files by writing one: root ignores permission bits.

    Raises:
        OSError: it, or a folder above it, is a file, cannot be made, or takes no files.
    """
    path = Path(path).absolute()
    blocker = next(
        (one for one in (path, *path.parents) if os.path.exists(one) and not os.path.isdir(one)), None
    )
    if blocker is not None:
        raise NotADirectoryError(
            f"check_output_dir: {blocker} is a file, not a folder; choose another output folder"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path) as file:
            file.write(b"0" * 4096)
            file.flush()
    except OSError as error:
        raise OSError(
            f"check_output_dir: cannot write in {path} ({error}); choose another output folder, or check its"
            " permissions and free space"
        ) from error


def check_model(
    path: str | os.PathLike[str] | Sequence[str], network: nn.Module | None = None, *, option: str = "--ckpt_path"
) -> None:
    """The weights to start from, evaluate, infer with or export are there, and fit the network.

    Args:
        path: the file with the network's `state_dict`, or a list of such files.
        network: None: only that the file is there.
        option: how the path was given, for the message.

    Raises:
        FileNotFoundError: it is not.
        ValueError: it holds the weights of another network, or something else; the list is empty.
    """
    if not isinstance(path, (str, os.PathLike)):
        if not path:
            raise ValueError(f"check_model: no trained model; pass one file or more as {option}")
        for one in path:
            check_model(one, network, option=option)
        return
    if not os.path.isfile(path):
        raise FileNotFoundError(f"check_model: no trained model at {path}; train first, or pass {option}")
    if network is None:
        return
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        shapes = {name: tuple(weight.shape) for name, weight in found.get("model", found).items()}
    except OSError:
        raise
    except Exception as error:  # the first letter of a text decides on what unpickling it raises
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"check_model: {path} holds no weights of a network ({reason}); pass a model.pt") from error
    for name, weight in network.state_dict().items():
        if shapes.get(name) != tuple(weight.shape):
            there = f"is {shapes[name]} there" if name in shapes else "is not there"
            raise ValueError(
                f"check_model: {path} is of another network: {name}, here {tuple(weight.shape)}, {there}. Give the "
                "overlays (protocol, row) and options (network_def, ...) of the training"
            )
