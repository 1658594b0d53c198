"""A predicted mask as a file on the grid of its image."""

from __future__ import annotations

import gzip
import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import SaveImaged

from monai_constraints.files import replacing
from monai_constraints.keys import CASE

__all__ = ["SaveMaskd"]


class SaveMaskd(SaveImaged):
    """Write `output_dir`/CASE_pred.nii.gz with the shape and the affine that the image's file has.

    What the image's metadata kept when it was read (`LoadCased`) is used; the file is not read again, so images that
    were in memory go as well. The name is the sample's `case`, which may have folders in it, and never leaves
    `output_dir`. MONAI Label leaves out MONAI's SaveImaged and, as one of its kind, this transform.

    Args:
        keys: class maps (1, X, Y, Z).
        output_dir: the folder.
        ending: of the name; a MetaImage gets a NIfTI mask too.

    Raises:
        ValueError: a mask whose shape is not that of its image's file, two masks of one name in a run, or a link in
            `output_dir` that leads out of it.
    """

    def __init__(self, keys: KeysCollection, *, output_dir: str | os.PathLike[str], ending: str = "_pred") -> None:
        super().__init__(keys, output_dir=str(output_dir), print_log=False)
        self.folder, self.ending = Path(output_dir), ending
        self._written: set[str] = set()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:  # type: ignore[override]
        for key in self.keys:
            self._write(data[key], str(data.get(CASE, "image")))
        return dict(data)

    def _write(self, mask: MetaTensor, case: str) -> None:
        parts = [part for part in case.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        name = "/".join(parts) + self.ending
        if name in self._written:
            raise ValueError(f"SaveMaskd: two cases of the name {case!r}; give each its own, or its mask is lost")
        array = mask.as_subclass(torch.Tensor).cpu().numpy()[0].astype(np.uint8)
        shape = tuple(mask.meta.get("file_shape", array.shape))
        if array.size != int(np.prod(shape)):
            raise ValueError(f"SaveMaskd: the mask of {case!r} is {array.shape}, its file {shape}; use Invertd before")
        affine = np.asarray(mask.meta.get("original_affine", mask.affine), dtype=float)
        path = self.folder / f"{name}.nii.gz"
        if not path.parent.resolve().is_relative_to(self.folder.resolve()):
            raise ValueError(f"SaveMaskd: a link leads {path} out of {self.folder}; choose another output folder")
        image = nib.Nifti1Image(array.reshape(shape), affine)
        with replacing(path) as temporary:
            temporary.write_bytes(_packed(image))
        self._written.add(name)


def _packed(image: Any) -> bytes:
    return gzip.compress(image.to_bytes(), compresslevel=5, mtime=0)
