"""Bounds as a dictionary transform: from a source of values and a rule, and common bounds from chosen patients."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform
from torch import Tensor

from ...arrays import of_classes
from ...constraints import BoundsRule, Common, Statistic, check_bounds
from ...constraints.plain import plain
from ...keys import CASE, IMAGE, LABEL, PATIENT, UNKNOWN, bounds_key

__all__ = ["ConstraintBoundsd", "Given", "Values", "common_bounds"]

logger = logging.getLogger(__name__)


class Values:
    """A source of bounds: an entry of the sample with values of the statistic, such as a prediction (thesis 5.3).

    Args:
        key: the entry, K lists of M numbers or a tensor (K, M), in the units of the image that the network sees; null
            or NaN is "not known", an infinite bound. Values below the statistic's minimum are clamped to it, and a
            class of size 0 is absent.
    """

    def __init__(self, key: str) -> None:
        self.key = key


class Given:
    """In the place of a rule: the sample has bounds itself, which somebody measured.

    Its entry `<name>_bounds` is K lists of M pairs [a, b] in the units of the image that the network sees, of the
    statistic itself where another one takes its root; null is "not known", an infinite bound. No source is read.
    """


class ConstraintBoundsd(Transform):
    """Bounds of a statistic, from a source of its values and a rule: `<name>_bounds`, (K, M, 2) float32.

    Put it where the label has the shape that the network sees: after resizing and cropping, before the volume is
    cut in slices for a constraint on the volume, after it for one on the slice. Flips keep sizes, not centroids.

    Args:
        statistic: f, with classes=[...]; the same object as in the loss.
        rule: Tag, Common, Individual, or Unbounded; `Given()` for bounds that the sample has already.
        name: the entry is `<name>_bounds`.
        source: the key of a label, (1, *S) integer, on which f is measured, or `Values(key)`.
        image_key: the image, for statistics of intensities, and for |Omega| where there is no label.

    A rule speaks of the statistic under a root (`Statistic.ruled`), of values as of labels and given bounds.

    Bounds beyond the image are a warning with the case: a largest size above |Omega|, a centroid's bounds with their
    middle outside, or bounds that no region of the image meets.

    Raises:
        KeyError: where the sample lacks the entry.
        ValueError: for a label that is not (1, *S) or holds what is no class, values that are not (K, M), bounds that
            are not (K, M, 2), NaN, or a > b.
    """

    def __init__(
        self,
        statistic: Statistic,
        rule: BoundsRule | Given,
        name: str,
        *,
        source: str | Values = LABEL,
        image_key: str = IMAGE,
    ) -> None:
        self.classes = _classes(statistic)
        self.statistic, self.rule, self.key = statistic, rule, bounds_key(name)
        self.source, self.image_key = source, image_key
        self._warned: set[Any] = set()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        f = self.statistic.ruled
        if isinstance(self.rule, Given):
            bounds = _read(data, self.key, len(self.classes), _interval, "pairs [a, b]")
            check_bounds(bounds, classes=len(self.classes), name=f"{self.key} of case {data.get(CASE)!r}")
        else:
            known = None
            if isinstance(self.source, Values):
                values = _read(data, self.source.key, len(self.classes), _number, "M numbers")
                known = ~values.isnan()
                values = values.nan_to_num(0.0).clamp_min(f.minimum)
                present = values.ne(f.absent[0]).any(-1)
                voxels = torch.as_tensor(_entry(data, self.image_key))[0].numel()
            else:
                values, present, voxels = _measure(data, f, self.source, self.image_key)
            bounds = self.rule(values, present, voxels=voxels, absent=f.absent, minimum=f.minimum)
            if known is not None:
                bounds = torch.where(known[..., None], bounds, bounds.new_tensor([-float("inf"), float("inf")]))
        self._check_reach(bounds, data)
        return {**data, self.key: self.statistic.link(bounds)}

    def _check_reach(self, bounds: Tensor, data: Mapping[Hashable, Any]) -> None:
        """Compare the bounds (K, M, 2) of `ruled` with what it can be in this image."""
        f, entry = self.statistic.ruled, data.get(self.image_key, data.get(LABEL))
        reach = None if entry is None else f.range_in(tuple(np.shape(entry)[1:]))
        if reach is None:
            return
        (lower, upper), (least, most), case = bounds.unbind(-1), reach, data.get(CASE, "(not named)")
        middle = (lower + upper) / 2  # a margin around a place near the edge is no mistake
        outside = upper > most if f.minimum > -float("inf") else (middle < least) | (middle > most)
        wrong = (outside & upper.isfinite() & lower.isfinite()) | (lower.isfinite() & (lower > most))
        if bool((wrong | (upper.isfinite() & (upper < least))).any()) and case not in self._warned:
            self._warned.add(case)
            message = "ConstraintBoundsd: case %s: %s are %s, beyond the image, where %s is %s to %s"
            logger.warning(message, case, self.key, bounds.tolist(), type(f).__name__, least.tolist(), most.tolist())


def _classes(statistic: Statistic) -> list[int]:
    if statistic.classes is None:
        raise ValueError(
            f"bounds: give {type(statistic.ruled).__name__} its classes=[...]; a label does not tell how many there are"
        )
    return list(statistic.classes)


def _entry(sample: Mapping[Hashable, Any], key: str) -> Any:
    if key not in sample:
        raise KeyError(f"bounds: the sample has no {key!r}; it has {sorted(str(k) for k in sample)}")
    return sample[key]


def _measure(
    sample: Mapping[Hashable, Any], statistic: Statistic, key: str, image_key: str
) -> tuple[Tensor, Tensor, int]:
    """Values (K, M) and presence (K,) of the classes in a sample's label, and its number of voxels."""
    label = of_classes(_entry(sample, key))
    image = torch.as_tensor(_entry(sample, image_key))[None] if statistic.needs_image else None
    label = plain(label)
    if label.ndim not in (3, 4) or label.shape[0] != 1:
        raise ValueError(f"bounds: {key!r} must be (1, *S) integer classes, got {tuple(label.shape)}")
    _check_label(label, key, sample)
    classes = _classes(statistic)
    # Two at least: a single channel would be the structure, whatever its number.
    channels = torch.arange(max(*classes, 1) + 1, device=label.device).reshape(-1, *[1] * (label.ndim - 1))
    mask = (label == channels)[None].float()
    values, present = statistic(mask, image=image)[0], mask.flatten(2).any(-1)[0, classes]
    # A relation of classes is there where all of them are.
    return values, present if len(present) == len(values) else present.all().expand(len(values)), label[0].numel()


