"""New random weights for a network that has been trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["check_reinitialisable", "reinitialise"]


def reinitialise(network: nn.Module, seed: int | Sequence[int]) -> None:
    """Draw all weights anew, in place, by each module's own `reset_parameters`; statistics of batches begin anew too.

    The numbers depend on the seed alone, and no other random number does on these.

    Args:
        network: it keeps its parameters, so that an optimiser goes on with them.
        seed: one number or several of 0 or more, such as a run's seed and the epoch.
    """
    devices = {parameter.device for parameter in network.parameters() if parameter.is_cuda}
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        for module in network.modules():
            reset: Any = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()


def check_reinitialisable(network: nn.Module) -> None:
    """Say it before a training starts.

    Raises:
        ValueError: a weight belongs to a module without `reset_parameters`.
    """
    drawn = {id(p) for m in network.modules() if hasattr(m, "reset_parameters") for p in m.parameters(recurse=False)}
    left = [name for name, parameter in network.named_parameters() if id(parameter) not in drawn]
    if left:
        raise ValueError(
            f"check_reinitialisable: {left[:3]} of the network belong to modules without reset_parameters, by which "
            "it would begin anew; give these modules one, or do not ask for a new beginning"
        )
