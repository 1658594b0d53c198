"""Calls that take turns, so that whatever else the machine does falls on all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["ratio", "seconds", "step_clock", "synchronised", "take_turns", "training_step"]


def synchronised(call: Callable[[], object]) -> Callable[[], object]:
    """The call, and with a GPU the wait for its end."""

    def whole() -> None:
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return whole


def training_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, loss: nn.Module, image: Tensor, targets: dict[str, Tensor]
) -> Callable[[], object]:
    """A whole step of training: forward, loss, backward, optimizer."""

    def once() -> None:
        optimizer.zero_grad()
        loss(network(image), targets).backward()
        optimizer.step()

    return synchronised(once)


def step_clock() -> Callable[[], float]:
    """Wall time with a GPU; without, the processor time of this process, which other processes don't lengthen.

    For calls of one thread only: processor time adds up over threads.
    """
    return time.perf_counter if torch.cuda.is_available() else time.process_time


def seconds(call: Callable[[], object], *, clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    call()
    return clock() - start


def take_turns(
    calls: dict[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Times of each call, the calls taking turns in an order that changes every round."""
    for call in list(calls.values()) * warm_up:
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        names = list(calls) if number % 2 else list(calls)[::-1]
        for name in names:
            times[name].append(seconds(calls[name], clock=clock))
    return times


def ratio(times: dict[str, list[float]], above: str, below: str) -> float:
    """Neighbours share the machine's mood: the ratio of each pair, then the median."""
    return statistics.median(a / b for a, b in zip(times[above], times[below]))
