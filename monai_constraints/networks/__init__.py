"""Networks that MONAI has not, and what is done to networks as a whole."""

from __future__ import annotations

from monai_constraints.networks.enet import ENet
from monai_constraints.networks.ensemble import Ensemble, load_trained, untrained
from monai_constraints.networks.placed import placed
from monai_constraints.networks.regressor import PooledEncoder, SegmentedRegion, SoftRegion, Standardised
from monai_constraints.networks.reinitialise import check_reinitialisable, reinitialise

__all__ = [
    "ENet",
    "Ensemble",
    "PooledEncoder",
    "SegmentedRegion",
    "SoftRegion",
    "Standardised",
    "check_reinitialisable",
    "load_trained",
    "placed",
    "reinitialise",
    "untrained",
]
