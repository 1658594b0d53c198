"""Sizes without a regressor, in its format: the true ones, and what the place of a slice alone says (table 5.1)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monai_constraints.data.few_annotated import owner
from monai_constraints.data.loading import LoadCased, case_name
from monai_constraints.keys import IMAGE, LABEL, SPACING, VOLUME, predicted_key, regressed_key

__all__ = ["OracleSizes", "PositionPrior", "UnknownSizes", "slice_areas"]

Case = dict[str, Any]
POINTS = 64  # of a profile over the relative depth


def slice_areas(case: Mapping[str, Any], classes: Sequence[int], *, axis: int = -1) -> np.ndarray:
    """The area in mm2 of each class in each slice of a case's label, (S, K).

    Args:
        case: with paths of `image` and `label`; `spacing` is the image's where the case has none.
        classes: values of the label's file.
        axis: of the slices.
    """
    return _areas_and_thickness(case, classes, axis)[0]


def _areas_and_thickness(case: Mapping[str, Any], classes: Sequence[int], axis: int) -> tuple[np.ndarray, float]:
    """Areas (S, K) in mm2, and how thick a slice is in mm."""
    sample = LoadCased([IMAGE, LABEL])({key: value for key, value in case.items()})
    label = np.moveaxis(np.asarray(sample[LABEL][0]), axis, 0)
    pixel = np.prod([mm for place, mm in enumerate(sample[SPACING]) if place != axis % 3])
    areas = np.stack([(label == k).sum((1, 2)) * pixel for k in classes], axis=1)
    return areas, float(sample[SPACING][axis % 3])


class UnknownSizes:
    """Nothing is known of any slice: the images of the other patients alone, for consistency or proposals.

    Args:
        name: of the constraint.
    """

    def __init__(self, *, name: str = "size") -> None:
        self.name = name

    def __call__(self, annotated: Sequence[Case], others: Sequence[Case], validation: Sequence[Case]) -> list[Case]:
        return [{**case, regressed_key(self.name): []} for case in others]


class OracleSizes:
    """The true size -+ `relative`, and [0, 0] where the class is not there: the upper end of table 5.1.

    The size of each slice, and that of the volume (`volume_regressed`), of which a training takes one.
    It reads the labels that nobody has in practice; the network never gets them.

    Args:
        classes: values of the label's file.
        name: of the constraint.
        relative: gamma, the thesis's .1.
        axis: of the slices.

    Raises (when called):
        ValueError: a case without a label.
    """

    def __init__(
        self, *, classes: Sequence[int] | int, name: str = "size", relative: float = 0.1, axis: int = -1
    ) -> None:
        self.classes = [classes] if isinstance(classes, int) else list(classes)
        self.name, self.relative, self.axis = name, relative, axis

    def __call__(self, annotated: Sequence[Case], others: Sequence[Case], validation: Sequence[Case]) -> list[Case]:
        without = [case_name(case) for case in others if LABEL not in case]
        if without:
            raise ValueError(
                f"OracleSizes: case {without[0]} has no label to measure; the oracle is a reference for data that are "
                "annotated, take the regressor's sizes"
            )
        margin = np.array([1 - self.relative, 1 + self.relative])
        made = []
        for case in others:
            areas, thickness = _areas_and_thickness(case, self.classes, self.axis)
            volume = areas.sum(0) * thickness
            known = {regressed_key(VOLUME): (volume[:, None, None] * margin).tolist()}
            made.append(_with(case, self.name, areas, areas[..., None] * margin) | known)
        return made


class PositionPrior:
    """The mean area at the slice's relative depth and the case's phase over the annotated patients; no image is read.

    What any regressor has to beat. The phase of a case is its place among the cases of its patient: ACDC has
    end-diastole first. The margin is the quantile of the absolute residuals over all slices, each patient predicted
    from the others: pooled slices reach their level on average, and single draws of few patients do not.

    Args:
        classes: values of the label's file.
        name: of the constraint.
        level: share of slices that the margin is to cover.
        axis: of the slices.

    Raises (when called):
        ValueError: fewer than two annotated patients, or a level that is not between 0 and 1.
    """

    def __init__(self, *, classes: Sequence[int] | int, name: str = "size", level: float = 0.9, axis: int = -1) -> None:
        if not 0 < level < 1:
            raise ValueError(f"PositionPrior: level={level}; give a share of slices, above 0 and below 1")
        self.classes = [classes] if isinstance(classes, int) else list(classes)
        self.name, self.level, self.axis = name, level, axis

    def held_out(self, annotated: Sequence[Case]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Predictions and truth (S, K) in mm2 of each annotated case, each patient predicted from the others.

        Raises:
            ValueError: fewer than two patients.
        """
        patients = sorted({owner(case) for case in annotated})
        if len(patients) < 2:
            raise ValueError("PositionPrior: one annotated patient, expected two or more for a margin; annotate more")
        phase, areas = _phases(annotated), self._areas(annotated)
        found = []
        for case in annotated:
            rest = [one for one in annotated if owner(one) != owner(case)]
            truth = areas[case_name(case)]
            found.append((_profile(case, rest, areas, phase, len(truth)), truth))
        return found

    def __call__(self, annotated: Sequence[Case], others: Sequence[Case], validation: Sequence[Case]) -> list[Case]:
        residuals = [np.abs(predicted - truth) for predicted, truth in self.held_out(annotated)]
        margin = np.quantile(np.concatenate(residuals), self.level, axis=0, method="higher")  # (K,)
        phase, areas = _phases([*annotated, *others]), self._areas(annotated)
        made = []
        for case in others:
            depth = LoadCased([IMAGE])({IMAGE: case[IMAGE]})[IMAGE].shape[1:][self.axis]
            predicted = _profile(case, annotated, areas, phase, depth)
            bounds = np.stack([predicted - margin, predicted + margin], axis=-1).clip(min=0)
            made.append(_with(case, self.name, predicted, bounds))
        return made

    def _areas(self, cases: Sequence[Case]) -> dict[str, np.ndarray]:
        return {case_name(case): slice_areas(case, self.classes, axis=self.axis) for case in cases}


def _profile(
    case: Case, among: Sequence[Case], areas: Mapping[str, np.ndarray], phase: Mapping[str, int], depth: int
) -> np.ndarray:
    """The mean areas (S, K) at the relative depths of a volume of so many slices, over the cases of the same phase."""
    alike = [one for one in among if phase[case_name(one)] == phase[case_name(case)]] or list(among)
    at, points = (np.arange(depth) + 0.5) / depth, (np.arange(POINTS) + 0.5) / POINTS
    curves = []
    for one in alike:
        own = areas[case_name(one)]
        place = (np.arange(len(own)) + 0.5) / len(own)
        curves.append([np.interp(points, place, column) for column in own.T])
    mean = np.mean(curves, axis=0)
    return np.stack([np.interp(at, points, curve) for curve in mean], axis=1)


def _phases(cases: Sequence[Case]) -> dict[str, int]:
    """The place of each case among those of its patient, by name."""
    of_patient = defaultdict(list)
    for case in cases:
        of_patient[owner(case)].append(case_name(case))
    return {name: place for names in of_patient.values() for place, name in enumerate(sorted(names))}


def _with(case: Case, name: str, predicted: np.ndarray, bounds: np.ndarray) -> Case:
    """The case with predictions (S, K) as S lists of K lists of one number, and bounds (S, K, 2) likewise."""
    found = {predicted_key(name): predicted[..., None].tolist(), regressed_key(name): bounds[:, :, None].tolist()}
    return {**case, **found}
