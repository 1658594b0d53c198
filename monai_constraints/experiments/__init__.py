"""From finished runs to tables and figures."""

from __future__ import annotations

from .compare import compare_runs

__all__ = ["compare_runs"]
