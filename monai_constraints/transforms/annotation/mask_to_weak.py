"""The first label that a mask of another source gives inside of boxes, where the two agree."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Transform
from torch import Tensor

from ...constraints.plain import plain
from ...keys import BOXES, IMAGE, MASK, WEAK
from .box_bounds import BoxToWeakd

__all__ = ["MaskToWeakd"]

logger = logging.getLogger(__name__)


class MaskToWeakd(Transform):
    r"""A mask where it agrees with its box, and the ellipse that the box just holds where it does not.

    A box, without its margin, agrees with what the mask has of its class inside of it, if that is not empty and the box
    around it covers at least `agreement` of their union, as detections are matched. Then the mask is the label of the
    whole box, background included. Of all other boxes it is that of `BoxToWeakd(inside="ellipse")`, below the masks.
    Masks may come from a promptable model, from another network or from an annotator in a hurry.

    Args:
        masks: key of a map (1, *S) of the classes 1 .. K in the order of the boxes (K, J, D, 2), and 0; all 0 where
            there is no mask.
        agreement: least intersection over union of both boxes.
        margin: by how many voxels boxes are too large on each side.
        output: key of the (1, *S) uint8 map, 255 where it says nothing.
        image_key: for the shape.

    Attributes:
        counts: of all samples so far, the boxes whose masks agree, and all boxes.

    Raises:
        KeyError: a sample without boxes, image or mask.
        ValueError: an agreement that is not above 0 and at most 1, a margin below 0, a mask of another shape.
    """

    def __init__(
        self,
        *,
        masks: str = MASK,
        agreement: float = 0.75,
        margin: int = 0,
        output: str = WEAK,
        image_key: str = IMAGE,
    ) -> None:
        if not 0 < agreement <= 1:
            raise ValueError(f"MaskToWeakd: agreement={agreement}; give a part of the union, above 0 and at most 1")
        self.masks, self.agreement, self.margin, self.output = masks, agreement, margin, output
        self.ellipse = BoxToWeakd(inside="ellipse", margin=margin, output=output, image_key=image_key)
        self.image_key, self._found = image_key, list[tuple[int, int]]()  # a list: two threads append to it

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        missing = [key for key in (BOXES, self.image_key, self.masks) if key not in data]
        if missing:
            raise KeyError(
                f"MaskToWeakd: the sample lacks {missing}, it has {sorted(map(str, data))}; add it to the cases of the "
                "datalist and to train_keys (the row masks, after own_boxes)"
            )
        boxes, mask = plain(torch.as_tensor(data[BOXES])), plain(torch.as_tensor(data[self.masks]))
        if mask.shape[1:] != data[self.image_key].shape[1:] or len(mask) != 1:
            expected = (1, *data[self.image_key].shape[1:])
            raise ValueError(f"MaskToWeakd: a mask {tuple(mask.shape)}, expected {expected}, the grid of the image")
        insides = {
            (k, j): mask[0][tuple(slice(low, high) for low, high in boxes[k, j].tolist())] == k + 1
            for k, j in (boxes[..., 1] > boxes[..., 0]).all(-1).nonzero().tolist()
        }
        agreeing = {place: inside for place, inside in insides.items() if self._agrees(inside)}
        self._found.append((len(agreeing), len(insides)))
        others = boxes.clone()
        for k, j in agreeing:
            others[k, j] = 0
        sample = self.ellipse({**data, BOXES: others})
        weak = sample[self.output][0]
        for (k, j), inside in agreeing.items():
            weak[tuple(slice(low, high) for low, high in boxes[k, j].tolist())][inside] = k + 1
        return {**sample, BOXES: data[BOXES]}

    @property
    def counts(self) -> tuple[int, int]:
        found = list(self._found)
        return sum(good for good, _ in found), sum(boxes for _, boxes in found)

    def check(self) -> None:
        """Log how many masks agree, when all samples were made.

        Raises:
            ValueError: none does.
        """
        good, boxes = self.counts
        if not good:
            raise ValueError(
                f"MaskToWeakd: the mask of none of {boxes} boxes agrees with its box; masks number the classes 1, 2, "
                "... in the order of the boxes, on the grid of the image, and 0 is background"
            )
        message = "MaskToWeakd: %d of %d boxes agree with their masks (%.0f %%), all others begin with an ellipse"
        logger.info(message, good, boxes, 100 * good / boxes)

    def _agrees(self, inside: Tensor) -> bool:
        """Of the mask of its class inside of a box (*sides)."""
        places = inside.nonzero()
        if not len(places):
            return False
        sides = torch.tensor(inside.shape)
        low = torch.full_like(sides, self.margin).minimum((sides - 1) // 2)  # thinner than its margins: its middle
        high = sides - low
        begin, end = places.amin(0).cpu(), places.amax(0).cpu() + 1
        shared = (torch.minimum(end, high) - torch.maximum(begin, low)).clamp(min=0).prod()
        union = (end - begin).prod() + (high - low).prod() - shared
        return bool(shared >= self.agreement * union)
