"""What is done to a prediction."""

from __future__ import annotations

from .dense_crf import DenseCRF, DenseCRFd
from .largest_component import LargestComponentd
from .save_mask import SaveMaskd

__all__ = [
    "DenseCRF",
    "DenseCRFd",
    "LargestComponentd",
    "SaveMaskd",
]
