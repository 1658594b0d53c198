"""Train segmentation networks from little annotation plus prior knowledge, inside MONAI."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .constraints import (
        Centroid,
        Common,
        Individual,
        LogBarrier,
        MeanIntensity,
        Quadratic,
        Size,
        Spread,
        Statistic,
        Tag,
    )
    from .losses import ConstraintLoss, PartialCrossEntropy, Term, WeightedSum
    from .transforms import ConstraintBoundsd

__version__ = "0.2.0"

__all__ = [
    "Centroid",
    "Common",
    "ConstraintBoundsd",
    "ConstraintLoss",
    "Individual",
    "LogBarrier",
    "MeanIntensity",
    "PartialCrossEntropy",
    "Quadratic",
    "Size",
    "Spread",
    "Statistic",
    "Tag",
    "Term",
    "WeightedSum",
]


def __getattr__(name: str) -> Any:
    """Import a name, and PyTorch and MONAI with it, at its first use: the command line lists bundles without them."""
    if name in __all__:
        for floor in ("constraints", "losses", "transforms"):
            found = getattr(importlib.import_module(f".{floor}", __name__), name, None)
            if found is not None:
                globals()[name] = found
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
