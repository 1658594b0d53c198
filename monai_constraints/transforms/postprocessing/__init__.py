"""What is done to a prediction."""

from __future__ import annotations

from .largest_component import LargestComponentd
from .save_mask import SaveMaskd

__all__ = [
    "LargestComponentd",
    "SaveMaskd",
]
