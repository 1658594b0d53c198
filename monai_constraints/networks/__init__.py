"""Networks that MONAI does not have."""

from __future__ import annotations

from monai_constraints.networks.enet import ENet
from monai_constraints.networks.ensemble import Ensemble, load_trained, untrained
from monai_constraints.networks.reinitialise import check_reinitialisable, reinitialise

__all__ = ["ENet", "Ensemble", "check_reinitialisable", "load_trained", "reinitialise", "untrained"]
