"""What plugs into MONAI's training and evaluation engines."""

from __future__ import annotations

from .autocast_inferer import AutocastInferer
from .prepare_targets import PrepareTargets

__all__ = ["AutocastInferer", "PrepareTargets"]
