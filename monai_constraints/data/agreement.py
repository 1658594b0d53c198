"""What predictions agree on, as scribbles: `python -m monai_constraints.data.agreement DATALIST OUT PREDICTIONS...`."""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage
from tqdm import tqdm

from monai_constraints.data.datalist import read_datalist, write_datalist
from monai_constraints.data.prepare import Datalist

__all__ = ["agreement", "write_agreement"]


def agreement(
    masks: Sequence[np.ndarray], scribble: np.ndarray | None = None, *, border: int = 1, unknown: int = 4
) -> np.ndarray:
    """The label where all masks have the same and no other label is near, `unknown` elsewhere.

    For self-training: a network trained from scribbles and sizes is sure of the inside of a structure and of what is
    far from it, and errs at borders. So what it (or several of them) found becomes the scribble of the next training,
    a band along the borders left out, where the image, the known sizes and a regularizer decide once more.

    What the expert drew stays. A structure found in a slice without a stroke of it is unknown: whoever marks each
    structure of a slice says by this which ones are there (the tags of thesis 2.5).

    Args:
        masks: integers of one shape, slices along the last axis; one or more.
        scribble: the expert's, of the same shape, `unknown` where nothing is drawn.
        border: half the width of the band, in pixels of the slice: unknown is what has another label (or disagreement)
            at most so many pixels away along both axes. 0 for no band.
        unknown: the value for "not annotated", no label.

    Returns:
        uint8, of the masks' shape.

    Raises:
        ValueError: no masks, shapes that differ, `unknown` among the labels or outside 1 to 255, a negative border.
    """
    if not masks:
        raise ValueError("agreement: no masks; give one or more")
    if not 1 <= unknown <= 255 or border < 0:
        raise ValueError(f"agreement: unknown={unknown} must be 1 to 255 and border={border} at least 0")
    shapes = [mask.shape for mask in masks] + ([] if scribble is None else [scribble.shape])
    if len(set(shapes)) > 1 or len(shapes[0]) < 3:
        raise ValueError(f"agreement: shapes {shapes}; masks and scribble share a grid, slices along its last axis")
    labels = np.stack(masks)
    if labels.min() < 0 or labels.max() > 255 or (labels == unknown).any():
        raise ValueError(
            f"agreement: masks hold {labels.min()} to {labels.max()}, with unknown={unknown}; labels are 0 to 255"
            " and never `unknown`"
        )
    agreed = np.where((labels == labels[0]).all(0), labels[0], unknown).astype(np.uint8)
    if scribble is None:
        return _without_borders(agreed, border, unknown)
    for label in np.setdiff1d(np.unique(agreed), [0, unknown]):
        unmarked = ~(scribble == label).any(axis=(0, 1))
        agreed[(agreed == label) & unmarked] = unknown
    drawn = scribble != unknown
    found = _without_borders(np.where(drawn, scribble, agreed).astype(np.uint8), border, unknown)
    return np.where(drawn, scribble, found).astype(np.uint8)


def _without_borders(labels: np.ndarray, border: int, unknown: int) -> np.ndarray:
    window = (2 * border + 1, 2 * border + 1, *(1 for _ in labels.shape[2:]))
    edge = ndimage.maximum_filter(labels, window) != ndimage.minimum_filter(labels, window)
    return np.where(edge, np.uint8(unknown), labels)


def write_agreement(
    datalist: str | os.PathLike[str],
    out: str | os.PathLike[str],
    predictions: Sequence[str | os.PathLike[str]],
    *,
    border: int = 1,
    unknown: int = 4,
    progress: bool = True,
) -> Datalist:
    """Write a datalist whose training cases have what predictions agree on as their scribble.

    Args:
        datalist: JSON with "training"; its other lists are kept. A case that has a `scribble` keeps its strokes.
        out: folder, made where missing, for `<case>_scribble.nii.gz` and, when all of these are there,
            `datalist.json`.
        predictions: folders of masks `<name of the image>_pred.nii.gz`, as `inference.json` of the bundles writes them,
            in whatever folders below. Two or more networks, or one alone.
        border, unknown: see `agreement`.
        progress: show a bar.

    Returns:
        the new datalist.

    Raises:
        FileNotFoundError: a case has no mask in one of the folders.
        ValueError: a case has two masks in a folder, two cases have one name, no voxel of any case is unknown, or as in
            `read_datalist` and `agreement`, with the case.
    """
    cases = read_datalist(datalist, "training")
    others = {key: items for key, items in json.loads(Path(datalist).read_text("utf-8")).items() if key != "training"}
    kept = {key: read_datalist(datalist, key) for key, items in others.items() if items}
    files = [[_mask(item, Path(folder)) for folder in predictions] for item in cases]
    names = [str(item.get("case", _stem(item))) for item in cases]
    if len(set(names)) < len(names):
        raise ValueError(f"write_agreement: {datalist} has two training cases of one name; give each its own `case`")
    out = Path(out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    training, known = [], []
    for item, paths, name in zip(tqdm(cases, desc="agreement", disable=not progress), files, names):
        first: Any = nib.load(paths[0])
        scribble = _labels(item["scribble"]) if "scribble" in item else None
        try:
            found = agreement([_labels(path) for path in paths], scribble, border=border, unknown=unknown)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        path = out / f"{name}_scribble.nii.gz"
        nib.save(nib.Nifti1Image(found, first.affine, dtype=np.uint8), path)
        training.append({**item, "scribble": str(path)})
        known.append((found != unknown).mean())
    if min(known) == 1:
        raise ValueError(
            f"write_agreement: no voxel is unknown; if the scribbles of {datalist} have another value than {unknown}"
            " for what is not annotated, pass it as `unknown`"
        )
    result: Datalist = {"training": training, **kept}
    write_datalist(result, out / "datalist.json")
    logging.info("%s: %d cases, %.1f %% of the voxels known", out / "datalist.json", len(cases), 100 * np.mean(known))
    return result


def _stem(item: dict[str, Any]) -> str:
    image = item["image"] if isinstance(item["image"], str) else item["image"][0]
    return Path(image).name.split(".nii")[0]


def _mask(item: dict[str, Any], folder: Path) -> Path:
    found = sorted(folder.rglob(f"{_stem(item)}_pred.nii*"))
    if not found:
        raise FileNotFoundError(
            f"write_agreement: no {_stem(item)}_pred.nii.gz in {folder}; run inference.json on the training images"
        )
    if len(found) > 1:
        raise ValueError(f"write_agreement: {found[0]} and {found[1]} are both masks of {item['image']}; keep one")
    return found[0]


def _labels(path: str | Path) -> np.ndarray:
    file: Any = nib.load(path)
    return np.asarray(file.dataobj).astype(np.int64)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        prog="python -m monai_constraints.data.agreement",
        description="Write what predictions of the training images agree on as scribbles, for another training.",
    )
    parser.add_argument("datalist", help="JSON with the training cases, their scribbles, and what else it has")
    parser.add_argument("out", help="folder for the scribbles and datalist.json")
    parser.add_argument("predictions", nargs="+", help="folders of masks, as inference.json writes them")
    parser.add_argument("--border", type=int, default=1, help="pixels left out on each side of a border")
    parser.add_argument("--unknown", type=int, default=4, help='value for "not annotated"')
    arguments = parser.parse_args()
    write_agreement(
        arguments.datalist, arguments.out, arguments.predictions, border=arguments.border, unknown=arguments.unknown
    )
