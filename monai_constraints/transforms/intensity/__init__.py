"""The values of the image."""

from __future__ import annotations

from .scale_percentiles import ScalePercentilesd

__all__ = [
    "ScalePercentilesd",
]
