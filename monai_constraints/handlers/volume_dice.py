"""The 3D Dice of every validation, from its slices."""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys
from torch import Tensor

from monai_constraints.constraints.plain import plain
from monai_constraints.keys import CASE, SLICE

__all__ = ["VolumeDice"]


class VolumeDice:
    """Put the mean over cases and foreground classes of 2 |P and G| / (|P| + |G|) of whole volumes among the metrics.

    Its name is `dice_3d`, so that metrics.csv has `val_dice_3d` of each validation: `VolumeMetrics`, which keeps the
    masks for distances and pictures, measures the last one alone. Where P and G are empty it is 1. The slices of a case
    may come in any order, twice, or from any rank.

    The evaluator must decollate. Its output has `pred` and `label` as one-hot (C, *S); its batch has `case`, and
    `slice` for all but whole volumes.
    """

    def attach(self, engine: Engine) -> None:
        """Follow `engine`, the evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._compute)

    def _reset(self) -> None:
        self._counts: dict[tuple[str, int], np.ndarray] = {}  # (2, K) of each slice: |P and G|, |P| + |G|

    def _update(self, engine: Engine) -> None:
        output: Any = engine.state.output
        batch: Any = engine.state.batch
        both = [torch.stack([_foreground(one[key]) for one in output]) for key in (CommonKeys.PRED, CommonKeys.LABEL)]
        p, g = both
        counts = torch.stack([(p & g).sum(-1), p.sum(-1) + g.sum(-1)], 1).cpu().numpy()
        for item, own in zip(batch, counts):
            self._counts[str(item[CASE]), int(item.get(SLICE, 0))] = own

    def _compute(self, engine: Engine) -> None:
        gathered: Any = idist.all_gather(self._counts) if idist.get_world_size() > 1 else [self._counts]
        counts = {name: own for one in gathered for name, own in one.items()}
        volumes: dict[str, np.ndarray] = {}
        for (case, _), own in counts.items():
            volumes[case] = volumes.get(case, 0) + own
        if volumes:
            shared, total = np.stack(list(volumes.values()), 1)
            dice = np.where(total > 0, 2 * shared / np.maximum(total, 1), 1.0)
            engine.state.metrics["dice_3d"] = float(dice.mean())


def _foreground(maps: Any) -> Tensor:
    """(K, voxels) bool of one-hot (C, *S)."""
    return plain(maps)[1:].flatten(1) > 0.5
