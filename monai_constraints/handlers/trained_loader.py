"""The weights of a run for its evaluation, when that starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ignite.engine import Engine, Events

from monai_constraints.data import check_model
from monai_constraints.networks import Ensemble, load_trained

__all__ = ["TrainedCheckpointLoader"]


class TrainedCheckpointLoader:
    """Load the weights that a training left into the network of an evaluator, or say why they are not its own.

    When the evaluator starts, and not when it is made: MonaiAlgo makes one before there are weights, brings them
    itself, and disables among the handlers of the validation what has CheckpointLoader in its name. MONAI's
    CheckpointLoader takes one file, and reports another network in PyTorch's words.

    Args:
        path: a `model.pt`, or the list of files of an ensemble (`networks.untrained`).

    Raises:
        FileNotFoundError, ValueError: when the evaluator starts; those of `check_model`.
    """

    def __init__(self, path: str | os.PathLike[str] | Sequence[str]) -> None:
        self.path = path

    def attach(self, engine: Engine) -> None:
        """Follow `engine`, an evaluator with a `network`."""
        if not engine.has_event_handler(self, Events.STARTED):
            engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Any) -> None:
        network = engine.network
        check_model(self.path, network.networks[0] if isinstance(network, Ensemble) else network)
        load_trained(network, self.path)
