"""How the output of a network is read: as one tensor (B, C, *S), and its channels as classes.

A network of one channel, which goes with a sigmoid, has two classes all the same: the channel is class 1, the
structure, and class 0, the background, is 1 - the channel. Losses, statistics, and so bounds and metrics choose classes
here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["check_output", "refuse_several_outputs", "select_classes", "with_background"]

REMEDY = (
    "outputs of several depths are not taken: build the network with deep_supervision=False, or call a loss on its "
    "own within monai.losses.DeepSupervisionLoss, on a list of tensors"
)


def with_background(region: Tensor) -> Tensor:
    """Background and structure of a single channel; several channels as they are."""
    if region.shape[1] != 1:
        return region
    return torch.cat([region.logical_not() if region.dtype == torch.bool else 1 - region, region], dim=1)


def select_classes(region: Tensor, classes: Sequence[int] | None, *, owner: str) -> Tensor:
    """The channels (B, K, *S) of the chosen classes, as a view where they are neighbours; all channels by default.

    Raises:
        ValueError: for a class that the network does not have.
    """
    if classes is None:
        return region
    channels = region.shape[1]
    if max(classes) >= max(channels, 2):
        one = ", the structure being class 1 of a single one" if channels == 1 else ""
        raise ValueError(
            f"{owner}: classes={list(classes)}, but the input has {channels} channels{one}; choose classes among the "
            "network's outputs"
        )
    if channels == 1 and list(classes) == [1]:
        return region
    region = with_background(region)
    first, last = classes[0], classes[-1]
    if list(classes) == list(range(first, last + 1)):
        return region[:, first : last + 1]  # a view: no copy on the way there, none on the way back
    return region[:, list(classes)]


def check_output(output: Any, *others: Any, owner: str) -> None:
    """Refuse the outputs of deep supervision: lists, and (B, heads, C, *S), which in 2D looks like a volume.

    Args:
        output: of the network.
        others: what is on its grid, such as image and label, (B, C, *S). Without any of these nobody can tell a volume
            from the heads of a 2D network.
        owner: name for errors.

    Raises:
        TypeError: for an output that is no tensor.
        ValueError: for one with an axis more than the others have.
    """
    if not isinstance(output, Tensor):
        count = f" of {len(output)}" if isinstance(output, (list, tuple, Mapping)) else ""
        raise TypeError(f"{owner}: expected one tensor (B, C, *S), got a {type(output).__name__}{count}; {REMEDY}")
    for other in others:
        if isinstance(other, Tensor) and output.ndim == other.ndim + 1 and other.ndim in (4, 5):
            if output.shape[3:] == other.shape[2:]:
                raise ValueError(
                    f"{owner}: expected (B, C, *S) on the grid of {tuple(other.shape)}, got {tuple(output.shape)}, "
                    f"which has an axis more; {REMEDY}"
                )
    if output.ndim == 6:
        raise ValueError(f"{owner}: expected (B, C, *S), got {tuple(output.shape)}; {REMEDY}")


def refuse_several_outputs(loss: nn.Module, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    """`check_output` as a hook before a loss's forward, whose first argument is the output."""
    output = arguments[0] if arguments else keywords.get("input")
    if output is not None:
        check_output(output, *arguments[1:], *keywords.values(), owner=type(loss).__name__)
