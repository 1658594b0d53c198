"""Mirror images of whole batches, in 2D and 3D, with their boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...constraints.plain import plain

__all__ = ["BatchMirrors"]


class BatchMirrors:
    """Mirrors each sample of a batch along each of some axes, in half of the cases.

    Nothing is interpolated, so maps keep their values, boxes are moved exactly, and sizes keep their bounds; those on
    positions do not. Make the bounds of bands behind it (`BoxBoundsd`).

    Args:
        keys: entries (B, C, *S); the first has to be there, others may be missing.
        boxes: keys of boxes (B, K, J, D, 2), which may be missing.
        axes: spatial axes, from 0.

    Raises:
        ValueError: for an axis that the images do not have.
    """

    def __init__(
        self, *, keys: Sequence[str] = ("image", "weak"), boxes: Sequence[str] = (), axes: Sequence[int] = (0,)
    ) -> None:
        self.keys, self.boxes, self.axes = tuple(keys), tuple(boxes), tuple(axes)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        out = dict(batch)
        image: Tensor = batch[self.keys[0]]
        if not all(0 <= axis < image.ndim - 2 for axis in self.axes):
            raise ValueError(
                f"BatchMirrors: axes={list(self.axes)}, the images are {tuple(image.shape)}; leave some out"
            )
        keys = [self.keys[0], *(key for key in self.keys[1:] if key in out)]
        out |= {key: plain(out[key]) for key in keys}
        boxes = [key for key in self.boxes if key in out]
        for axis in self.axes:
            mirrored = torch.rand(len(image), device=image.device) < 0.5
            for key in keys:
                chosen = mirrored.reshape(-1, *[1] * (out[key].ndim - 1))
                out[key] = torch.where(chosen, out[key].flip(2 + axis), out[key])
            for key in boxes:
                old = plain(out[key])
                new = old.clone()
                new[..., axis, :] = image.shape[2 + axis] - old[..., axis, :].flip(-1)
                there = (old[..., 1] > old[..., 0]).all(-1) & mirrored[:, None, None]
                out[key] = torch.where(there[..., None, None], new, old)
        return out
