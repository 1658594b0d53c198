"""Where in its whole image a patch lies."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Patch"]


class Patch(NamedTuple):
    """Where each sample of a batch of patches lies: sums over disjoint patches add to those of the whole image.

    Shapes: both (B, D) integers, D the axes of space; samples may come from images of different shapes.
    """

    offset: Tensor
    """The index of the patch's first voxel in its whole image."""

    shape: Tensor
    """The shape of that whole image."""
