"""Trains a network that predicts values of slices, and predicts with it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from ignite.utils import manual_seed
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, RandomSampler, Subset

from monai_constraints.constraints import active
from monai_constraints.constraints.plain import plain
from monai_constraints.data import CachedSlices
from monai_constraints.engines.prepare_targets import PrepareTargets
from monai_constraints.handlers import EpochSeed, FiniteLoss
from monai_constraints.keys import IMAGE
from monai_constraints.losses import ValueLoss, WeightedSum
from monai_constraints.networks import SegmentedRegion, Standardised

__all__ = ["ValueTrainer", "predict_values", "values_of"]


def values_of(bounds: Tensor) -> Tensor:
    """Targets (N, K, M) of bounds [v, v], (N, K, M, 2); NaN where they are infinite."""
    return torch.where(active(bounds).all(-1), bounds.mean(-1), float("nan"))


@torch.no_grad()
def predict_values(network: nn.Module, image: Tensor, *, views: bool) -> Tensor:
    """Predictions (N, K, M) of images (N, C, H, W), in evaluation mode, 64 at once.

    Args:
        network: a regressor.
        image: on the network's device.
        views: the mean over four quarter turns and their mirror images (of two half turns and theirs, where images are
            not square), for statistics that do not change with them.
    """
    network.eval()
    turns = range(0, 4, 1 if image.shape[2] == image.shape[3] else 2)
    moved = [image.rot90(turn, (2, 3)) for turn in (turns if views else (0,))]
    moved += [one.flip(2) for one in moved] if views else []
    found = [torch.cat([network(part) for part in one.split(64)]) for one in moved]
    return torch.stack(found).mean(0)


class ValueTrainer:
    """Trainings of one network on different slices, each from the same start.

    An epoch is a number of steps whatever the number of patients, so that 5 cost as much as 40.

    Args:
        dataset: slices with `<name>_bounds` as targets.
        network: a copy of it is trained each time.
        loss: on its predictions.
        optimizer: makes one of parameters.
        lr_scheduler: makes one of an optimiser; stepped after every epoch.
        augmentation: of whole batches, targets included.
        outline: terms on the logits of a `SegmentedRegion` in the network, which learns outlines beside values.
        epoch_steps, batch_size: of an epoch.
        seed: of order and augmentation.
        standardised: fit the network's `Standardised` to the targets of the slices that are trained on.
        device: where.
        progress: a bar a training.

    Raises:
        ValueError: outlines for a network without a `SegmentedRegion`, which has none.
    """

    def __init__(
        self,
        *,
        dataset: CachedSlices,
        network: nn.Module,
        loss: ValueLoss,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        lr_scheduler: Callable[[Optimizer], Any],
        augmentation: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None,
        outline: WeightedSum | None = None,
        epoch_steps: int = 20,
        batch_size: int = 16,
        seed: int = 0,
        standardised: bool = True,
        device: torch.device | str = "cpu",
        progress: bool = False,
    ) -> None:
        self.dataset, self.network, self.loss = dataset, network, loss
        self.optimizer, self.lr_scheduler, self.augmentation = optimizer, lr_scheduler, augmentation
        self.outline = outline
        if outline is not None:
            _segmented(network)
        self.epoch_steps, self.batch_size, self.seed = epoch_steps, batch_size, seed
        self.standardised, self.device, self.progress = standardised, device, progress

    def __call__(
        self,
        indices: Sequence[int],
        *,
        epochs: int,
        what: str,
        number: int,
        after_epoch: Callable[[int, nn.Module], None] | None = None,
    ) -> nn.Module:
        """The network after so many epochs.

        Args:
            indices: the slices that it is trained on; no other is touched.
            epochs: how many; the schedule of the learning rate does not depend on it.
            what: what the bar says.
            number: of this training, which decides on its random numbers.
            after_epoch: called with the number of the epoch and the network.
        """
        # Not the seed itself, with which the next training's epochs would begin where this one's are.
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0]) % 2**31
        network = copy.deepcopy(self.network).to(self.device)
        if self.standardised and isinstance(network, Standardised):
            network.fit(self.targets(indices).to(self.device))
        optimizer = self.optimizer(network.parameters())
        own = Subset(self.dataset, list(indices))
        order = RandomSampler(own, num_samples=self.epoch_steps * self.batch_size)  # every slice before one comes again
        loader = DataLoader(own, batch_size=self.batch_size, sampler=order, collate_fn=CachedSlices.collate)
        handlers = [
            FiniteLoss(), EpochSeed(seed, data_loader=loader),
            LrScheduleHandler(self.lr_scheduler(optimizer), print_lr=False),
        ]  # fmt: skip
        trainer = SupervisedTrainer(
            device=self.device, max_epochs=epochs, train_data_loader=loader, network=network, optimizer=optimizer,
            loss_function=self._loss(network), decollate=False, train_handlers=handlers,
            prepare_batch=PrepareTargets(self._target_keys(), augmentation=self.augmentation),
        )  # fmt: skip
        trainer.logger.setLevel("WARNING")
        if self.progress:
            ProgressBar(desc=what, bar_format=None).attach(
                trainer, event_name=Events.EPOCH_COMPLETED, closing_event_name=Events.COMPLETED
            )
        if after_epoch is not None:

            def report(engine: Engine) -> None:
                after_epoch(engine.state.epoch, network)

            trainer.add_event_handler(Events.EPOCH_COMPLETED, report)
        manual_seed(seed)
        trainer.run()
        return network

    def _target_keys(self) -> list[str]:
        return [*self.loss.target_keys, *(self.outline.target_keys if self.outline is not None else [])]

    def _loss(self, network: nn.Module) -> Callable[[Tensor, Mapping[str, Any]], Tensor]:
        outline = self.outline
        if outline is None:
            return self.loss
        segmented = _segmented(network)

        def both(predicted: Tensor, targets: Mapping[str, Any]) -> Tensor:
            found: Tensor = self.loss(predicted, targets) + outline(segmented.logits, targets)
            return found

        return both

    def targets(self, indices: Sequence[int]) -> Tensor:
        """Targets (N, K, M) of slices; NaN is not known."""
        return values_of(torch.stack([self.dataset[index][self.loss.key] for index in indices]))

    def predict(self, network: nn.Module, indices: Sequence[int], *, views: bool) -> Tensor:
        """Predictions (N, K, M) of slices without augmentation, as the network gives them."""
        training = network.training
        image = torch.stack([plain(self.dataset[index][IMAGE]) for index in indices]).to(self.device)
        found = predict_values(network, image, views=views).cpu()
        network.train(training)
        return found


def _segmented(network: nn.Module) -> SegmentedRegion:
    for module in network.modules():
        if isinstance(module, SegmentedRegion):
            return module
    raise ValueError(
        f"ValueTrainer: outlines for {type(network).__name__}, which has no SegmentedRegion; give outline=None, or a "
        "SegmentedRegion as the regressor"
    )
