"""What a kind of bad input is, and where it is tried; `bad_input.py` tries them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from bundles import TABLE
from monai_constraints.data import write_datalist

Datalist = dict[str, list[dict[str, Any]]]


class Place(NamedTuple):
    """Where a kind is tried: copies that it may harm."""

    root: Path  # the data set
    out: Path  # the folder of the run
    bundle: str = "acdc_lv"

    def cases(self) -> Datalist:
        """The datalist of the data set, as it was before anything was done to it."""
        return copy.deepcopy(_cases(self.bundle, self.root))

    def file(self, key: str = "image", part: str = "training", number: int = 0) -> Path:
        """A file of one case; of several modalities the second."""
        path = self.cases()[part][number][key]
        return Path(path[1] if isinstance(path, list) else path)

    def edit(
        self, change: Callable[[np.ndarray], np.ndarray], key: str = "image", part: str = "training", number: int = 0
    ) -> None:
        """Change the voxels of one file; its affine and voxel sizes stay."""
        rewrite(self.file(key, part, number), change)

    def listed(self, change: Callable[[Datalist], Any]) -> dict[str, Any]:
        """The option of a datalist, after a change to it."""
        datalist = self.cases()
        change(datalist)
        write_datalist(datalist, self.root.parent / "cases.json")
        return {"datalist_file": str(self.root.parent / "cases.json")}


@cache
def _cases(bundle: str, root: Path) -> Datalist:
    return TABLE[bundle].datalist(root)


Harm = Callable[[Place], Any]  # a dict that it returns is of options


@dataclass(frozen=True)
class Kind:
    """One kind of bad input: what is given, what is done to files before, and words that its refusal must have."""

    group: str
    name: str
    words: str  # a pattern; empty: it has to be accepted
    options: dict[str, Any] = field(default_factory=dict)
    harm: Harm | None = None
    overlay: str | bytes | None = None
    after_a_run: bool = False
    bundle: str = "acdc_lv"
    command: str = "train"  # or evaluate, predict
    warns: str = ""  # a pattern of a warning that has to be there


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], affine: Any = None) -> None:
    """Change the voxels of a file; its affine, unless another one is given, and its voxel sizes stay."""
    file: Any = nib.load(path)
    data = change(np.asarray(file.dataobj).copy())
    data = data.astype(np.int16) if data.dtype == np.int64 else data  # which nibabel does not write unasked
    new: Any = nib.Nifti1Image(data, file.affine if affine is None else affine)
    if affine is None and len(file.header.get_zooms()) == len(new.header.get_zooms()):
        new.header.set_zooms(file.header.get_zooms())
    nib.save(new, path)


def voxel(value: float, kind: Any, key: str = "image", part: str = "training") -> Harm:
    """One voxel of another value, in an array of this type."""

    def change(data: np.ndarray) -> np.ndarray:
        data = data.astype(kind)
        data[20, 21, 0] = value
        return data

    return lambda at: at.edit(change, key, part)


def entry(key: str, value: Any, part: str = "training", number: int = 0) -> Harm:
    """One entry of one case of a datalist; a function of the case makes it, and None takes it away."""

    def change(datalist: Datalist) -> None:
        item = datalist[part][number]
        item[key] = value(item) if callable(value) else value

    return lambda at: at.listed(change)


def without(key: str, part: str = "training", number: int = 0) -> Harm:
    """A case that lacks the entry."""
    return lambda at: at.listed(lambda datalist: datalist[part][number].pop(key))
