"""A second round: regressed bounds, narrowed by what a finished segmentation measures (beyond thesis chapter 5)."""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_constraints.data.few_annotated import SizeSource
from monai_constraints.data.loading import LoadCased, case_name
from monai_constraints.keys import CASE, IMAGE, SPACING, regressed_key

__all__ = ["ReestimatedSizes"]

Case = dict[str, Any]
MASKS = "predictions"  # of a run's folder: where its inference writes them


class ReestimatedSizes:
    """[a, b] and [v - m, v + m], m = `relative` v + `absolute`: v the area of a class in the slice of a run's mask.

    The network of a finished run sees the size better than the regressor that bounded it, once it segments well. Its
    word counts within the band of the regressor only: where the two have nothing in common, [a, b] stays, so no band is
    ever widened or moved. m promises no coverage: the run was trained on the annotated patients, and nobody else may
    tell how far off it is. Of 5 annotated patients' networks the default covers five of six of the slices in which the
    left ventricle is largest (ACDC, training patients who were held out). A size of the whole volume that a case may
    have stays as it is.

    Args:
        sizes: the bounds of the first round, such as `RegressedSizes`.
        run: the folder of a finished run with the same annotated patients and structures; its masks of the cases
            without annotation are `predictions/CASE_pred.nii.gz`, which its inference writes.
        name: of the constraint.
        relative, absolute: of the margin m; the second in mm2.
        axis: of the slices.

    Raises:
        ValueError: a negative margin. When called: no run is given, or a mask that is not of its case: other slices, or
            classes that the bounds do not have.
        FileNotFoundError (when called): masks that are missing.
    """

    def __init__(
        self,
        sizes: SizeSource,
        *,
        run: str | os.PathLike[str],
        name: str = "size",
        relative: float = 0.3,
        absolute: float = 100.0,
        axis: int = -1,
    ) -> None:
        if min(relative, absolute) < 0:
            raise ValueError(f"ReestimatedSizes: relative={relative}, absolute={absolute}; give 0 or more")
        self.sizes, self.run, self.key, self.axis = sizes, run, regressed_key(name), axis
        self.relative, self.absolute = relative, absolute

    def __call__(self, annotated: Sequence[Case], others: Sequence[Case], validation: Sequence[Case]) -> list[Case]:
        bounded = self.sizes(annotated, others, validation)
        if not self.run:
            raise ValueError(
                "ReestimatedSizes: no run; name the folder of a finished run of the same patients (sizes_from)"
            )
        files = [Path(self.run) / MASKS / f"{case_name(case)}_pred.nii.gz" for case in bounded]
        absent = [file for file in files if not file.is_file()]
        if absent:
            raise FileNotFoundError(
                f"ReestimatedSizes: {len(absent)} of {len(files)} masks are missing, such as {absent[0]}; write them "
                f"first: python -m monai.bundle run --config_file {Path(self.run) / 'inference.yaml'} --datalist_key "
                "training --datalist_file LIST, the list that this training has"
            )
        return [self._narrowed(case, file) for case, file in zip(bounded, files)]

    def _narrowed(self, case: Case, file: Path) -> Case:
        areas = self._areas(case, file)
        bounds: list[list[list[Sequence[float | None] | None]]] = case[self.key]
        count = len(bounds[0]) if bounds else 0
        if len(bounds) != len(areas) or areas.shape[1] > count:
            raise ValueError(
                f"ReestimatedSizes: {file} has {len(areas)} slices and classes to {areas.shape[1]}, the bounds of case "
                f"{case_name(case)} are of {len(bounds)} slices and {count} classes; write the masks again, by a run "
                "with these structures"
            )
        made = [
            [[self._side(pair, float(v[k]) if k < len(v) else 0.0) for pair in row] for k, row in enumerate(one)]
            for one, v in zip(bounds, areas)
        ]
        return {**case, self.key: made}

    def _areas(self, case: Mapping[str, Any], file: Path) -> np.ndarray:
        """The areas (S, K) in mm2 of the classes 1 .. K that the mask has."""
        files: dict[Hashable, Any] = {IMAGE: case[IMAGE], "mask": str(file), CASE: case_name(case)}
        sample = LoadCased([IMAGE, "mask"])({**files, SPACING: case.get(SPACING)})
        mask = np.moveaxis(np.asarray(sample["mask"][0]), self.axis, 0)
        pixel = math.prod(mm for place, mm in enumerate(sample[SPACING]) if place != self.axis % 3)
        return np.stack([(mask == k).sum((1, 2)) * pixel for k in range(1, 1 + max(1, int(mask.max())))], axis=1)

    def _side(self, pair: Sequence[float | None] | None, v: float) -> list[float | None]:
        """The common part of the band [a, b], where null is infinite, and of v -+ m; the band where there is none."""
        a, b = pair if pair is not None else (None, None)
        m = self.relative * v + self.absolute
        low = max(v - m, 0.0 if a is None else a)
        high = v + m if b is None else min(v + m, b)
        return [low, high] if low <= high else [a, b]
