"""Annotations that exist already, full ones or scribbles, in the form of weak labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monai_constraints.keys import LABEL, SCRIBBLE, UNKNOWN, WEAK
from monai_constraints.transforms.annotation.to_weak import Sample, ToWeakd, listed

__all__ = ["FullLabeld", "ScribbleLabeld"]


class FullLabeld(ToWeakd):
    """Every voxel annotated: the weak label is the label, for the fully annotated images of a weak run.

    Args:
        key: full label (1, *S), integer classes.
        output: key to write, (1, *S) uint8 tensor with the metadata of `key`.
        unknown: value that means "not annotated"; the label must not hold it.

    Raises:
        KeyError: the sample has no `key`.
        ValueError: the label has several channels, fractions, values outside 0 to 255 or equal to `unknown`.
    """

    def __init__(self, *, key: str = LABEL, output: str = WEAK, unknown: int = UNKNOWN) -> None:
        super().__init__(key=key, output=output, unknown=unknown)

    def annotate(self, values: np.ndarray, sample: Sample) -> np.ndarray:
        self.check_classes(values, sample)
        return values


class ScribbleLabeld(ToWeakd):
    """A map of scribbles: classes where there is a scribble, one or more other values where there is none.

    Args:
        classes: number of classes, background included; every annotated value is below it.
        key: map of scribbles (1, *S), integers.
        output: key to write, (1, *S) uint8 tensor with the metadata of `key`.
        unknown_values: values of the map that mean "not annotated" (ACDC scribbles: 4).
        unknown: value that they get.

    Raises:
        KeyError: the sample has no `key`.
        ValueError: the map has several channels, fractions, or values that are neither classes nor in
            `unknown_values`.

    Source: Valvano, Leo and Tsaftaris, IEEE TMI 2021, for the scribbles of ACDC.
    """

    def __init__(
        self,
        *,
        classes: int,
        key: str = SCRIBBLE,
        output: str = WEAK,
        unknown_values: Sequence[int] = (4,),
        unknown: int = UNKNOWN,
    ) -> None:
        super().__init__(key=key, output=output, unknown=unknown)
        if not 1 <= classes <= unknown:
            raise ValueError(f"ScribbleLabeld: classes={classes}, expected their number, 1 to {unknown}.")
        self.classes = classes
        self.unknown_values = tuple(unknown_values)

    def annotate(self, values: np.ndarray, sample: Sample) -> np.ndarray:
        not_annotated = np.isin(values, self.unknown_values)
        wrong = ~not_annotated & ((values < 0) | (values >= self.classes))
        if wrong.any():
            raise ValueError(
                f"{self.where(sample)} holds {listed(values[wrong])}, expected 0 to {self.classes - 1} or "
                f"unknown_values={list(self.unknown_values)}; correct classes={self.classes}, or add the "
                "values to unknown_values."
            )
        return np.where(not_annotated, self.unknown, values)
