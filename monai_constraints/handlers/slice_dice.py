"""Mean Dice over slices, from class maps or one-hot, batched or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from monai.utils import CommonKeys
from torch import Tensor

__all__ = ["SliceDice"]


class SliceDice(Metric):
    """Mean over slices of the mean over foreground classes of Dice 2 |P and G| / (|P| + |G|).

    The number of MONAI's `DiceMetric(include_background=False, ignore_empty=...)`, without making one-hot volumes. A
    class that a slice lacks counts 1 if nothing is predicted and else 0, or not at all. Volumes count slice by slice.

    Args:
        classes: number of foreground classes.
        ignore_empty: leave out the classes that a slice lacks, and slices without any.
        axis: spatial axis that volumes are cut along.

    The engine's output is a list of samples, or a dict of a batch, with `pred` and `label` as classes (1, *S) or
    one-hot (K, *S).
    """

    def __init__(self, classes: int = 1, *, ignore_empty: bool = False, axis: int = -1) -> None:
        self.classes, self.ignore_empty, self.axis = classes, ignore_empty, axis
        super().__init__()

    def reset(self) -> None:
        self._sum = torch.zeros(2, dtype=torch.float64)

    def iteration_completed(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for one in output if isinstance(output, list) else [output]:
            maps = [_classes(one[key], batched=isinstance(output, dict)) for key in (CommonKeys.PRED, CommonKeys.LABEL)]
            self.update(maps)

    def update(self, output: Sequence[Tensor]) -> None:
        """Add class maps (B, *S) of predictions and labels."""
        prediction, label = (self._slices(maps) for maps in output)
        scores = []
        for k in range(1, self.classes + 1):
            p, g = (prediction == k).flatten(1), (label == k).flatten(1)
            p_size, g_size = p.sum(1), g.sum(1)
            dice = 2 * (p & g).sum(1) / (p_size + g_size)
            alone = torch.nan if self.ignore_empty else (p_size == 0).to(dice)
            scores.append(torch.where(g_size == 0, alone, dice))
        means = torch.stack(scores, 1).nanmean(1)
        there = ~means.isnan()
        self._sum += torch.stack([means[there].double().sum().cpu(), there.double().sum().cpu()])

    def compute(self) -> float:
        """The mean; NaN where nothing was counted."""
        total, count = torch.as_tensor(idist.all_reduce(self._sum.clone())).tolist()
        return total / count if count else float("nan")

    def _slices(self, maps: Tensor) -> Tensor:
        if maps.ndim < 4:
            return maps
        axis = self.axis if self.axis < 0 else self.axis + 1
        return maps.movedim(axis, 1).flatten(0, 1)


def _classes(x: Any, *, batched: bool) -> Tensor:
    """(B, *S) classes."""
    x = torch.as_tensor(x).as_subclass(Tensor)
    x = x if batched else x[None]
    return x.argmax(1) if x.shape[1] > 1 else x[:, 0]
