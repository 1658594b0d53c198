"""Times of calls that take turns, so that whatever else the machine does falls on all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def synchronised(call: Callable[[], object]) -> Callable[[], object]:
    """The call, and with a GPU the wait for its end."""

    def whole() -> None:
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return whole


def seconds(call: Callable[[], object]) -> float:
    """Wall time with a GPU; without, the processor time of this process, which other processes don't lengthen."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    start = clock()
    call()
    return clock() - start


def take_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Times of each call, the calls taking turns in an order that changes every round."""
    for call in calls.values():
        call()
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        names = list(calls) if number % 2 else list(calls)[::-1]
        for name in names:
            times[name].append(seconds(calls[name]))
    return times


def ratio(base: list[float], other: list[float]) -> float:
    """Neighbours share the machine's mood: the ratio of each pair, then the median."""
    return statistics.median(b / a for a, b in zip(base, other))
