"""DeepCut: labels inside of boxes that the network and a conditional random field make anew every few epochs."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

import monai_constraints.columns as columns
from monai_constraints.constraints.intervals import box_mask
from monai_constraints.constraints.plain import plain
from monai_constraints.data import CachedSlices
from monai_constraints.handlers.proposed_slices import ProposedSlices
from monai_constraints.keys import BOXES, IMAGE, WEAK
from monai_constraints.networks import check_reinitialisable, reinitialise
from monai_constraints.pictures import plot_proposals
from monai_constraints.transforms import DenseCRF

__all__ = ["DeepCut"]

logger = logging.getLogger(__name__)

CHUNK = 256  # slices whose probabilities are in memory at a time
SHOWN = 4
VANISHED = 0.02  # part of its boxes below which a class is as good as gone


class DeepCut:
    r"""y_p <- argmax_k q_pk, k the background or a class in whose box p lies; q = `DenseCRF` of s and the image.

    The proposals y are the target of a cross-entropy on all voxels and classes (thesis 1.3.2, B.1). They begin as what
    the data set has under `target_key`, the boxes themselves, and are made anew before every `every`-th epoch, by the
    network as it is then and without augmentation. Slices without a box keep what they have. The optimiser goes on as
    it is, as published, even where the network begins anew. A class whose proposals as good as vanish is warned of.

    Proposals are part of a checkpoint: give this to `Resume` under `save`. The random numbers of a new beginning depend
    on seed and epoch alone, so that a resumed training is the uninterrupted one. Ranks share the slices.

    Args:
        dataset: the training slices, with image, `target_key` (1, *S) and `boxes` (K, J, D, 2) of the foreground
            classes 1 .. K, or whole volumes; no random transforms of single slices.
        every: epochs from update to update.
        crf: the field; None: `DenseCRF()`.
        reinitialise: draw the network's weights anew after each update, as published (B.1).
        seed: of these; the same on all ranks.
        target_key: see `dataset`.
        workers: processes of this rank; 0: none beside this one. None: as many as it has processors.
        batch_size: slices that the network sees at once.
        progress: a bar, on rank 0.
        picture: a file for boxes and proposals of a few slices over the epochs (Fig. B.1), drawn after each update.

    Attributes:
        filled: the parts of all boxes and of those of each class 1 .. K that the latest targets fill. `MetricsLog` has
            them, at the start and after each update, and the seconds of an update.

    Raises:
        ImportError: pydensecrf2 is not installed.
        ValueError: `every` below 1, boxes that do not fit the targets, or none at all; when the run starts, a network
            that cannot begin anew; when updating, another number of classes.
        KeyError: the slices lack an entry.
        TypeError: another data set; at `attach`, no trainer of MONAI.

    Source: Rajchl et al., DeepCut: object segmentation from bounding box annotations using convolutional neural
    networks, IEEE TMI 2017, as compared with in the thesis.
    """

    def __init__(
        self,
        dataset: CachedSlices,
        *,
        every: int = 10,
        crf: DenseCRF | None = None,
        reinitialise: bool = False,
        seed: int = 0,
        target_key: str = WEAK,
        workers: int | None = None,
        batch_size: int = 16,
        progress: bool = False,
        picture: str | os.PathLike[str] = "",
    ) -> None:
        if every < 1:
            raise ValueError(f"DeepCut: every={every}; give a whole number of epochs, 1 or more")
        if not isinstance(dataset, CachedSlices) or dataset.augment is not None:
            raise TypeError(f"DeepCut: {type(dataset).__name__}; expected CachedSlices without augment")
        self.dataset, self.every, self.crf, self.reinitialise = dataset, every, crf or DenseCRF(), reinitialise
        self.seed, self.target_key, self.batch_size = seed, target_key, batch_size
        self.workers, self.progress, self.picture = workers, progress, str(picture)
        self._cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._boxed, self._voxels = self._with_box()
        self.filled = self._filled(self._targets(self._boxed))
        shown = np.unique(np.linspace(0, len(self._boxed) - 1, SHOWN).round().astype(int))
        self._shown = [self._boxed[i] for i in shown]
        # In the checkpoint: all proposals, none before the first update, and of the slices of the picture the earlier.
        self._proposals = torch.zeros(0, dtype=torch.uint8)
        self._epochs, self._history = [0], self._targets(self._shown)[None, :, 0]

    def attach(self, engine: Engine) -> None:
        """Follow ``engine``, a ``SupervisedTrainer``; it gives network, inferer and device."""
        if not hasattr(engine, "prepare_batch"):
            raise TypeError(f"DeepCut: expected a trainer of MONAI, got {type(engine).__name__}")
        due = lambda _, epoch: epoch > 1 and (epoch - 1) % self.every == 0  # noqa: E731
        if not engine.has_event_handler(self._begin, Events.EPOCH_STARTED):
            engine.add_event_handler(Events.STARTED, self._check)
            engine.add_event_handler(Events.EPOCH_STARTED(once=1), self._note)
            engine.add_event_handler(Events.EPOCH_STARTED(event_filter=due), self._begin)

    def state_dict(self) -> dict[str, Any]:
        """The proposals, and those of a few slices after each update."""
        return {"proposals": self._proposals, "epochs": list(self._epochs), "history": self._history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put saved proposals into the data set.

        Raises:
            ValueError: they are of other slices.
        """
        proposals: Tensor = state_dict["proposals"]
        if len(proposals):
            self.dataset.replace(self.target_key, proposals)
        self._proposals, self._epochs, self._history = proposals, list(state_dict["epochs"]), state_dict["history"]

    def update(self, trainer: Any) -> Tensor:
        """New proposals (N, 1, H, W) uint8 of all N slices, which are the data set's targets from now on."""
        network = _bare(trainer.network)
        rank, world = idist.get_rank(), idist.get_world_size()
        for buffer in network.buffers() if world > 1 else ():  # of normalisations: each rank has seen other batches
            buffer.copy_(torch.as_tensor(idist.broadcast(buffer, src=0)))
        new = self._targets(range(len(self.dataset)))
        mine = self._boxed[rank::world]
        with tqdm(total=len(mine), desc="proposals", disable=not self.progress or rank > 0) as bar:
            for start in range(0, len(mine), CHUNK):
                slices = ProposedSlices(self.crf, *self._seen(trainer, network, mine[start : start + CHUNK]))
                # A generator of its own: the loader would take a number from the training's.
                loader = DataLoader(slices, batch_size=None, num_workers=self._workers(), generator=torch.Generator())
                for index, proposal in zip(mine[start:], loader):
                    new[index, 0] = proposal
                    bar.update()
        if world > 1:
            elsewhere = sorted(set(self._boxed) - set(mine))
            new[elsewhere] = 0  # each is some other rank's
            new[self._boxed] = torch.as_tensor(idist.all_reduce(new[self._boxed].to(idist.device()))).cpu()
        self.filled = self._filled(new[self._boxed])
        self.dataset.replace(self.target_key, new)
        self._proposals = new
        return new

    def _check(self, trainer: Any) -> None:
        if self.reinitialise:
            check_reinitialisable(_bare(trainer.network))

    def _begin(self, trainer: Any) -> None:
        start, epoch = time.perf_counter(), trainer.state.epoch
        new = self.update(trainer)
        self._epochs.append(epoch - 1)
        self._history = torch.cat([self._history, new[self._shown, 0][None]])
        if self.reinitialise:
            reinitialise(_bare(trainer.network), [self.seed, epoch])
        seconds = time.perf_counter() - start
        message = "DeepCut: proposals of %d slices after epoch %d fill %.3f of their boxes, in %.1f s"
        logger.info(message, len(self._boxed), epoch - 1, self.filled[0], seconds)
        gone = [k for k, part in enumerate(self.filled[1:], 1) if part < VANISHED]
        if gone:
            warning = (
                "DeepCut: after epoch %d the proposals of the classes %s fill less than %d %% of their boxes, so that "
                "the network unlearns these classes; a narrower field keeps more of them: lower the crf's "
                "bilateral_spatial_sigma, which is %s voxels"
            )
            logger.warning(warning, epoch - 1, gone, 100 * VANISHED, self.crf.bilateral_spatial_sigma)
        self._note(trainer, seconds)
        if self.picture and idist.get_rank() == 0:
            (_, batch), *_ = self._batches(self._shown)
            images, boxes = (x.cpu().numpy() for x in (plain(batch[IMAGE])[:, 0], self._mask(batch)))
            plot_proposals(images, boxes, self._history.numpy(), self._epochs, Path(self.picture))

    def _note(self, trainer: Any, *seconds: float) -> None:
        filled = {columns.filled_column(k): part for k, part in enumerate(self.filled[1:], 1)}
        setattr(trainer.state, columns.PROPOSED, {**dict(zip([columns.SECONDS_PROPOSALS], seconds)), **filled})

    def _filled(self, targets: Tensor) -> list[float]:
        classes = len(self._voxels)
        chosen = torch.bincount(targets.flatten(), minlength=classes)[:classes]
        chosen[0] = chosen[1:].sum()
        return (chosen / self._voxels).tolist()

    def _workers(self) -> int:
        if self.workers is not None:
            return self.workers
        own = self._cores // max(1, idist.get_nproc_per_node())
        return own if own > 1 else 0

    def _batches(self, indices: Sequence[int]) -> Iterator[tuple[Sequence[int], dict[str, Any]]]:
        for start in range(0, len(indices), self.batch_size):
            some = list(indices[start : start + self.batch_size])
            yield some, self.dataset.collate(self.dataset.__getitems__(some))

    def _targets(self, indices: Sequence[int]) -> Tensor:
        found = [plain(batch[self.target_key]).cpu() for _, batch in self._batches(indices)]
        return torch.cat(found).to(torch.uint8)

    def _mask(self, batch: dict[str, Any]) -> Tensor:
        return box_mask(plain(batch[BOXES]), batch[IMAGE].shape[2:]) > 0

    def _with_box(self) -> tuple[list[int], Tensor]:
        """The slices in which there is a box, and the voxels (1 + K) of all boxes and of each class's; or why not."""
        lacking = [key for key in (IMAGE, self.target_key, BOXES) if key not in self.dataset[0]]
        if lacking:
            raise KeyError(
                f"DeepCut: a slice lacks {lacking}, it has {sorted(self.dataset[0])}; make them with `annotate`, and "
                "leave them out of `drop`"
            )
        boxed, voxels = list[int](), torch.zeros(1, dtype=torch.int64)
        for indices, batch in self._batches(range(len(self.dataset))):
            image, target, boxes = (tuple(batch[key].shape) for key in (IMAGE, self.target_key, BOXES))
            if target != (image[0], 1, *image[2:]) or boxes[3:] != (len(image) - 2, 2):
                found = f"image {image}, {self.target_key} {target} and {BOXES} {boxes}"
                raise ValueError(f"DeepCut: {found}; expected (B, C, *S), (B, 1, *S) and (B, K, J, len(S), 2)")
            mask = self._mask(batch).movedim(1, 0).flatten(2)  # (K, B, voxels)
            boxed += [index for index, has in zip(indices, mask.any(0).any(1).tolist()) if has]
            voxels = voxels + torch.cat([mask.any(0)[None], mask]).sum((1, 2)).cpu()
        if not boxed:
            raise ValueError("DeepCut: no slice has a box; proposals are made inside of boxes")
        return boxed, voxels

    def _seen(self, trainer: Any, network: nn.Module, indices: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities (n, 1 + K, H, W), images (n, C, H, W) and masks (n, K, H, W) of these slices, on the CPU."""
        parts: list[tuple[Tensor, ...]] = []
        training, device = network.training, torch.device(trainer.state.device)
        network.eval()
        with torch.no_grad(), torch.autocast(device.type, enabled=trainer.amp, **trainer.amp_kwargs):
            for _, batch in self._batches(indices):
                image, box = plain(batch[IMAGE]), self._mask(batch)
                logits = trainer.inferer(image.to(device), network)
                if logits.shape[1] != 1 + box.shape[1]:
                    raise ValueError(
                        f"DeepCut: the network has {logits.shape[1]} channels, the boxes {box.shape[1]}; expected a "
                        "channel for the background and one for each class with boxes"
                    )
                parts.append(tuple(x.cpu() for x in (logits.float().softmax(1), image.float(), box)))
        network.train(training)
        probabilities, images, masks = (torch.cat(part) for part in zip(*parts))
        return probabilities, images, masks


def _bare(network: Any) -> nn.Module:
    return network.module if isinstance(network, (DataParallel, DistributedDataParallel)) else network
