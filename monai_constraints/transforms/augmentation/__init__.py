"""Augmentation that keeps labels and bounds right."""

from __future__ import annotations

from .batch import BatchGamma, BatchIntensity, BatchSimilarity
from .dihedral import RandDihedrald
from .mirrors import BatchMirrors

__all__ = [
    "BatchGamma",
    "BatchIntensity",
    "BatchMirrors",
    "BatchSimilarity",
    "RandDihedrald",
]
