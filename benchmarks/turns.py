"""Times of calls that take turns, so that whatever else the machine does falls on all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

__all__ = ["ratio", "seconds", "take_turns"]


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def take_turns(calls: dict[str, Callable[[], object]], rounds: int, *, warm_up: int = 2) -> dict[str, list[float]]:
    """Times of each call, the calls taking turns in an order that changes every round."""
    for call in list(calls.values()) * warm_up:
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        names = list(calls) if number % 2 else list(calls)[::-1]
        for name in names:
            times[name].append(seconds(calls[name]))
    return times


def ratio(times: dict[str, list[float]], above: str, below: str) -> float:
    """Neighbours share the machine's mood: the ratio of each pair, then the median."""
    return statistics.median(a / b for a, b in zip(times[above], times[below]))
