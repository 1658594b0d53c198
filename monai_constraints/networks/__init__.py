"""Networks that MONAI does not have."""

from __future__ import annotations

from monai_constraints.networks.enet import ENet
from monai_constraints.networks.ensemble import Ensemble, load_trained, untrained
from monai_constraints.networks.regressor import PooledEncoder, SoftRegion, Standardised

__all__ = ["ENet", "Ensemble", "PooledEncoder", "SoftRegion", "Standardised", "load_trained", "untrained"]
