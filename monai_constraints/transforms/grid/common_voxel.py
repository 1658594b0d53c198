"""Images of different voxel sizes on one grid."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Spacingd

__all__ = ["CommonVoxeld"]


class CommonVoxeld(MapTransform, InvertibleTransform):
    """Resamples the first two axes of volumes to one voxel size, with MONAI's Spacingd; slices stay.

    The voxel size is the reference image's; masks whose headers say otherwise (ACDC's say 1 mm) are taken to lie on
    its grid. Inversion, by Invertd for one, brings a prediction back to the voxels of the file.

    Args:
        keys: volumes (C, X, Y, Z) of one grid.
        mm: the voxel size along the first two axes in mm; 0: nothing is resampled.
        mode: of the interpolation, one for all or one a key.
        reference: the entry with the right affine.
        spacing_key: the entry [dx, dy, dz] that follows where there is one.
        allow_missing_keys: whether items may lack some.

    Raises:
        ValueError: `mm` is negative; from a call, an entry has another shape than the reference.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mm: float,
        *,
        mode: str | Sequence[str] = "bilinear",
        reference: str = "image",
        spacing_key: str = "spacing",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if mm < 0:
            raise ValueError(f"CommonVoxeld: mm={mm}, expected a voxel size, or 0 for the file's own")
        self.mm, self.reference, self.spacing_key = mm, reference, spacing_key
        self.spacing = Spacingd(
            self.keys, (mm, mm, -1), mode=mode, padding_mode="border", allow_missing_keys=allow_missing_keys
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        if not self.mm:
            return sample
        image = sample[self.reference]
        for key in self.key_iterator(sample):
            if sample[key].shape[1:] != image.shape[1:]:
                raise ValueError(
                    f"CommonVoxeld: {key!r} is {tuple(sample[key].shape)}, {self.reference!r} {tuple(image.shape)};"
                    " expected one grid"
                )
            if key != self.reference:
                values = torch.as_tensor(sample[key]).as_subclass(torch.Tensor)
                sample[key] = MetaTensor(values, affine=image.affine.clone())
        sample = dict[Hashable, Any](self.spacing(sample))
        if self.spacing_key in sample:
            sample[self.spacing_key] = [self.mm, self.mm, *sample[self.spacing_key][2:]]
        return sample

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return dict(self.spacing.inverse(data)) if self.mm else dict(data)
