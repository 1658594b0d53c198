"""Regressed bounds of the slices (mm2) or the volume (mm3) of a case, as bounds on the network's grid (thesis 5.3)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Transform
from torch import Tensor

from ...constraints import Size, Statistic, check_bounds
from ...keys import ANNOTATED, CASE, IMAGE, SLICE, SPACING, VOLUME, bounds_key, regressed_key

__all__ = ["RegressedBoundsd", "RegressedVolumed"]

FREE = (-float("inf"), float("inf"))


class RegressedBoundsd(Transform):
    """[a, b] = f of (1 -+ gamma) R(x) (thesis 5.3) of the slice, or no bounds where a case is annotated.

    The case has `<name>_regressed`, a list over its slices in the order of the file of K lists of M pairs in mm2. A
    side or a pair that is null is not known and infinite; an empty list says that nothing is known of the case. Areas
    in mm2 become pixels of the network's grid by the spacing of the file and the zoom, and then bounds of the statistic
    itself where that is a root.

    Put it twice: among the transforms of the volume, where it refuses a case whose list does not fit its slices; and
    among those of the slice, where it writes `<name>_bounds` (K, M, 2).

    Args:
        statistic: a Size or the Root of one, with the network's classes=[...]; the same object as in the loss.
        name: of the constraint.
        zoom: pixels of the file per pixel of the network's grid, along each axis of the volume (`ToGridd.zoom`).
        axis: of the slices.

    Raises:
        ValueError: for another statistic than a size; no such entry, another number of slices than the volume's, not K
            lists of M pairs, NaN, or a > b.
    """

    def __init__(self, statistic: Statistic, *, name: str = "size", zoom: Sequence[float], axis: int = -1) -> None:
        self.statistic, self.classes, self.axis = statistic, _count(statistic, type(self).__name__), axis
        self.key, self.output = regressed_key(name), bounds_key(name)
        self.pixel = [size for place, size in enumerate(zoom) if place != axis % 3]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if SLICE not in data:
            self._check(data)
            return dict(data)
        if self._free(data):
            bounds = torch.tensor(FREE).expand(self.classes, 1, 2).clone()
        else:
            bounds = self._read(data, self._slices(data)[int(data[SLICE])]) / self._mm2(data)
        return {**data, self.output: self.statistic.link(_not_negative(bounds))}

    def _check(self, data: Mapping[Hashable, Any]) -> None:
        if self._free(data):
            return
        slices, depth = self._slices(data), torch.as_tensor(data[IMAGE]).shape[1:][self.axis]
        if len(slices) != depth:
            raise ValueError(
                f"{self._where(data)} has {len(slices)} slices, the image {depth} along axis {self.axis}; predict the "
                "case again along this axis"
            )
        for one in slices:
            self._read(data, one)

    def _free(self, data: Mapping[Hashable, Any]) -> bool:
        return bool(data.get(ANNOTATED)) or data.get(self.key, 0) == []

    def _slices(self, data: Mapping[Hashable, Any]) -> Sequence[Any]:
        if not isinstance(data.get(self.key), Sequence):
            raise ValueError(f"{self._where(data)} is missing; predict the case, or mark it as annotated")
        slices: Sequence[Any] = data[self.key]
        return slices

    def _read(self, data: Mapping[Hashable, Any], one: Any) -> Tensor:
        return _pairs(one, self.classes, f"{self._where(data)} has {one} for a slice")

    def _mm2(self, data: Mapping[Hashable, Any]) -> float:
        """The area of a pixel of the network's grid."""
        spacing = [float(mm) for place, mm in enumerate(data[SPACING]) if place != self.axis % 3]
        return spacing[0] * self.pixel[0] * spacing[1] * self.pixel[1]

    def _where(self, data: Mapping[Hashable, Any]) -> str:
        return f"RegressedBoundsd: {self.key} of case {data.get(CASE)}"


class RegressedVolumed(Transform):
    """[a, b] = f of the size of a whole volume (thesis 2.4.4, 5.3), which all its slices have, for `GroupPooling`.

    The case has `volume_regressed`, K lists of M pairs in mm3, where null is not known; an annotated case has none and
    needs none. Put it among the transforms of the volume, before it is cut in slices.

    Args:
        statistic: a Size or the Root of one, with the network's classes=[...]; the same object as in the loss.
        name: of the constraint; `<name>_bounds` (K, M, 2) is written.
        zoom: voxels of the file per voxel of the network's grid, along each axis of the volume (`ToGridd.zoom`).

    Raises:
        ValueError: for another statistic than a size; no such entry, not K lists of M pairs, NaN, or a > b.
    """

    def __init__(self, statistic: Statistic, *, name: str = "size", zoom: Sequence[float]) -> None:
        self.statistic, self.classes = statistic, _count(statistic, type(self).__name__)
        self.key, self.output, self.zoom = regressed_key(VOLUME), bounds_key(name), list(zoom)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if data.get(ANNOTATED):
            return {**data, self.output: torch.tensor(FREE).expand(self.classes, 1, 2).clone()}
        where = f"RegressedVolumed: {self.key} of case {data.get(CASE)}"
        if not isinstance(data.get(self.key), Sequence):
            raise ValueError(
                f"{where} is missing, the size of the whole volume; predict the cases with the row volume of the "
                "regressor, or mark the case as annotated"
            )
        given = data[self.key]
        voxel = math.prod(float(mm) * factor for mm, factor in zip(data[SPACING], self.zoom))
        bounds = _pairs(given, self.classes, f"{where} is {given}") / voxel
        return {**data, self.output: self.statistic.link(_not_negative(bounds))}


def _count(statistic: Statistic, who: str) -> int:
    """The number of classes of a size."""
    if not isinstance(statistic.ruled, Size) or statistic.classes is None:
        raise ValueError(
            f"{who}: {type(statistic.ruled).__name__}, classes={statistic.classes}; predictions in mm2 or mm3 bound a "
            "Size, with classes=[...]"
        )
    return len(statistic.classes)


def _not_negative(bounds: Tensor) -> Tensor:
    """No size is negative: what was predicted below 0 is taken as nothing."""
    return torch.where(bounds.isinf(), bounds, bounds.clamp_min(0))


def _pairs(given: Any, classes: int, where: str) -> Tensor:
    """Bounds (K, 1, 2) of K lists of one pair."""
    try:
        found = torch.tensor([[_pair(pair) for pair in row] for row in given], dtype=torch.float32)
        if found.shape != (classes, 1, 2):
            raise ValueError(f"(K, M, 2) is {tuple(found.shape)}")
        check_bounds(found, classes=classes, name="bounds")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{where}, expected K={classes} lists of one pair [a, b] ({error}); predict the case again with these "
            "classes"
        ) from error
    return found


def _pair(pair: Sequence[float | None] | None) -> list[float]:
    given = FREE if pair is None else pair
    if len(given) != 2:
        raise ValueError(f"{list(given)} is no pair")
    return [free if side is None else float(side) for side, free in zip(given, FREE)]
