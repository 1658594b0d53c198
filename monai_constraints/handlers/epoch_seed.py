"""Random numbers that are a function of the epoch."""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from ignite.utils import manual_seed
from monai.data.utils import set_rnd
from torch.utils.data import DataLoader

__all__ = ["EpochSeed"]


class EpochSeed:
    """Seed every random generator from (seed, epoch, rank) when an epoch starts.

    A resumed training then draws what an uninterrupted one draws, and no random state needs saving: Python's,
    NumPy's and PyTorch's generators (all devices), the epoch of samplers that have ``set_epoch``, and the
    random transforms of the data set. With workers those follow by themselves: MONAI's ``worker_init_fn``
    seeds them from PyTorch's generator whenever a data loader starts its workers.

    Args:
        seed: 0 or more.
        data_loader: the trainer's loader, for its samplers and random transforms.

    Raises:
        ValueError: ``seed`` is negative, or ``data_loader`` has persistent workers, which nothing reseeds.
    """

    def __init__(self, seed: int, *, data_loader: DataLoader | None = None) -> None:
        if seed < 0:
            raise ValueError(f"EpochSeed: seed must be 0 or more, got {seed}.")
        if data_loader is not None and getattr(data_loader, "persistent_workers", False):
            raise ValueError(
                "EpochSeed: persistent workers keep random states that a resumed training can't have; "
                "make the data loader with persistent_workers=False."
            )
        self.seed = seed
        self.data_loader = data_loader

    def attach(self, engine: Engine) -> None:
        """Follow the epochs of ``engine``, the trainer; attach before handlers that draw random numbers."""
        if not engine.has_event_handler(self, Events.EPOCH_STARTED):
            engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        # SeedSequence mixes: neither seed + epoch nor epoch + rank may meet another run's numbers.
        seed = int(np.random.SeedSequence([self.seed, epoch, idist.get_rank()]).generate_state(1)[0])
        manual_seed(seed)
        if self.data_loader is None:
            return
        loader: Any = self.data_loader
        batches = getattr(loader, "batch_sampler", None)
        samplers: list[Any] = [getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None)]
        for sampler in samplers:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
        if getattr(loader, "generator", None) is not None:
            loader.generator.manual_seed(seed)
        if getattr(loader, "num_workers", 0) == 0:
            set_rnd(loader.dataset, seed)
        if self._spans_epochs(engine, loader):
            engine.set_data(loader)

    @staticmethod
    def _spans_epochs(engine: Engine, loader: Any) -> bool:
        """Whether ignite would carry one iterator from epoch to epoch, which resuming could not continue."""
        length = engine.state.epoch_length
        return length is not None and (not hasattr(loader.dataset, "__len__") or length != len(loader))
