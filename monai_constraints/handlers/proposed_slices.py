"""What the processes of DeepCut work on: slices that a conditional random field turns into proposals."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from monai_constraints.transforms import DenseCRF

__all__ = ["ProposedSlices"]


class ProposedSlices(Dataset[Tensor]):
    """An item is the proposal (*S) uint8 of one slice or volume.

    Args:
        crf: the field.
        probabilities: (N, 1 + K, *S) of the network.
        images: (N, C, *S).
        boxes: (N, K, *S), where each class may be.
    """

    def __init__(self, crf: DenseCRF, probabilities: Tensor, images: Tensor, boxes: Tensor) -> None:
        self.crf, self.probabilities, self.images, self.boxes = crf, probabilities, images, boxes

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: int) -> Tensor:
        q = self.crf(self.probabilities[index].numpy(), self.images[index].numpy())
        q[1:][~self.boxes[index].numpy()] = -1  # no class outside of its boxes; the background may be anywhere
        return torch.from_numpy(q.argmax(0).astype(np.uint8))
