"""Augmentation that keeps labels and bounds right."""

from __future__ import annotations

from .batch import BatchGamma, BatchIntensity, BatchSimilarity
from .dihedral import RandDihedrald

__all__ = [
    "BatchGamma",
    "BatchIntensity",
    "BatchSimilarity",
    "RandDihedrald",
]