def _check_label(label: Tensor, key: str, sample: Mapping[Hashable, Any]) -> None:
    """Refuse what is no class: in a mask of 0 and 255 the structure would be absent. Beside classes 255 is unknown."""
    wrong = (label < 0) | (label > UNKNOWN)
    if label.is_floating_point():
        wrong |= label != label.round()
    if key == LABEL and not ((label > 0) & (label < UNKNOWN)).any():
        wrong |= label == UNKNOWN
    if wrong.any():
        found = label[wrong].unique().tolist()[:5]
        raise ValueError(
            f"bounds: {key!r} of case {sample.get(CASE, '(not named)')!r} holds {found}, expected classes 0, 1, ... or "
            f"{UNKNOWN} where nothing is annotated; map them before, with MapLabelValued, and resample labels with "
            "mode='nearest'"
        )


def _read(
    sample: Mapping[Hashable, Any], key: str, classes: int, parse: Callable[[Any], float | list[float]], what: str
) -> Tensor:
    """K lists of numbers (K, M) or of pairs (K, M, 2), as they come from a datalist."""
    if key not in sample:
        raise KeyError(f"ConstraintBoundsd: case {sample.get(CASE)!r} has no {key!r}; add it to the datalist")
    name = f"{key} of case {sample.get(CASE)!r}"
    try:
        found = torch.tensor([[parse(entry) for entry in row] for row in sample[key]], dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {sample[key]}; expected {classes} lists of {what}") from error
    if len(found) != classes:
        raise ValueError(f"{name}: expected K={classes}, got K={len(found)}; make them with these classes")
    return found


def _number(entry: float | None) -> float:
    return float("nan") if entry is None else float(entry)


def _interval(pair: Sequence[float | None]) -> list[float]:
    lower, upper = pair
    return [-float("inf") if lower is None else float(lower), float("inf") if upper is None else float(upper)]


def common_bounds(
    samples: Iterable[Mapping[Hashable, Any]],
    statistic: Statistic,
    *,
    patients: Sequence[str],
    patient_key: str = PATIENT,
    factors: tuple[float, float] = (0.9, 1.1),
    source: str = LABEL,
    image_key: str = IMAGE,
) -> Common:
    """Common bounds (thesis 2.6) from the samples of one or more fully annotated patients.

    Args:
        samples: the training samples, as the network sees them.
        statistic: f, with classes=[...].
        patients: whose samples count, by their entry `patient_key`.
        factors: on the smallest and the largest value.
        source, image_key: the label, and the image, as in `ConstraintBoundsd`.

    Raises:
        ValueError: where a patient has no sample, or a class never occurs in theirs.
    """
    if isinstance(patients, str) or not patients:
        raise ValueError(f"common_bounds: patients={patients!r}; give a list of one patient or more")
    chosen = [sample for sample in samples if sample.get(patient_key) in set(patients)]
    missing = sorted(set(patients) - {sample[patient_key] for sample in chosen})
    if missing:
        raise ValueError(f"common_bounds: no sample has {patient_key} in {missing}; choose among the training patients")
    f = statistic.ruled
    measured = [_measure(sample, f, source, image_key) for sample in chosen]
    values, present = torch.stack([m[0] for m in measured]), torch.stack([m[1] for m in measured])
    return Common.from_values(values, present, factors=factors, minimum=f.minimum)
