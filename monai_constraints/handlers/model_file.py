"""The trained weights as a file that is there only when a training came to its end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from monai_constraints.files import replacing

__all__ = ["ModelFile"]


class ModelFile:
    """Write the network's `state_dict` when the training completes, on rank 0, whole or not at all.

    MONAI's CheckpointSaver also saves when a run fails, so that a start that is refused replaces trained weights by
    untrained ones.

    Args:
        path: the file, such as `models/model.pt`.
        network: of the trainer; of a parallel wrapper the network inside.
    """

    def __init__(self, path: str | os.PathLike[str], network: nn.Module) -> None:
        self.path, self.network = Path(path), network

    def attach(self, engine: Engine) -> None:
        """Follow `engine`, the trainer."""
        if not engine.has_event_handler(self, Events.COMPLETED):
            engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if idist.get_rank() == 0:
            network: Any = self.network
            if isinstance(network, (DataParallel, DistributedDataParallel)):
                network = network.module
            with replacing(self.path) as temporary:
                torch.save(network.state_dict(), temporary)
