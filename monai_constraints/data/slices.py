"""All 2D slices of a set of volumes, without writing files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from monai_constraints.constraints.plain import plain

__all__ = ["SliceDataset"]


class _Volumes(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class SliceDataset(Dataset[dict[str, Any]]):
    """All 2D slices of a set of volumes, in order, without writing files.

    For pipelines of one's own, over any data set of volumes; bundles have `CachedSlices`.

    A volume sample is a dict of channel-first tensors (C, X, Y, Z) with a unique `case`. An item has the
    `keys` cut to one slice (C, X, Y) as plain tensors with storage of their own; `slice`, its number in the
    volume; `index`, its position in this dataset; and the entries that are not on the voxel grid as they are
    (`case`, `patient`, `spacing`, bounds of the whole volume). Other entries on the grid are left out.

    Every item reads its volume, and every volume is read once here for its shape; so `volumes` should hold
    them in memory (a MONAI CacheDataset) and have no random transforms: put these on the slices.

    Args:
        volumes: map-style dataset or list of volume samples.
        keys: the entries to cut; the same spatial shape within a volume.
        axis: spatial axis to cut along, 0 .. 2, or from the end: -1 is Z.
        volume_keys: entries on the voxel grid that every slice gets whole.

    Attributes:
        cases: the case of every slice, the `groups` of a GroupBatchSampler.
        case_index: the position in `volumes` of every slice's volume.

    Raises:
        ValueError: no volumes, a missing key, shapes that differ, an axis out of range, or a repeated case.
    """

    def __init__(
        self,
        volumes: _Volumes,
        *,
        keys: Sequence[str] = ("image", "label"),
        axis: int = -1,
        volume_keys: Sequence[str] = (),
    ) -> None:
        if not len(volumes) or not keys:
            raise ValueError(f"SliceDataset: {len(volumes)} volumes, {len(keys)} keys; pass one or more")
        self.volumes = volumes
        self.keys = tuple(keys)
        self.axis = axis
        self.volume_keys = tuple(volume_keys)
        self.cases: list[str] = []
        self.case_index: list[int] = []
        self._slice: list[int] = []
        names: set[str] = set()
        for position in range(len(volumes)):
            volume = volumes[position]
            case, shape = self._checked(volume, position)
            if case in names:
                raise ValueError(f"SliceDataset: case '{case}' occurs twice; give every volume its own name")
            names.add(case)
            count = shape[axis]
            self.cases += [case] * count
            self.case_index += [position] * count
            self._slice += range(count)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(len(self))[index]  # negative positions, and IndexError where iteration ends
        volume = self.volumes[self.case_index[index]]
        grid = tuple(volume[self.keys[0]].shape[1:])
        item: dict[str, Any] = {}
        for key, value in volume.items():
            if key in self.keys:
                item[key] = _cut(value, self.axis, self._slice[index])
            elif key in self.volume_keys or tuple(getattr(value, "shape", ()))[1:] != grid:
                item[key] = plain(value).clone() if isinstance(value, Tensor) else value
        return {**item, "slice": self._slice[index], "index": index}

    def _checked(self, volume: Mapping[str, Any], position: int) -> tuple[str, tuple[int, ...]]:
        absent = [key for key in ("case", *self.keys, *self.volume_keys) if key not in volume]
        if absent:
            raise ValueError(
                f"SliceDataset: volume {position} has no {absent}, it has {sorted(volume)}; load them, or"
                " change keys"
            )
        case = str(volume["case"])
        shapes = {key: tuple(volume[key].shape) for key in self.keys}
        grids = {shape[1:] for shape in shapes.values()}
        if len(grids) > 1:
            raise ValueError(
                f"SliceDataset: case '{case}' has shapes {shapes}, expected (C, X, Y, Z) with one X, Y, Z;"
                " resample them to one grid"
            )
        grid = grids.pop()
        if not -len(grid) <= self.axis < len(grid):
            raise ValueError(
                f"SliceDataset: axis {self.axis}, but case '{case}' has spatial shape {grid}; pass"
                f" {-len(grid)} .. {len(grid) - 1}, and channel-first volumes"
            )
        return case, grid


def _cut(value: Any, axis: int, position: int) -> Tensor:
    # A view would be pickled, and kept alive, with the whole volume behind it.
    view = plain(value).select(axis if axis < 0 else axis + 1, position)
    return view.clone(memory_format=torch.contiguous_format)
