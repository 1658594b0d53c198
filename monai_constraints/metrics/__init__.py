"""Metrics of constraints; Dice and distances come from MONAI."""

from __future__ import annotations

from .satisfaction import ConstraintSatisfaction

__all__ = ["ConstraintSatisfaction"]
