"""The dual half of a training with explicit multipliers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from monai_constraints.constraints import Multipliers, observing

__all__ = ["DUAL_SECONDS", "DualAscent"]

DUAL_SECONDS = "DUAL_ASCENT"
"""Where the seconds of the latest ascent stand in the trainer's ``state.times``."""


class DualAscent:
    """After each epoch on the network, one on the multipliers (thesis 3.4.2): max over lambda >= 0 of (3.2).

    By default a pass over the trainer's data loader without gradients, the network in evaluation mode, then one step
    of each `Multipliers` in the loss. With ``own_pass=False`` the step takes the residuals that the epoch's training
    steps have seen: no second pass, but each is as old as its step. Ranks pass over their own samples and agree
    afterwards. Nothing is saved here: the multipliers and what controllers remember are in the loss's state.

    Args:
        loss: a loss with `Multipliers` in it, such as the ``WeightedSum``.
        every: epochs on the network for one on the multipliers.
        own_pass: as above.
        progress: a progress bar for the pass, on rank 0.

    Raises:
        ValueError: where the loss has no multipliers, or ``every`` < 1.
        TypeError: at ``attach``, where the engine is no trainer of MONAI.
    """

    def __init__(self, loss: nn.Module, *, every: int = 1, own_pass: bool = True, progress: bool = False) -> None:
        self.multipliers = [module for module in loss.modules() if isinstance(module, Multipliers)]
        if not self.multipliers or every < 1:
            raise ValueError(
                f"DualAscent: found {len(self.multipliers)} multipliers in {type(loss).__name__}, every={every}; give "
                "a constraint a penalty with multipliers, such as StandardLagrangian, or leave this handler out"
            )
        self.loss, self.every, self.own_pass, self.progress = loss, every, own_pass, progress

    def attach(self, engine: Engine) -> None:
        """Follow ``engine``, a ``SupervisedTrainer``; it gives network, data, batch preparation and inferer."""
        if not hasattr(engine, "prepare_batch"):
            raise TypeError(f"DualAscent: expected a trainer of MONAI, got {type(engine).__name__}")
        if not engine.has_event_handler(self._ascend, Events.EPOCH_COMPLETED):
            engine.add_event_handler(Events.EPOCH_STARTED, self._watch)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._ascend)

    def _watch(self, trainer: Any) -> None:
        for each in self.multipliers:
            each.observing = not self.own_pass

    def _ascend(self, trainer: Any) -> None:
        if trainer.state.epoch % self.every:
            return
        start = time.perf_counter()
        if self.own_pass:
            self._pass(trainer)
        for each in self.multipliers:
            each.observing = False
            each.ascend()
        trainer.state.times[DUAL_SECONDS] = time.perf_counter() - start

    def _pass(self, trainer: Any) -> None:
        network = trainer.network
        # Ranks may see different numbers of batches here: the wrapper would wait for the others at each.
        bare = network.module if isinstance(network, (DataParallel, DistributedDataParallel)) else network
        device = torch.device(trainer.state.device)

        def observe(engine: Engine, batch: Mapping[str, Any]) -> None:
            with torch.no_grad(), torch.autocast(device.type, enabled=trainer.amp, **trainer.amp_kwargs):
                image, targets = trainer.prepare_batch(batch, device, trainer.non_blocking)[:2]
                self.loss(trainer.inferer(image, bare), targets)

        one_pass = Engine(observe)
        if self.progress and idist.get_rank() == 0:
            ProgressBar(desc="dual ascent").attach(one_pass)
        training = bare.training
        bare.eval()
        with observing(self.multipliers):
            one_pass.run(trainer.data_loader, epoch_length=trainer.state.epoch_length)
        bare.train(training)
