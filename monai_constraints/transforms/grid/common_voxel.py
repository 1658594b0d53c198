"""Images of different voxel sizes on one grid."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Spacingd

from ...keys import IMAGE, SPACING

__all__ = ["CommonVoxeld"]


class CommonVoxeld(MapTransform, InvertibleTransform):
    """Resamples the first two axes of volumes to one voxel size, with MONAI's Spacingd; slices stay.

    The voxel size is the sample's `spacing`, or else that of the reference image's affine; all keys are taken to lie on
    the grid of the reference, whatever their headers say (the affines of ACDC say 1 mm). Images are interpolated,
    everything else gets the nearest voxel. Inversion, by Invertd for one, brings a prediction back to the voxels of the
    file.

    Args:
        keys: volumes (C, X, Y, Z) of one grid, or what there is of them. Where only images are among them, `spacing`
            stays that of the file, on which predictions are then measured.
        mm: the voxel size along the first two axes in mm; 0: nothing is resampled.
        reference: the entry whose orientation counts.

    Raises:
        ValueError: `mm` is negative; from a call, an entry has another shape than the reference.
    """

    def __init__(self, keys: KeysCollection, mm: float, *, reference: str = IMAGE) -> None:
        super().__init__(keys, allow_missing_keys=True)
        if mm < 0:
            raise ValueError(f"CommonVoxeld: mm={mm}, expected a voxel size, or 0 for the file's own")
        self.mm, self.reference = mm, reference
        modes = ["bilinear" if key == IMAGE else "nearest" for key in self.keys]
        self.spacing = Spacingd(self.keys, (mm, mm, -1), mode=modes, padding_mode="border", allow_missing_keys=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        if not self.mm:
            return sample
        image = sample[self.reference]
        affine = image.affine.clone()
        if sample.get(SPACING) is not None:
            sizes = torch.as_tensor(sample[SPACING], dtype=affine.dtype)
            affine[:3, :3] *= sizes / affine[:3, :3].norm(dim=0)
        for key in self.key_iterator(sample):
            if sample[key].shape[1:] != image.shape[1:]:
                raise ValueError(
                    f"CommonVoxeld: {key!r} is {tuple(sample[key].shape)}, {self.reference!r} {tuple(image.shape)};"
                    " expected one grid"
                )
            old = sample[key]
            values, meta = torch.as_tensor(old).as_subclass(torch.Tensor), dict(getattr(old, "meta", {}))
            meta.pop("affine", None)
            done = list(getattr(old, "applied_operations", []))
            sample[key] = MetaTensor(values, affine=affine.clone(), meta=meta, applied_operations=done)
        # Spacingd fails on other entries whose names begin with a key's, such as the image_path of MONAI Label.
        sample |= self.spacing({key: sample[key] for key in self.key_iterator(sample)})
        if sample.get(SPACING) is not None and any(key != self.reference for key in self.key_iterator(sample)):
            sample[SPACING] = [self.mm, self.mm, *sample[SPACING][2:]]
        return sample

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        if self.mm:
            sample |= self.spacing.inverse({key: sample[key] for key in self.key_iterator(sample)})
        return sample
