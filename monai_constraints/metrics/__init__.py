"""Metrics of constraints, and what the papers report of a case; the rest comes from MONAI."""

from __future__ import annotations

from .satisfaction import ConstraintSatisfaction
from .volume import dice_of_masks, hausdorff95

__all__ = ["ConstraintSatisfaction", "dice_of_masks", "hausdorff95"]
