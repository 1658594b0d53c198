"""Bounds around predictions: fixed margins as published, and margins of a stated coverage from held-out residuals."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = ["ConformalMargin", "Margin", "RelativeMargin", "conformal_quantile", "highest_level"]


def highest_level(count: int) -> float:
    """n / (n + 1), the largest coverage that n held-out scores can promise."""
    return count / (count + 1)


def conformal_quantile(scores: Tensor, level: float) -> float:
    """The ceil((n + 1) level)-th smallest of n scores: a new one, exchangeable with them, is at most that large.

    It is so with a probability of `level` or more.

    Args:
        scores: (n,), without NaN.
        level: coverage, above 0 and below 1.

    Raises:
        ValueError: the level is not between 0 and 1, or n scores cannot promise it.

    Source: Vovk, Gammerman and Shafer 2005; Lei et al. 2018, JASA 113, split conformal prediction.
    """
    n = scores.numel()
    if not 0 < level < 1:
        raise ValueError(f"conformal_quantile: level={level}; give a share, above 0 and below 1")
    rank = math.ceil((n + 1) * level - 1e-9)  # 6 * 5/6 is 5, and not a little more
    if rank > n:
        raise ValueError(
            f"conformal_quantile: {n} scores can promise {highest_level(n):.3f} at most, level={level}; ask for less, "
            "or have more annotated"
        )
    return float(scores.flatten().sort().values[rank - 1])


class Margin(ABC):
    """Makes bounds [a, b] of predictions.

    Args:
        minimum: the statistic's smallest value (`Statistic.minimum`). A prediction below it is taken as the minimum.
    """

    def __init__(self, *, minimum: float = 0.0) -> None:
        self.minimum = minimum

    def fit(self, predicted: Tensor, true: Tensor, patients: Sequence[str]) -> None:  # noqa: B027
        """Learn from values (N, K, M) that were predicted for patients who were held out; NaN is "not known"."""

    def __call__(self, predicted: Tensor) -> Tensor:
        """Bounds (..., K, M, 2) of predictions (..., K, M), in the same units."""
        value = predicted.clamp_min(self.minimum)
        half = self.half_width(value)
        return torch.stack([(value - half).clamp_min(self.minimum), value + half], dim=-1)

    @abstractmethod
    def half_width(self, value: Tensor) -> Tensor:
        """(..., K, M), of predictions that are not below the minimum."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What is written beside the bounds: rule, level, unit of coverage, and what was learnt."""


class RelativeMargin(Margin):
    """[(1 - gamma) R, (1 + gamma) R] of a prediction R (thesis 5.3), which promises no coverage.

    As published a prediction of 0 or less gives [0, 0], "the organ is absent", and one of 30 pixels in a slice
    without it [27, 33], which asks for an organ that is not there.

    Args:
        gamma: .1 in the thesis.
        minimum: as in `Margin`.

    Raises:
        ValueError: for a negative gamma.
    """

    def __init__(self, *, gamma: float = 0.1, minimum: float = 0.0) -> None:
        super().__init__(minimum=minimum)
        if gamma < 0:
            raise ValueError(f"RelativeMargin: gamma={gamma}; give 0 or more")
        self.gamma = gamma

    def half_width(self, value: Tensor) -> Tensor:
        return self.gamma * value.abs()

    def describe(self) -> dict[str, Any]:
        return {"rule": "relative", "gamma": self.gamma, "level": None, "unit": None}


