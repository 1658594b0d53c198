"""Pooling: which samples of a batch share one constraint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, Union

import torch
from torch import Tensor

__all__ = ["GroupPooling", "Groups", "ImagePooling", "Pooling", "PoolingName", "get_pooling"]

Groups = Union[Sequence[str], Sequence[int], Tensor]
PoolingName = Literal["image", "group"]


class Pooling(ABC):
    """Adds the sums of samples that share a constraint."""

    needs_group: bool = False

    @abstractmethod
    def __call__(self, sums: Tensor, bounds: Tensor, groups: Groups | None) -> tuple[Tensor, Tensor]:
        """sums (B, K, F) and bounds (B, K, M, 2) to those of G constraints sets, (G, K, F) and (G, K, M, 2)."""

    def representatives(self, index: Tensor, groups: Groups | None) -> Tensor:
        """The indices of B samples to those of G constraint sets: a group goes by its first sample."""
        return index


class ImagePooling(Pooling):
    """Every image has its own constraints."""

    def __call__(self, sums: Tensor, bounds: Tensor, groups: Groups | None) -> tuple[Tensor, Tensor]:
        return sums, bounds


class GroupPooling(Pooling):
    """The samples of one group share a constraint on their sum, V_B = sum_{S in B} V_S (thesis 2.4.4).

    The slices of a volume, usually: `groups` is then the batch's `case`. The batch must hold a group whole, which
    `GroupBatchSampler` sees to. Each of a group's samples carries the group's bounds.

    Raises:
        ValueError: without groups, with a wrong number of them, or where samples of a group disagree on the bounds.
    """

    needs_group = True

    def __call__(self, sums: Tensor, bounds: Tensor, groups: Groups | None) -> tuple[Tensor, Tensor]:
        if groups is None:
            raise ValueError("GroupPooling: no groups; pass group=batch['case'], the volume of each slice")
        names = _names(groups)
        if len(names) != len(sums):
            raise ValueError(f"GroupPooling: {len(names)} groups for a batch of {len(sums)}")
        order = {name: number for number, name in enumerate(dict.fromkeys(names))}
        member = torch.tensor([order[name] for name in names], device=sums.device)
        first = torch.tensor([names.index(name) for name in order], device=bounds.device)
        pooled = sums.new_zeros(len(order), *sums.shape[1:]).index_add(0, member, sums)
        shared = bounds[first]
        # An augmentation that turns them together leaves rounding behind.
        if bounds.device.type == "cpu" and not torch.allclose(shared[member.cpu()], bounds, rtol=1e-5):
            raise ValueError(
                "GroupPooling: samples of one group have different bounds; compute the bounds on the volume, "
                "before it is cut in slices"
            )
        return pooled, shared

    def representatives(self, index: Tensor, groups: Groups | None) -> Tensor:
        if groups is None:
            raise ValueError("GroupPooling: no groups; pass group=batch['case'], the volume of each slice")
        names = _names(groups)
        return index[torch.tensor([names.index(name) for name in dict.fromkeys(names)], device=index.device)]


def _names(groups: Groups) -> list[str | int]:
    return groups.tolist() if isinstance(groups, Tensor) else list(groups)


def get_pooling(pooling: PoolingName | Pooling) -> Pooling:
    """The pooling of a name, or the object itself.

    Raises:
        ValueError: for an unknown name.
    """
    if isinstance(pooling, Pooling):
        return pooling
    known = {"image": ImagePooling, "group": GroupPooling}
    if pooling not in known:
        raise ValueError(f"pooling={pooling!r}; choose one of {sorted(known)}, or pass a Pooling")
    return known[pooling]()
