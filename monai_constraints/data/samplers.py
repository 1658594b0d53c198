"""The order of samples: a closed form of seed and epoch, and whole volumes as batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import DistributedSampler
from torch import distributed
from torch.utils.data import Dataset, Sampler

__all__ = ["GroupBatchSampler", "MixedGroupSampler", "MixedSampler", "epoch_sampler"]


class GroupBatchSampler(Sampler[list[int]]):
    """Batches of one whole group each, e.g. all slices of a volume that share a constraint (thesis 2.4.4).

    The order of the groups is a closed form of seed + epoch; within a group the samples keep their order. In
    distributed training no group is split, and the ranks get equally many batches: where needed, the first
    groups of the order come again at its end.

    Pass it as `batch_sampler` of the DataLoader, and call `loader.batch_sampler.set_epoch` at the start of
    every epoch: MONAI's engines do that for a `sampler` only.

    Args:
        groups: the group of every sample of the dataset, e.g. `SliceDataset.cases`.
        shuffle: another order of the groups every epoch; else the order of their first samples.
        seed: the same on all ranks.
        max_size: most samples that fit in memory.
        num_replicas, rank: from torch.distributed where it is initialised, else 1 and 0.

    Raises:
        ValueError: no groups, a group above `max_size`, or a rank out of range.
    """

    def __init__(
        self,
        groups: Sequence[Hashable],
        *,
        shuffle: bool = True,
        seed: int = 0,
        max_size: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        members = _members(groups)
        if not members:
            raise ValueError(
                "GroupBatchSampler: groups is empty; pass the group of every sample of the dataset"
            )
        largest = max(members, key=lambda group: len(members[group]))
        if max_size is not None and len(members[largest]) > max_size:
            raise ValueError(
                f"GroupBatchSampler: group '{largest}' has {len(members[largest])} samples, max_size is"
                f" {max_size}; raise it, or leave the group out of the dataset"
            )
        world, own = _world()
        self.num_replicas = world if num_replicas is None else num_replicas
        self.rank = own if rank is None else rank
        if not 0 <= self.rank < self.num_replicas:
            raise ValueError(
                f"GroupBatchSampler: rank is {self.rank} of {self.num_replicas}; pass 0 .. num_replicas - 1"
            )
        self.batches = list(members.values())
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.batches) // self.num_replicas)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(len(self.batches)))
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            order = torch.randperm(len(order), generator=generator).tolist()
        for turn in range(len(self)):
            position = (turn * self.num_replicas + self.rank) % len(order)
            yield list(self.batches[order[position]])


class MixedSampler(Sampler[int]):
    """So many samples an epoch, of which a share is of one kind, evenly in between the others.

    Each kind is one endless row: all of its samples in a random order, then all in another, and so on; an epoch goes on
    where the last one stopped. No sample comes a second time before all others of its kind came once, whatever the
    length of an epoch. The row is a closed form of the seed, so resuming is exact. With a share of 1/2 every second
    sample is of the kind, and so half of every batch is. The first epochs may have that kind alone. The ranks of a
    distributed training each take a part of the epoch that lies together.

    Args:
        chosen: of every sample of the data set, whether it is of the kind.
        share: of the kind; where there is only one kind it is all.
        samples: of an epoch, over all ranks.
        alone: so many epochs, from the first, have samples of the kind and no others.
        seed: the same on all ranks.
        num_replicas, rank: from torch.distributed where it is initialised, else 1 and 0.

    Raises:
        ValueError: no samples, a share that is not above 0 and below 1, or fewer than no epochs alone.
    """

    def __init__(
        self,
        chosen: Sequence[bool],
        *,
        share: float,
        samples: int,
        alone: int = 0,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        if not chosen or not 0 < share < 1 or samples < 1 or alone < 0:
            raise ValueError(
                f"MixedSampler: {len(chosen)} samples of which {samples} are drawn, share={share}, alone={alone}"
            )
        world, own = _world()
        self.num_replicas = world if num_replicas is None else num_replicas
        self.rank = own if rank is None else rank
        kinds = [[i for i, one in enumerate(chosen) if bool(one) is kind] for kind in (True, False)]
        self.kinds = kinds
        self.share = share if all(kinds) else float(bool(kinds[0]))
        self.samples, self.alone, self.seed, self.epoch = samples, alone if kinds[0] else 0, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.samples // self.num_replicas)

    def _before(self, position: int) -> int:
        """How many of the row's first so many samples are of the kind."""
        alone = min(position, self.alone * len(self) * self.num_replicas)
        return alone + int((position - alone) * self.share + 1e-9)

    def __iter__(self) -> Iterator[int]:
        # MONAI's epochs begin with 1, and the first one is to begin at the start of the rows.
        start = max(self.epoch - 1, 0) * len(self) * self.num_replicas + self.rank * len(self)
        orders: dict[tuple[int, int], list[int]] = {}
        for position in range(start, start + len(self)):
            before, after = self._before(position), self._before(position + 1)
            kind, place = (0, before) if after > before else (1, position - before)
            turn, place = divmod(place, len(self.kinds[kind]))
            if (kind, turn) not in orders:
                generator = np.random.default_rng([self.seed, kind, turn])
                orders[kind, turn] = generator.permutation(len(self.kinds[kind])).tolist()
            yield self.kinds[kind][orders[kind, turn][place]]


class MixedGroupSampler(Sampler[list[int]]):
    """Batches of one whole group each, such as the slices of a volume, of which a share is of one kind (thesis 2.4.4).

    Which group comes when is the order of `MixedSampler`: with a share of 1/2 every second batch is of the kind.

    Args:
        groups: the group of every sample of the data set.
        chosen: of every sample, whether its group is of the kind; the first sample speaks for the group.
        share, alone, seed, num_replicas, rank: as in `MixedSampler`.
        batches: of an epoch, over all ranks.

    Raises:
        ValueError: as `MixedSampler`.
    """

    def __init__(
        self,
        groups: Sequence[Hashable],
        chosen: Sequence[bool],
        *,
        share: float,
        batches: int,
        alone: int = 0,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        self.members = list(_members(groups).values())
        self.order = MixedSampler(
            [chosen[own[0]] for own in self.members], share=share, samples=batches, alone=alone, seed=seed,
            num_replicas=num_replicas, rank=rank,
        )  # fmt: skip

    def set_epoch(self, epoch: int) -> None:
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[list[int]]:
        return (list(self.members[number]) for number in self.order)


def epoch_sampler(
    dataset: Dataset[Any], *, shuffle: bool = True, seed: int = 0, even: bool = True
) -> DistributedSampler:
    """A sampler whose order is a closed form of seed + epoch, so that resuming is exact; one process or many.

    MONAI's DistributedSampler with world size and rank from torch.distributed where it is initialised, else 1
    and 0. MONAI's engines call its `set_epoch`, as it is the `sampler` of the DataLoader.

    Args:
        dataset: anything with a length.
        shuffle: another order every epoch.
        seed: the same on all ranks.
        even: repeat samples so that all ranks get equally many; False for evaluation, where each counts once.
    """
    world, rank = _world()
    return DistributedSampler(
        dataset, even_divisible=even, num_replicas=world, rank=rank, shuffle=shuffle, seed=seed
    )


def _members(groups: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    """The samples of each group, in their order."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    return members


def _world() -> tuple[int, int]:
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size(), distributed.get_rank()
    return 1, 0
