"""What is done to a prediction."""

from __future__ import annotations

from .largest_component import LargestComponentd

__all__ = [
    "LargestComponentd",
]
