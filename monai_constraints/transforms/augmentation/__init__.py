"""Augmentation that keeps labels and bounds right."""

from __future__ import annotations

from .batch import BatchGamma, BatchIntensity, BatchSimilarity
from .copy_paste import BatchCopyPaste
from .dihedral import RandDihedrald
from .mirrors import BatchMirrors

__all__ = [
    "BatchCopyPaste",
    "BatchGamma",
    "BatchIntensity",
    "BatchMirrors",
    "BatchSimilarity",
    "RandDihedrald",
]
