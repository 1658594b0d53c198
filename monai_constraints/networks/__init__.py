from __future__ import annotations

from monai_constraints.networks.enet import ENet

__all__ = ["ENet"]
