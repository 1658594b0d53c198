"""Loss terms, and the weighted sum that a network is trained with."""

from __future__ import annotations

from .boundary import BoundaryMapLoss
from .consistency import ConsistencyLoss
from .constraint import ConstraintLoss
from .crf import CRFLoss
from .hausdorff import HausdorffMapLoss
from .on_logits import OnLogits
from .partial_ce import PartialCrossEntropy
from .partial_dice import PartialDice
from .proposal_ce import ProposalCrossEntropy
from .size_principle import SizePrincipleLoss
from .value import ValueLoss
from .weighted_ce import VoxelWeightedCrossEntropy
from .weighted_sum import Term, WeightedSum

__all__ = [
    "BoundaryMapLoss",
    "CRFLoss",
    "ConsistencyLoss",
    "ConstraintLoss",
    "HausdorffMapLoss",
    "OnLogits",
    "PartialCrossEntropy",
    "PartialDice",
    "ProposalCrossEntropy",
    "SizePrincipleLoss",
    "Term",
    "ValueLoss",
    "VoxelWeightedCrossEntropy",
    "WeightedSum",
]
