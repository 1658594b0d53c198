"""What the losses on weak labels check alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["checked_target", "class_channels", "listed_classes"]


def listed_classes(classes: Sequence[int] | None, ignore: int, owner: str) -> list[int] | None:
    """The classes that a loss counts; None for all.

    Raises:
        ValueError: for an empty list, or one with the value of unknown voxels.
    """
    if classes is not None and (len(classes) == 0 or ignore in classes):
        raise ValueError(f"{owner}: classes={list(classes)} must be a list without ignore={ignore}")
    return None if classes is None else list(classes)


def checked_target(target: Tensor, input: Tensor, ignore: int, owner: str) -> Tensor:
    """The weak label (B, 1, *S) of an input (B, C, *S), as a plain tensor.

    Raises:
        ValueError: where the shapes differ or the target is not integer.
    """
    target = target.as_subclass(Tensor) if type(target) is not Tensor else target
    expected = (input.shape[0], 1, *input.shape[2:])
    if target.shape != expected:
        raise ValueError(
            f"{owner}: target {tuple(target.shape)} does not fit input {tuple(input.shape)}; expected "
            f"(B, 1, *S) = {expected}, classes as integers and {ignore} = unknown"
        )
    if target.is_floating_point():
        raise ValueError(f"{owner}: target must be integer classes, got floats; cast the weak label")
    return target


def class_channels(p: Tensor, classes: list[int] | None, owner: str, *, first: int = 0) -> tuple[Tensor, list[int]]:
    """Probabilities (B, C, *S) of these classes, all from `first` on by default; one channel is the foreground.

    Raises:
        ValueError: where a class is no channel.
    """
    if p.shape[1] == 1:
        p = torch.cat([1 - p, p], dim=1)
    every = list(range(p.shape[1]))
    chosen = every[first:] if classes is None else classes
    if max(chosen) >= p.shape[1]:
        raise ValueError(f"{owner}: classes={chosen} but the input has {p.shape[1]} channels; choose among them")
    return (p if chosen == every else p[:, chosen]), chosen
