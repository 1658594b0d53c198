"""Loss terms, and the weighted sum that a network is trained with."""

from __future__ import annotations

from .constraint import ConstraintLoss
from .partial_ce import PartialCrossEntropy
from .partial_dice import PartialDice
from .weighted_sum import Term, WeightedSum

__all__ = ["ConstraintLoss", "PartialCrossEntropy", "PartialDice", "Term", "WeightedSum"]
