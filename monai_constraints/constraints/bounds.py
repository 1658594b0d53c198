"""Bounds a <= f(s) <= b: one tensor (K, M, 2) a sample, +-inf where nothing is known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["BoundsRule", "Common", "Individual", "Tag", "Unbounded", "active", "check_bounds", "residuals", "sides"]


def active(bounds: Tensor) -> Tensor:
    """Which sides of bounds (..., M, 2) constrain anything: the finite ones."""
    return bounds.abs() < float("inf")  # half the operations of isfinite; NaN is inactive here too


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # what a validation caches, a training must be able to differentiate with
def _signs(device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.tensor([-1.0, 1.0], device=device), torch.tensor([1.0, -1.0], device=device)


def sides(values: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor]:
    """The residuals z, and the sign with which f is in each: -1, 1, or 0 on an inactive side; both (N, K, M, 2).

    See `residuals`. A constraint costs as many tiny operations as it has; all that bounds alone decide is therefore
    made without gradient, and the two sides are one operation in the graph.
    """
    if bounds.shape != (*values.shape, 2):
        raise ValueError(
            f"bounds {tuple(bounds.shape)} do not fit the statistic's values {tuple(values.shape)}: expected "
            f"(N, K, M, 2) = {(*values.shape, 2)}; make the bounds with the same statistic and classes=[...]"
        )
    of_value, of_bound = _signs(values.device)
    given = bounds.to(values.device, torch.float32) * of_bound
    offset = given.nan_to_num(-1.0, posinf=-1.0, neginf=-1.0)
    sign = (offset == given) * of_value
    return torch.addcmul(offset, sign, values.unsqueeze(-1)), sign


def residuals(values: Tensor, bounds: Tensor) -> Tensor:
    """z = (a - f, f - b): satisfied where z <= 0, inactive sides are -1 with zero gradient.

    Args:
        values: f(s), (N, K, M).
        bounds: (N, K, M, 2).

    Returns:
        (N, K, M, 2) float32.

    Raises:
        ValueError: where the shapes differ.
    """
    return sides(values, bounds)[0]


def check_bounds(bounds: Tensor, *, classes: int | None, name: str) -> None:
    """Bounds a <= f(s) <= b (thesis 3.1) as (K, M, 2): shape, no NaN, a <= b; +-inf is inactive.

    Args:
        bounds: the tensor, last axis [a, b].
        classes: the expected K; None: any.
        name: how the message calls it, e.g. the key in the sample.

    Raises:
        ValueError: says which entry and what to do.
    """
    shape = tuple(bounds.shape)
    if len(shape) != 3 or shape[2] != 2:
        raise ValueError(f"{name}: expected shape (K, M, 2), got {shape}; stack a and b last")
    if classes is not None and shape[0] != classes:
        raise ValueError(f"{name}: expected K={classes}, got K={shape[0]}; make them with these classes")
    lower, upper = bounds.unbind(-1)
    for wrong, what, remedy in (
        (torch.isnan(bounds).any(-1), "is NaN", "use -inf or inf where there is no bound"),
        (lower > upper, "has a > b", "swap them, or correct the margin they were made with"),
    ):
        if wrong.any():
            k, m = wrong.nonzero()[0].tolist()
            entry = bounds[k, m].tolist()
            raise ValueError(f"{name}: class {k}, value {m}: [a, b] = {entry} {what}; {remedy}")


class BoundsRule(ABC):
    """Turns the statistic of an annotated sample, or only its presence, into bounds."""

    @abstractmethod
    def present(self, values: Tensor, voxels: int) -> Tensor:
        """Bounds (K, M, 2) for classes that are there, from values (K, M) in an image of so many voxels."""

    def __call__(
        self,
        values: Tensor,
        present: Tensor,
        *,
        voxels: int,
        absent: tuple[float, float] = (-float("inf"), float("inf")),
        minimum: float = -float("inf"),
    ) -> Tensor:
        """Bounds (K, M, 2) float32 of one sample.

        Args:
            values: (K, M) statistic of the sample.
            present: (K,) bool, whether the class is in the sample.
            voxels: |Omega|.
            absent: the bounds of an absent class: [0, 0] for a size, else infinite (`Statistic.absent`).
            minimum: the statistic's smallest possible value; finite lower bounds are clamped to it.

        Raises:
            ValueError: where a > b.
        """
        bounds = self.present(values.float(), voxels).clone()
        lower = bounds[..., 0]
        bounds[..., 0] = torch.where(torch.isfinite(lower), lower.clamp_min(minimum), lower)
        check_bounds(bounds, classes=len(values), name=type(self).__name__)
        there = present[:, None, None].to(bounds.device, torch.bool)
        return torch.where(there, bounds, bounds.new_tensor(absent))


class Unbounded(BoundsRule):
    """Nothing is known: infinite bounds, for absent classes too. A fully annotated sample in a weak run."""

    def present(self, values: Tensor, voxels: int) -> Tensor:
        return torch.tensor([-float("inf"), float("inf")], device=values.device).expand(*values.shape, 2)

    def __call__(
        self,
        values: Tensor,
        present: Tensor,
        *,
        voxels: int,
        absent: tuple[float, float] = (-float("inf"), float("inf")),
        minimum: float = -float("inf"),
    ) -> Tensor:
        return self.present(values, voxels).clone()


class Tag(BoundsRule):
    """Image tag (thesis 2.5): [1, |Omega|] where the class is present, [0, 0] where it is not. For sizes."""

    def present(self, values: Tensor, voxels: int) -> Tensor:
        return torch.tensor([1.0, float(voxels)], device=values.device).expand(*values.shape, 2)


class Common(BoundsRule):
    """The same bounds for every sample that has the class (thesis 2.6).

    Args:
        lower: a, one number, or one for each class and value, (K, M).
        upper: b, likewise.

    Raises:
        ValueError: where a > b.
    """

    def __init__(self, lower: float | Sequence[Sequence[float]], upper: float | Sequence[Sequence[float]]) -> None:
        self.lower, self.upper = torch.as_tensor(lower).float(), torch.as_tensor(upper).float()
        if (self.lower > self.upper).any():
            raise ValueError(f"Common: lower={self.lower.tolist()} above upper={self.upper.tolist()}; swap them")

    def __repr__(self) -> str:
        return f"Common(lower={self.lower.tolist()}, upper={self.upper.tolist()})"

    def present(self, values: Tensor, voxels: int) -> Tensor:
        for side in (self.lower, self.upper):
            if side.ndim and side.shape != values.shape:
                raise ValueError(
                    f"Common: bounds of shape {tuple(side.shape)}, the statistic has (K, M) = {tuple(values.shape)}; "
                    "give one number, or K lists of M numbers"
                )
        both = (side.to(values.device).expand(values.shape) for side in (self.lower, self.upper))
        return torch.stack(list(both), dim=-1)

    @classmethod
    def from_values(
        cls,
        values: Tensor,
        present: Tensor,
        *,
        factors: tuple[float, float] = (0.9, 1.1),
        minimum: float = -float("inf"),
    ) -> Common:
        """[0.9 min, 1.1 max] of the statistic over the annotated samples that have the class (thesis 2.4.3).

        Args:
            values: (N, K, M) over the samples of one or more annotated patients.
            present: (N, K) bool.
            factors: on the smallest and the largest value. A factor below 1 widens a positive minimum only, so the
                margin is taken on the magnitude: a = min - (1 - 0.9) |min|.

        Raises:
            ValueError: where a class never occurs in these samples.
        """
        never = (~present.bool().any(0)).nonzero().flatten().tolist()
        if never:
            raise ValueError(
                f"Common: of the K={present.shape[1]} classes, numbers {never} never occur in {len(values)} samples;"
                " choose patients that have every class, or leave the class out of classes=[...]"
            )
        inside = present.bool()[..., None]
        least = values.masked_fill(~inside, float("inf")).amin(0)
        most = values.masked_fill(~inside, -float("inf")).amax(0)
        lower = (least - (1 - factors[0]) * least.abs()).clamp_min(minimum)
        return cls(lower.tolist(), (most + (factors[1] - 1) * most.abs()).tolist())


class Individual(BoundsRule):
    """Bounds around the sample's own value (thesis 2.7): f -+ (relative |f| + absolute).

    Args:
        relative: 0.1 is the thesis's [0.9, 1.1] of the size.
        absolute: in the statistic's units; 20 voxels is the thesis's margin for centroids.

    Raises:
        ValueError: for negative margins.
    """

    def __init__(self, *, relative: float = 0.0, absolute: float = 0.0) -> None:
        if relative < 0 or absolute < 0:
            raise ValueError(f"Individual: margins must be >= 0, got relative={relative}, absolute={absolute}")
        self.relative, self.absolute = relative, absolute

    def present(self, values: Tensor, voxels: int) -> Tensor:
        margin = self.relative * values.abs() + self.absolute
        return torch.stack([values - margin, values + margin], dim=-1)
