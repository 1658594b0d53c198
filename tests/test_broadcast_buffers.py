from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from torch import Tensor, distributed, nn

from monai_constraints.handlers import BroadcastBuffers


def test_buffers_become_those_of_rank_0(monkeypatch: pytest.MonkeyPatch) -> None:
    def broadcast(tensor: Tensor, src: int) -> None:
        assert src == 0
        tensor.fill_(7)

    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    weights = {name: value.clone() for name, value in network.named_parameters()}
    evaluator = Engine(lambda engine, batch: None)
    handler = BroadcastBuffers(network)
    handler.attach(evaluator)
    handler.attach(evaluator)
    evaluator.run([0])  # one process: nothing to do
    assert float(network[1].running_mean.sum()) == 0

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "broadcast", broadcast)
    evaluator.run([0])
    assert all(bool((buffer == 7).all()) for buffer in network.buffers())
    assert all(torch.equal(weights[name], value) for name, value in network.named_parameters())
