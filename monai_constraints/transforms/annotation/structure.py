"""One structure out of several classes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_constraints.arrays import of_classes
from monai_constraints.keys import UNKNOWN

__all__ = ["OneStructured"]


class OneStructured(MapTransform):
    """1 where a map has one of some classes, 0 where it has another, 255 where it is not annotated; uint8.

    MONAI's MapLabelValued goes over the volume once for each class; this one looks each voxel up once.

    Args:
        keys: maps of integer classes (1, *S), full labels or scribbles.
        structure: the class, or the classes that together are the structure.
        classes: how many classes the maps have, background included.
        unknown: the value of a scribble map where nothing is annotated.
        allow_missing_keys: a sample need not have all of them.

    Raises:
        ValueError: for a structure that is no foreground class; for a map with other values than classes and unknown.
    """

    def __init__(
        self,
        keys: KeysCollection,
        structure: int | list[int],
        *,
        classes: int,
        unknown: int = UNKNOWN,
        allow_missing_keys: bool = True,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        chosen = [structure] if isinstance(structure, int) else list(structure)
        if not chosen or not all(1 <= k < classes for k in chosen):
            raise ValueError(f"OneStructured: structure={structure}; choose among the classes 1 to {classes - 1}")
        size = max(256, classes, unknown + 1)
        self.wrong = 254  # nothing else in the table has it
        self.table = torch.full((size,), self.wrong, dtype=torch.uint8)
        self.table[:classes] = 0
        self.table[chosen] = 1
        self.table[unknown] = UNKNOWN
        self.expected = f"0 to {classes - 1}, or {unknown} where nothing is annotated"

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        for key in self.key_iterator(sample):
            source = of_classes(sample[key])
            values = source.as_subclass(torch.Tensor)
            if values.dtype == torch.uint8 and not values.is_cuda:
                # As `LoadCased` reads labels: each value is a place in the table. NumPy needs no wider type for that.
                mapped, outside = torch.from_numpy(np.take(self.table.numpy(), values.numpy())), torch.tensor(False)
            else:
                index = values.long()
                outside = (index < 0) | (index >= len(self.table)) | (index != values)
                mapped = self.table.to(index.device)[index.clamp(0, len(self.table) - 1)]
            wrong = outside | (mapped == self.wrong)
            if wrong.any():
                found = values[wrong].unique().tolist()[:5]
                raise ValueError(
                    f"OneStructured: {key!r} of case {sample.get('case')!r} holds {found}, expected {self.expected}; "
                    "correct label_classes or unknown, or map the values"
                )
            sample[key] = mapped
            if isinstance(source, MetaTensor):
                sample[key] = MetaTensor(mapped, meta=source.meta, applied_operations=source.applied_operations)
        return sample
