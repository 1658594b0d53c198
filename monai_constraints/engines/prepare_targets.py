"""From a batch to the network's input and the loss's targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from monai_constraints.constraints.plain import plain

__all__ = ["PrepareTargets"]


class PrepareTargets:
    """`prepare_batch` of a MONAI engine: (image, {key: target}) on the device.

    The image is among the targets, so that a loss on bounds alone sees whether the network's output is on its grid.

    Args:
        keys: the targets to take along, those that the loss needs (`WeightedSum.target_keys`). Entries that are no
            tensors, such as the names of cases, stay as they are.
        image_key: the network's input.
        augmentation: what changes the whole batch on the device, such as `transforms.BatchSimilarity`; it gets the
            image and the targets by key.

    Raises:
        KeyError: where the batch lacks a key.
    """

    def __init__(
        self,
        keys: Sequence[str],
        *,
        image_key: str = "image",
        augmentation: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None,
    ) -> None:
        self.keys, self.image_key, self.augmentation = tuple(keys), image_key, augmentation

    def __call__(
        self, batch: dict[str, Any], device: str | torch.device | None = None, non_blocking: bool = False
    ) -> tuple[Tensor, dict[str, Any]]:
        missing = [key for key in (self.image_key, *self.keys) if key not in batch]
        if missing:
            raise KeyError(f"PrepareTargets: the batch lacks {missing}; it has {sorted(batch)}")
        move = lambda x: plain(x).to(device, non_blocking=non_blocking) if isinstance(x, Tensor) else x  # noqa: E731
        moved: Mapping[str, Any] = {key: move(batch[key]) for key in dict.fromkeys((self.image_key, *self.keys))}
        if self.augmentation is not None:
            moved = self.augmentation(dict(moved))
        return moved[self.image_key], {key: moved[key] for key in (self.image_key, *self.keys)}
