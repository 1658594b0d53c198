"""Boxes around the structures of a label: what somebody draws with two clicks each."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.transforms import Transform
from scipy import ndimage
from torch import Tensor

from ...keys import BOXES, CASE, LABEL, LOOSE, SLICE

__all__ = ["Box", "BoxesFromLabeld", "padded_boxes"]


class Box(NamedTuple):
    """One box: `sides` (D, 2), first voxel and one past the last; how much it holds; whether its object may not touch
    its sides."""

    sides: np.ndarray
    weight: float
    loose: bool = False


class BoxesFromLabeld(Transform):
    """`boxes` (K, J, D, 2) int64 around each class of a label, or each of its connected components, and `loose` (K, J).

    Nothing is random from call to call: jitter is a hash of (seed, case, slice, class, component, side).

    Args:
        classes: the label's classes, which become the K of the boxes.
        key: full label (1, *S), 2D or 3D, integer classes.
        per_component: a box for each fully connected component rather than for the whole class.
        max_boxes: J. Of a class with more components the J - 1 largest have a box each, and the last box is around all
            others together, `loose`: emptiness stays right, tightness is not asked of it.
        margin: by which each side is moved outward: voxels, or mm with `spacing`.
        jitter: by which it is moved further, out or in, uniformly from -jitter to jitter, in whole voxels. Where this
            is more than the margin, boxes may cut the object.
        spacing: mm of a voxel of the label along each of its axes, so that the margin is in mm; None: voxels. Rounded
            up to whole voxels.
        seed: another seed, another jitter.

    Raises:
        KeyError: the sample has no `key`, or, with jitter, no `case`.
        ValueError: for wrong arguments, or a label that is not (1, *S).

    Warns:
        UserWarning: where a class has more components than boxes.
    """

    def __init__(
        self,
        *,
        classes: Sequence[int],
        key: str = LABEL,
        per_component: bool = False,
        max_boxes: int = 1,
        margin: float = 0,
        jitter: int = 0,
        spacing: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        if not classes or len(set(classes)) < len(classes) or min(classes) < 1:
            raise ValueError(f"BoxesFromLabeld: classes={list(classes)}; expected one or more different classes >= 1")
        if min(margin, jitter) < 0 or max_boxes < 1:
            raise ValueError(
                f"BoxesFromLabeld: margin={margin}, jitter={jitter}, max_boxes={max_boxes}; expected margins of 0 or "
                "more and one box or more"
            )
        self.classes, self.key, self.per_component, self.max_boxes = tuple(classes), key, per_component, max_boxes
        self.margin, self.jitter, self.seed = margin, int(jitter), int(seed)
        self.spacing = None if spacing is None else np.asarray(spacing, float)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if self.key not in data:
            raise KeyError(f"BoxesFromLabeld: the sample has no {self.key!r}, it has {sorted(map(str, data))}")
        if self.jitter and CASE not in data:
            raise KeyError("BoxesFromLabeld: the sample has no 'case', which its jitter is drawn from; name the cases")
        label = np.asarray(torch.as_tensor(data[self.key]).as_subclass(Tensor).cpu())
        if label.ndim not in (3, 4) or len(label) != 1:
            raise ValueError(f"BoxesFromLabeld: {self.key!r} has shape {label.shape}; expected (1, H, W[, D]) classes")
        found = [self._of_class(label[0] == k, k, data) for k in self.classes]
        return {**data, **padded_boxes(found, label.shape[1:], self.max_boxes, f"case {data.get(CASE)}")}

    def _of_class(self, mask: np.ndarray, k: int, data: Mapping[Hashable, Any]) -> list[Box]:
        parts = ndimage.label(mask, np.ones((3,) * mask.ndim))[0] if self.per_component else mask.astype(np.int8)
        found = []
        for number, place in enumerate(ndimage.find_objects(parts), start=1):
            sides = np.array([[one.start, one.stop] for one in place])
            weight = float((parts[place] == number).sum())
            found.append(Box(self._drawn(sides, (data.get(CASE), data.get(SLICE), k, number)), weight))
        return found

    def _drawn(self, sides: np.ndarray, identity: tuple[Any, ...]) -> np.ndarray:
        margin = np.full(len(sides), self.margin) if self.spacing is None else self.margin / self.spacing
        moved = sides + np.ceil(margin - 1e-6)[:, None].astype(int) * [-1, 1]
        if self.jitter:
            names = (self.seed, str(identity[0]), *(None if one is None else int(one) for one in identity[1:]))
            drawn = hashlib.blake2b(repr(names).encode(), digest_size=8).digest()
            generator = np.random.Generator(np.random.PCG64(int.from_bytes(drawn, "big")))
            moved = moved + generator.integers(-self.jitter, self.jitter + 1, size=moved.shape)
            middle = sides.sum(1) // 2  # of what is left of a box that was drawn inside out
            inverted = moved[:, 1] <= moved[:, 0]
            moved[inverted] = np.stack([middle, middle + 1], 1)[inverted]
        return moved


def padded_boxes(
    found: Sequence[Sequence[Box]], spatial: Sequence[int], max_boxes: int, where: str
) -> dict[Hashable, Any]:
    """`boxes` (K, J, D, 2) and `loose` (K, J) of the boxes of each class, cut at the image's borders.

    Of more than J boxes the J - 1 largest stay, and the last is one around all others, which is loose.
    """
    boxes = np.zeros((len(found), max_boxes, len(spatial), 2), np.int64)
    loose = np.zeros(boxes.shape[:2], bool)
    for k, of_class in enumerate(found):
        by_weight = sorted(of_class, key=lambda box: -box.weight)
        if len(by_weight) > max_boxes:
            warnings.warn(
                f"{where}: {len(by_weight)} boxes of a class, max_boxes={max_boxes}; the smallest get one box together,"
                " which is not tight",
                stacklevel=3,
            )
            rest = np.stack([box.sides for box in by_weight[max_boxes - 1 :]])
            together = np.stack([rest[..., 0].min(0), rest[..., 1].max(0)], -1)
            by_weight = [*by_weight[: max_boxes - 1], Box(together, 0.0, True)]
        for j, box in enumerate(by_weight):
            boxes[k, j] = np.clip(box.sides, 0, np.asarray(spatial)[:, None])
            loose[k, j] = box.loose
    return {BOXES: torch.from_numpy(boxes), LOOSE: torch.from_numpy(loose)}
