"""Several trained networks as one."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence

import torch
from ignite.handlers import Checkpoint
from torch import Tensor, nn

__all__ = ["Ensemble", "load_trained", "untrained"]


class Ensemble(nn.Module):
    r"""log 1/N sum_n softmax(f_n(x)): the mean of the probabilities of N networks.

    Networks of other seeds err in other places, so the mean errs less often; it takes N times as long. MONAI's
    EnsembleEvaluator and MeanEnsembled need an engine and post-processing of their own; this goes wherever one
    network goes: into an inferer, an evaluator, MONAI Label.

    Args:
        networks: of the same inputs and outputs.

    Shapes: image (B, C, *S); result (B, K, *S), K >= 2: the logarithm of probabilities, whose softmax these are.

    Raises:
        ValueError: no network; from `forward`, an output of a single channel.

    Example:
        >>> Ensemble([first, second])(image).softmax(1)
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if not networks:
            raise ValueError("Ensemble: no network, expected one or more")
        self.networks = nn.ModuleList(networks)

    def forward(self, image: Tensor) -> Tensor:
        total: Tensor | float = 0.0
        for network in self.networks:
            logits = network(image)
            if logits.shape[1] < 2:
                raise ValueError(f"Ensemble: output {tuple(logits.shape)}; expected two channels or more")
            total = total + logits.float().softmax(1)
        return torch.log(torch.as_tensor(total / len(self.networks)).clamp_min(torch.finfo(torch.float32).tiny))


def untrained(network: nn.Module, path: str | os.PathLike[str] | Sequence[str]) -> nn.Module:
    """The network itself for one file, or an ensemble of as many copies of it as there are files."""
    if isinstance(path, (str, os.PathLike)):
        return network
    return Ensemble([copy.deepcopy(network) for _ in path])


def load_trained(network: nn.Module, path: str | os.PathLike[str] | Sequence[str]) -> nn.Module:
    """The network with the weights of one file, or the ensemble of what several files make of it.

    Args:
        network: as it was trained, or what `untrained` made of it; it gets the weights itself if there is one file.
        path: a `model.pt`, or a list of them. `data.check_model` says first, and in words, whether they fit.
    """
    if isinstance(path, (str, os.PathLike)):
        Checkpoint.load_objects({"model": network}, torch.load(path, map_location="cpu", weights_only=True))
        return network
    ensemble = network if isinstance(network, Ensemble) else untrained(network, path)
    for one, file in zip(ensemble.networks, path, strict=True):  # type: ignore[arg-type]
        load_trained(one, file)
    return ensemble
