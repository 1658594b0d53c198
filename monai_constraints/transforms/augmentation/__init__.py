"""Augmentation that keeps labels and bounds right."""

from __future__ import annotations

from .batch import BatchGamma, BatchIntensity, BatchSimilarity, move_positions
from .dihedral import RandDihedrald

__all__ = [
    "BatchGamma",
    "BatchIntensity",
    "BatchSimilarity",
    "RandDihedrald",
    "move_positions",
]
