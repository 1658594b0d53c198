"""What every loss on probabilities shares: the activation, float32 outside autocast, the classes, the reduction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..constraints.network_output import refuse_several_outputs, select_classes
from ..keys import LABEL
from .activation import Activation

__all__ = ["PROBABILITY_FLOOR", "LossOnProbabilities", "Reduction"]

Reduction = Literal["mean", "sum", "none", "voxel", "sample", "batchmean"]

# The published code adds 1e-10, under which a confident mistake has no gradient; this is still a normal float32.
PROBABILITY_FLOOR = 1e-30


class LossOnProbabilities(nn.Module):
    """A loss that is its formula: a subclass writes `forward(input, target)` within `self.probabilities(input)`.

    Args:
        classes: the classes that count; what that means is the subclass's to say. All channels by default. A single
            channel, of a sigmoid, is class 1, and class 0 is 1 - it.
        softmax, sigmoid, temperature: what turns the input into probabilities; nothing by default.
        reduction: one of the subclass's `reductions`.

    Raises:
        ValueError: for an empty list of classes, one that holds a class twice or a negative one, or an unknown
            reduction; when called, for the outputs of deep supervision (`check_output`).
        TypeError: when called, for an input that is no tensor.
    """

    needs: tuple[str, ...] = ()
    """What `forward` takes besides input and target, by name: group, image, index, boxes, distance, weight."""

    target_key: str | None = LABEL
    """The target's key in the batch; None: the bounds of the constraint that has the term's name."""

    local: bool = False
    """A mean over voxels, so that the patches of an image count by their share of it; otherwise it needs `sums`."""

    reductions: ClassVar[tuple[str, ...]] = ("mean", "sum", "none")

    def __init__(
        self,
        *,
        classes: Sequence[int] | None = None,
        softmax: bool = False,
        sigmoid: bool = False,
        temperature: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        if reduction not in self.reductions:
            raise ValueError(f"{self.name}: reduction={reduction!r}; choose {', '.join(self.reductions)}")
        if classes is not None and (len(classes) == 0 or len(set(classes)) != len(classes) or min(classes) < 0):
            raise ValueError(f"{self.name}: classes={list(classes)} must be distinct channels >= 0, one or more")
        self.classes = None if classes is None else list(classes)
        self.activation = Activation(self.name, softmax=softmax, sigmoid=sigmoid, temperature=temperature)
        self.reduction = reduction
        self.register_forward_pre_hook(refuse_several_outputs, with_kwargs=True)

    @property
    def name(self) -> str:
        return type(self).__name__

    @contextmanager
    def probabilities(self, input: Tensor) -> Iterator[Tensor]:
        """Probabilities (B, C, *S) float32 of the input, autocast off within the block."""
        with torch.autocast(input.device.type, enabled=False):
            yield self.activation(input)

    def select(self, p: Tensor) -> Tensor:
        """The channels of the chosen classes, as everywhere (`select_classes`)."""
        return select_classes(p, self.classes, owner=self.name)

    def reduce(self, loss: Tensor) -> Tensor:
        """Mean, sum, or the elements themselves."""
        if self.reduction == "none":
            return loss
        return loss.mean() if self.reduction == "mean" else loss.sum()
