"""The largest component of each class, with SciPy."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy
from scipy import ndimage

__all__ = ["LargestComponentd"]


class LargestComponentd(MapTransform):
    """Keeps the largest component of each foreground class of a prediction; the rest becomes background.

    Voxels that touch by a corner are connected. Of components of one size, the first in memory order stays. MONAI's
    KeepLargestConnectedComponentd does this too where scikit-image or cuCIM is installed, which MONAI does not do.

    Args:
        keys: classes (1, *S) or one-hot (K, *S) with the background as channel 0.

    Raises:
        ValueError: for an entry without a channel and two or three axes.
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        for key in self.keys:
            source = torch.as_tensor(sample[key])
            if source.ndim not in (3, 4):
                raise ValueError(
                    f"LargestComponentd: {key!r} is {tuple(source.shape)}; expected (1, *S) classes or (K, *S) one-hot"
                )
            values = convert_to_numpy(source)
            one_hot = len(values) > 1
            classes = values.argmax(0) if one_hot else values[0].copy()
            for k in np.unique(classes[classes > 0]):
                classes[_smaller_components(classes == k)] = 0
            kept = np.stack([classes == k for k in range(len(values))]) if one_hot else classes[None]
            sample[key], *_ = convert_to_dst_type(kept, dst=source, dtype=source.dtype)
        return sample


def _smaller_components(mask: np.ndarray) -> np.ndarray:
    parts, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    return mask & (parts != sizes[1:].argmax() + 1)
