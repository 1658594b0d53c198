"""What every transform that writes weak labels shares: reading, checking and writing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy

from monai_constraints.arrays import of_classes
from monai_constraints.keys import CASE

__all__ = ["Sample", "ToWeakd", "listed"]

Sample = Mapping[Hashable, Any]


class ToWeakd(MapTransform, ABC):
    """Reads one integer map (1, *S), writes the weak map made from it: uint8, same metadata and device."""

    def __init__(self, *, key: str, output: str, unknown: int) -> None:
        super().__init__(keys=key)
        if not 0 <= unknown <= 255:
            raise ValueError(f"{self.name}: unknown={unknown}, expected 0 to 255 as weak labels are uint8.")
        self.key = key
        self.output = output
        self.unknown = unknown

    @property
    def name(self) -> str:
        return type(self).__name__

    @abstractmethod
    def annotate(self, values: np.ndarray, sample: Sample) -> np.ndarray:
        """The weak map (*S) of the integer map `values` (*S)."""

    def __call__(self, data: Sample) -> dict[Hashable, Any]:
        sample = dict(data)
        if self.key not in sample:
            keys = sorted(map(str, sample))
            raise KeyError(f"{self.name}: the sample has no '{self.key}'; its keys are {keys}.")
        source = of_classes(sample[self.key])
        weak = self.annotate(self._integers(source, sample), sample).astype(np.uint8)
        sample[self.output], *_ = convert_to_dst_type(weak[None], dst=source, dtype=torch.uint8)
        return sample

    def _integers(self, source: torch.Tensor, sample: Sample) -> np.ndarray:
        values = convert_to_numpy(source)
        if values.ndim not in (3, 4) or values.shape[0] != 1:
            raise ValueError(
                f"{self.where(sample)} has shape {values.shape}, expected (1, H, W) or (1, H, W, D) with one "
                "class index a voxel; turn one-hot channels into indices with AsDiscreted(argmax=True), add "
                "a missing channel with EnsureChannelFirstd."
            )
        if np.issubdtype(values.dtype, np.floating):
            whole = np.isfinite(values) & (values == np.rint(values))
            if not whole.all():
                raise ValueError(
                    f"{self.where(sample)} holds {listed(values[~whole])}, expected integer classes; "
                    "resample labels with mode='nearest', threshold soft masks first."
                )
        return values[0] if values.dtype == np.uint8 else values[0].astype(np.int64)

    def check_classes(self, label: np.ndarray, sample: Sample) -> None:
        wrong = (label < 0) | (label > 255) | (label == self.unknown)
        if wrong.any():
            raise ValueError(
                f"{self.where(sample)} holds {listed(label[wrong])}, expected classes from 0 to 255 other "
                f"than unknown={self.unknown}; change them with MapLabelValued, or choose another unknown."
            )

    def where(self, sample: Sample) -> str:
        return f"{self.name}: '{self.key}' of case {sample.get(CASE, '(not named)')!r}"


def listed(values: np.ndarray) -> str:
    """The distinct values, at most eight of them."""
    found = np.unique(values).tolist()
    return f"{found[:8]}{' and more' if len(found) > 8 else ''}"
