"""The same network on every rank."""

from __future__ import annotations

import torch.distributed
from ignite.engine import Engine, Events
from torch import nn

__all__ = ["BroadcastBuffers"]


class BroadcastBuffers:
    """Give every rank rank 0's buffers, the running means of batch normalisation, when a validation starts.

    DistributedDataParallel does so before each forward, of the validation too, which hangs where ranks have different
    numbers of batches. So validate with the network inside; after this it is on every rank the one that is saved.

    Args:
        network: the network, or its parallel wrapper.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Follow `engine`, the evaluator."""
        if not engine.has_event_handler(self, Events.STARTED):
            engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, 0)