class ConformalMargin(Margin):
    r"""R -+ q sqrt(R + c), q a quantile of the held-out scores |f - R| / sqrt(R + c).

    Large organs are predicted less exactly than small ones, hence the root; c is the absolute part: where nothing is
    predicted the bounds are [0, q sqrt c], so that a small organ may be there. And where a = R - q sqrt(R + c) is below
    `smallest`, a few pixels, a is 0: the organ may be absent. So a tiny prediction never asks for an organ, and a
    negative one means what 0 means.

    What the level says depends on the unit:

    - "patient": all slices of a new patient are within their bounds with this probability. A score is the largest of a
      patient, so n patients can promise n / (n + 1) at most, 5 of them .83. Slices of a patient need not be
      exchangeable.
    - "slice": of new slices this share is within. The slices are pooled as if they were exchangeable, which those of a
      patient are not: the level holds on average over many sets of annotated patients, and a single set of 5 may miss
      it by 20 points.

    Residuals of patients who were left out of a cross-validation are not those of the network that predicts, which saw
    all of them; the level is exact for a split, and close to it here.

    Args:
        level: stated coverage.
        unit: "slice" or "patient".
        scaled: divide by sqrt(R + c); False for statistics that may be negative, such as a place: R -+ q.
        offset: c in the statistic's units, 100 mm2.
        smallest: in the statistic's units, 10 mm2.
        minimum: as in `Margin`; -inf for a place.

    Shapes: predicted and true (N, K, M). Each class and value has its own q.

    Raises:
        ValueError: for an impossible setting; from `fit`, shapes that differ, nothing known of a class, or more than
            the patients can promise; from a call, before `fit`.
    """

    def __init__(
        self,
        *,
        level: float = 0.9,
        unit: Literal["slice", "patient"] = "slice",
        scaled: bool = True,
        offset: float = 100.0,
        smallest: float = 10.0,
        minimum: float = 0.0,
    ) -> None:
        super().__init__(minimum=minimum)
        if unit not in ("slice", "patient") or not 0 < level < 1 or smallest < 0:
            raise ValueError(
                f"ConformalMargin: unit={unit!r}, level={level}, smallest={smallest}; expected 'slice' or 'patient', "
                "a level above 0 and below 1, and 0 or more"
            )
        if scaled and (minimum < 0 or offset <= 0):
            raise ValueError(
                f"ConformalMargin: minimum={minimum} and offset={offset}; a root needs values that are not negative "
                "and an offset above 0, or pass scaled=False"
            )
        self.level, self.unit, self.scaled, self.offset, self.smallest = level, unit, scaled, offset, smallest
        self.quantile: Tensor | None = None
        self.patients = self.scores = 0

    def scale(self, value: Tensor) -> Tensor:
        """What residuals are divided by, of predictions that are not below the minimum."""
        return (value + self.offset).sqrt() if self.scaled else torch.ones_like(value)

    def fit(self, predicted: Tensor, true: Tensor, patients: Sequence[str]) -> None:
        if predicted.ndim != 3 or predicted.shape != true.shape or len(patients) != len(true):
            raise ValueError(
                f"ConformalMargin: predicted {tuple(predicted.shape)}, true {tuple(true.shape)} and {len(patients)} "
                "patients; expected (N, K, M) twice, and N"
            )
        value = predicted.clamp_min(self.minimum)
        scores = (true - value).abs() / self.scale(value)
        names = list(dict.fromkeys(patients))
        owner = torch.tensor([names.index(name) for name in patients], dtype=torch.long)
        found = torch.empty(scores.shape[1:], dtype=scores.dtype)
        for k, m in ((k, m) for k in range(found.shape[0]) for m in range(found.shape[1])):
            known = ~scores[:, k, m].isnan()
            one, own = scores[known, k, m], owner[known]
            if self.unit == "patient":
                one = torch.stack([one[own == p].max() for p in own.unique()]) if len(one) else one
            found[k, m] = self._quantile(one)
            self.scores = len(one)
        self.quantile, self.patients = found, len(names)

    def half_width(self, value: Tensor) -> Tensor:
        if self.quantile is None:
            raise ValueError("ConformalMargin: nothing is learnt yet; call fit with held-out predictions first")
        return self.quantile.to(value) * self.scale(value)

    def __call__(self, predicted: Tensor) -> Tensor:
        bounds = super().__call__(predicted)
        if not self.scaled:
            return bounds
        lower = bounds[..., 0]
        lower = torch.where(lower < self.minimum + self.smallest, torch.full_like(lower, self.minimum), lower)
        return torch.stack([lower, bounds[..., 1]], dim=-1)

    def describe(self) -> dict[str, Any]:
        return {
            "rule": "conformal", "level": self.level, "unit": self.unit, "patients": self.patients,
            "highest_level": round(highest_level(self.scores), 4), "scaled": self.scaled, "offset": self.offset,
            "smallest": self.smallest, "quantile": None if self.quantile is None else self.quantile.tolist(),
        }  # fmt: skip

    def _quantile(self, scores: Tensor) -> float:
        if len(scores) == 0:
            raise ValueError("ConformalMargin: a class has no known value in any slice; annotate patients who have it")
        if self.level > highest_level(len(scores)) + 1e-9:
            raise ValueError(
                f"ConformalMargin: {len(scores)} {self.unit}s can promise a coverage of "
                f"{highest_level(len(scores)):.3f} at most, level={self.level}; ask for less, have more "
                "patients annotated, or take unit='slice'"
            )
        return conformal_quantile(scores, self.level)
