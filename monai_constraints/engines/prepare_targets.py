"""From a batch to the network's input and the loss's targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["PrepareTargets"]


class PrepareTargets:
    """`prepare_batch` of a MONAI engine: (image, {key: target}) on the device.

    Args:
        keys: the targets to take along, those that the loss needs (`WeightedSum.target_keys`). Entries that are no
            tensors, such as the names of cases, stay as they are.
        image_key: the network's input.

    Raises:
        KeyError: where the batch lacks a key.
    """

    def __init__(self, keys: Sequence[str], *, image_key: str = "image") -> None:
        self.keys, self.image_key = tuple(keys), image_key

    def __call__(
        self, batch: dict[str, Any], device: str | torch.device | None = None, non_blocking: bool = False
    ) -> tuple[Tensor, dict[str, Any]]:
        missing = [key for key in (self.image_key, *self.keys) if key not in batch]
        if missing:
            raise KeyError(f"PrepareTargets: the batch lacks {missing}; it has {sorted(batch)}")
        move = lambda x: _plain(x).to(device, non_blocking=non_blocking) if isinstance(x, Tensor) else x  # noqa: E731
        return move(batch[self.image_key]), {key: move(batch[key]) for key in self.keys}


def _plain(x: Tensor) -> Tensor:
    return x.as_subclass(Tensor) if type(x) is not Tensor else x
