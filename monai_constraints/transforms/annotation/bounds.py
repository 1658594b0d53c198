"""Bounds as a dictionary transform, and common bounds from chosen patients."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Transform
from torch import Tensor

from ...constraints import BoundsRule, Common, Statistic, check_bounds

__all__ = ["ConstraintBoundsd", "GivenBoundsd", "common_bounds"]


def _measure(
    sample: Mapping[Hashable, Any], statistic: Statistic, key: str, image_key: str
) -> tuple[Tensor, Tensor, int]:
    """Values (K, M) and presence (K,) of the classes in a sample's label, and its number of voxels."""
    for needed in [key, *([image_key] if statistic.needs_image else [])]:
        if needed not in sample:
            raise KeyError(f"bounds: the sample has no {needed!r}; it has {sorted(str(k) for k in sample)}")
    if statistic.classes is None:
        raise ValueError(
            f"bounds: give {type(statistic).__name__} its classes=[...]; a label does not tell how many there are"
        )
    label = torch.as_tensor(sample[key])
    label = label.as_subclass(Tensor) if type(label) is not Tensor else label
    if label.ndim not in (3, 4) or label.shape[0] != 1:
        raise ValueError(f"bounds: {key!r} must be (1, *S) integer classes, got {tuple(label.shape)}")
    channels = torch.arange(max(statistic.classes) + 1).reshape(-1, *[1] * (label.ndim - 1))
    mask = (label == channels)[None].float()
    image = None
    if statistic.needs_image:
        image = torch.as_tensor(sample[image_key])[None]
    present = mask.flatten(2).any(-1)[0, list(statistic.classes)]
    return statistic(mask, image=image)[0], present, label[0].numel()


class ConstraintBoundsd(Transform):
    """Bounds of a statistic, from the sample's label: `<name>_bounds`, (K, M, 2) float32.

    Put it where the label has the shape that the network sees: after resizing and cropping, before the volume is
    cut in slices for a constraint on the volume, after it for one on the slice. Flips keep sizes, not centroids.

    Args:
        statistic: f, with classes=[...]; the same object as in the loss.
        rule: Tag, Common, Individual, or Unbounded.
        name: the entry is `<name>_bounds`.
        key: the label, (1, *S) integer.
        image_key: the image, for statistics of intensities.

    Raises:
        KeyError: where the sample has no label.
        ValueError: for a label that is not (1, *S), or bounds with a > b.
    """

    def __init__(
        self, statistic: Statistic, rule: BoundsRule, name: str, *, key: str = "label", image_key: str = "image"
    ) -> None:
        self.statistic, self.rule, self.name, self.key, self.image_key = statistic, rule, name, key, image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        values, present, voxels = _measure(data, self.statistic, self.key, self.image_key)
        bounds = self.rule(
            values, present, voxels=voxels, absent=self.statistic.absent, minimum=self.statistic.minimum
        )
        return {**data, f"{self.name}_bounds": bounds}


class GivenBoundsd(Transform):
    """Bounds that somebody measured, from the datalist: `<name>_bounds`, K lists of M pairs [a, b], as a tensor.

    In the units of the image that the network sees; null is "not known", an infinite bound.

    Args:
        name: the entry is `<name>_bounds`.
        classes: K.

    Raises:
        KeyError: where the sample has no such entry.
        ValueError: for another shape than (K, M, 2), NaN, or a > b.
    """

    def __init__(self, name: str, *, classes: int) -> None:
        self.key, self.classes = f"{name}_bounds", classes

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if self.key not in data:
            raise KeyError(f"GivenBoundsd: case {data.get('case')!r} has no {self.key!r}; add it to the datalist")
        name = f"{self.key} of case {data.get('case')!r}"
        try:
            bounds = torch.tensor([[_open(pair) for pair in values] for values in data[self.key]])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: {data[self.key]}; expected {self.classes} lists of pairs [a, b]") from error
        check_bounds(bounds, classes=self.classes, name=name)
        return {**data, self.key: bounds}


def _open(pair: Sequence[float | None]) -> list[float]:
    lower, upper = pair
    return [-float("inf") if lower is None else float(lower), float("inf") if upper is None else float(upper)]


def common_bounds(
    samples: Iterable[Mapping[Hashable, Any]],
    statistic: Statistic,
    *,
    patients: Sequence[str],
    patient_key: str = "patient",
    factors: tuple[float, float] = (0.9, 1.1),
    key: str = "label",
    image_key: str = "image",
) -> Common:
    """Common bounds (thesis 2.6) from the samples of one or more fully annotated patients.

    Args:
        samples: the training samples, as the network sees them.
        statistic: f, with classes=[...].
        patients: whose samples count, by their entry `patient_key`.
        factors: on the smallest and the largest value.

    Raises:
        ValueError: where a patient has no sample, or a class never occurs in theirs.
    """
    if isinstance(patients, str) or not patients:
        raise ValueError(f"common_bounds: patients={patients!r}; give a list of one patient or more")
    chosen = [sample for sample in samples if sample.get(patient_key) in set(patients)]
    missing = sorted(set(patients) - {sample[patient_key] for sample in chosen})
    if missing:
        raise ValueError(f"common_bounds: no sample has {patient_key} in {missing}; choose among the training patients")
    measured = [_measure(sample, statistic, key, image_key) for sample in chosen]
    values, present = torch.stack([m[0] for m in measured]), torch.stack([m[1] for m in measured])
    return Common.from_values(values, present, factors=factors, minimum=statistic.minimum)
