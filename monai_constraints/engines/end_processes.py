"""The end of training or evaluation on several processes."""

from __future__ import annotations

import ignite.distributed as idist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["end_processes"]


def end_processes(network: nn.Module) -> None:
    """Leaves the process group, threads included: for `finalize` of a bundle. Does nothing where there is none.

    Destroying a group leaves its object, and gloo's threads, alive as long as DistributedDataParallel refers to it.
    Such a thread may free the last collective's tensors, for which it needs Python, while the interpreter ends; then
    the process aborts ("terminate called without an active exception") after all its work is done. So the network
    lets go of the group first.

    Args:
        network: of the trainer or evaluator, after its last use on several processes; `network.module` stays usable.
    """
    if isinstance(network, DistributedDataParallel):
        for name in ("process_group", "reducer", "logger"):
            setattr(network, name, None)
    idist.finalize()
