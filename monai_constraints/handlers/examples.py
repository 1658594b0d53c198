"""examples.png of a run: the worst and the best cases of its last validation."""

from __future__ import annotations

from bisect import insort
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys

from monai_constraints.keys import BOXES, CASE, SLICE, UNKNOWN, WEAK
from monai_constraints.metrics.volume import dice_of_masks
from monai_constraints.pictures.examples import class_map, flat, plot_examples, shown_channel

__all__ = ["Examples"]

_OWN = (WEAK, BOXES, CASE, SLICE)


class Examples:
    """Keep the worst and the best cases of a validation, and draw ``examples.png`` at the end, on rank 0.

    Dice is the mean over the foreground classes that are in the ground truth; samples without foreground are
    left out. The evaluator must decollate. Its output has image, and pred and label as one-hot (K, *S) or
    classes (1, *S); its batch may have weak, boxes, case and slice. With several ranks, the cases are rank 0's.

    Args:
        output_dir: the folder.
        evaluator: the engine that validates; None when ``attach`` is called with the evaluator itself.
        count: how many of the worst, and how many of the best.
        image_channel: the modality to show.

    Raises:
        ValueError: for count < 1; when validating, where the image has no such channel.
    """

    def __init__(
        self, output_dir: str | Path, *, evaluator: Engine | None = None, count: int = 3, image_channel: int = 0
    ) -> None:
        if count < 1:
            raise ValueError(f"Examples: count must be 1 or more, got {count}.")
        self.output_dir = Path(output_dir)
        self.evaluator = evaluator
        self.count, self.image_channel = count, image_channel
        self._kept: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Draw when ``engine``, the trainer (or an evaluator that runs alone), completes."""
        if engine.has_event_handler(self._draw, Events.COMPLETED):
            return
        collecting = engine if self.evaluator is None else self.evaluator
        collecting.add_event_handler(Events.STARTED, self._forget)
        collecting.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._draw)

    def _forget(self, engine: Engine) -> None:
        self._kept = []

    def _collect(self, engine: Engine) -> None:
        output, batch = engine.state.output, engine.state.batch
        if idist.get_rank() != 0:
            return
        if not isinstance(output, list):
            raise TypeError(
                f"Examples: expected a list of samples in the output, got {type(output).__name__}; "
                "make the evaluator with decollate=True."
            )
        for i, out in enumerate(output):
            given = batch[i] if isinstance(batch, list) else {k: batch[k][i] for k in _OWN if k in batch}
            label, predicted = (class_map(out[k]).cpu().numpy() for k in (CommonKeys.LABEL, CommonKeys.PRED))
            dice = _dice(predicted, label)
            if dice is None:
                continue
            full = len(self._kept) == 2 * self.count
            if full and self._kept[self.count - 1]["dice"] <= dice <= self._kept[self.count]["dice"]:
                continue
            tensors = {"image": shown_channel(out[CommonKeys.IMAGE], self.image_channel)[None]}
            if WEAK in given:
                tensors["weak"] = given[WEAK]
            sample = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
            if BOXES in given:
                sample["boxes"] = torch.as_tensor(given[BOXES]).cpu().numpy()
            case = f"{given.get(CASE, '')} slice {int(given[SLICE])}" if SLICE in given else given.get(CASE, "")
            row = flat({**sample, "label": label[None], "prediction": predicted[None], "dice": dice, "case": case})
            insort(self._kept, row, key=lambda kept: kept["dice"])
            if full:
                del self._kept[self.count]  # neither among the worst nor among the best any more

    def _draw(self, engine: Engine) -> None:
        if self._kept:
            plot_examples(self._kept, self.output_dir / "examples.png", title="Worst and best cases")


def _dice(prediction: np.ndarray, label: np.ndarray) -> float | None:
    """Mean Dice over the foreground classes in ``label``, None where there is none."""
    counts = np.bincount(label.ravel().astype(np.uint8))
    present = [int(k) for k in np.flatnonzero(counts) if k not in (0, UNKNOWN)]
    if not present:
        return None
    return float(np.mean([dice_of_masks(prediction == k, label == k) for k in present]))
