"""Augmentation that keeps labels and bounds right."""

from __future__ import annotations

from .batch import BatchGamma, BatchIntensity, BatchSimilarity
from .copy_paste import BatchCopyPaste
from .dihedral import RandDihedrald

__all__ = [
    "BatchCopyPaste",
    "BatchGamma",
    "BatchIntensity",
    "BatchSimilarity",
    "RandDihedrald",
]
