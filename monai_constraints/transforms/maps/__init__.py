"""Maps that are measured beforehand: distances to boundaries, and weights."""

from __future__ import annotations

from .border_weight import BorderWeightd
from .distance_map import SignedDistanceMapd
from .geodesic_map import GeodesicDistanceMapd

__all__ = [
    "BorderWeightd",
    "GeodesicDistanceMapd",
    "SignedDistanceMapd",
]
