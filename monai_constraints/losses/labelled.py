"""What the losses on weak labels share: an integer map in which one value means that nothing is known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..arrays import of_classes
from ..constraints.network_output import select_classes, with_background
from ..constraints.plain import plain
from ..keys import UNKNOWN, WEAK
from .base import LossOnProbabilities, Reduction

__all__ = ["LossOnLabelled", "check_values"]


class LossOnLabelled(LossOnProbabilities):
    """A loss on the labelled voxels Omega_L of a map (B, 1, *S) of integer classes.

    Args:
        unknown: the value of voxels without annotation.
        classes, softmax, sigmoid, temperature, reduction: as in `LossOnProbabilities`; one sigmoid channel is the
            foreground, class 1.
    """

    target_key = WEAK

    def __init__(
        self,
        *,
        classes: Sequence[int] | None = None,
        unknown: int = UNKNOWN,
        softmax: bool = False,
        sigmoid: bool = False,
        temperature: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(
            classes=classes, softmax=softmax, sigmoid=sigmoid, temperature=temperature, reduction=reduction
        )
        if classes is not None and unknown in classes:
            raise ValueError(f"{self.name}: classes={list(classes)} must be a list without unknown={unknown}")
        self.unknown = unknown

    def labels(self, target: Tensor, input: Tensor) -> Tensor:
        """The target as a plain tensor.

        Raises:
            ValueError: where it does not fit the input (B, C, *S), is not integer, or holds a value that is neither a
                class nor `unknown` (on a CPU: a GPU would have to wait for the answer).
        """
        target = of_classes(plain(target))
        expected = (input.shape[0], 1, *input.shape[2:])
        if target.shape != expected:
            raise ValueError(
                f"{self.name}: target {tuple(target.shape)} does not fit input {tuple(input.shape)}; expected "
                f"(B, 1, *S) = {expected}, classes as integers and {self.unknown} = unknown"
            )
        if target.is_floating_point():
            raise ValueError(f"{self.name}: target must be integer classes, got floats; cast the weak label")
        check_values(target, max(input.shape[1], 2), self.unknown, self.name)
        return target

    def channels(self, p: Tensor, *, first: int = 0) -> tuple[Tensor, list[int]]:
        """The probabilities of the chosen classes, all from `first` on by default, and these classes."""
        p = with_background(p)
        chosen = list(range(first, p.shape[1])) if self.classes is None else self.classes
        return select_classes(p, chosen, owner=self.name), chosen


def check_values(labels: Tensor, classes: int, unknown: int, name: str) -> None:
    """Refuse labels that are neither 0 .. classes - 1 nor unknown; not on a GPU, which would wait, nor compiled.

    Raises:
        ValueError: with the values, and how to map them.
    """
    if labels.device.type != "cpu" or torch.compiler.is_compiling():
        return
    least, most = labels.masked_fill(labels == unknown, 0).aminmax()
    if not 0 <= least <= most < classes:
        wrong = labels[((labels < 0) | (labels >= classes)) & (labels != unknown)]
        raise ValueError(
            f"{name}: the target holds {wrong.unique().tolist()[:8]}; expected classes 0 to {classes - 1}, or "
            f"{unknown} = unknown; map them before, with MapLabelValued, or pass unknown=..."
        )
