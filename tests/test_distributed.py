"""Two real processes with gloo, started once for all checks: MONAI takes long to import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from monai_constraints.constraints import (
    AugmentedLagrangian,
    LogBarrier,
    Multipliers,
    NuPI,
    Quadratic,
    ReLULagrangian,
    Size,
    StandardLagrangian,
    observing,
)
from monai_constraints.data import GroupBatchSampler, epoch_sampler
from monai_constraints.engines import end_processes
from monai_constraints.losses import ConstraintLoss, PartialCrossEntropy, Term, WeightedSum
from monai_constraints.metrics import ConstraintSatisfaction

WORLD = 2
SAMPLES = 5  # odd: an even sampler shows one of them twice
CASES = ["b", "a", "a", "c", "b"]
POOLINGS = ["image", "group"]


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def satisfaction(pooling: Any, indices: list[int]) -> list[dict[str, float]]:
    """Three epochs over these samples, in batches of one."""
    metric, results = ConstraintSatisfaction(Size(classes=[1, 2]), pooling=pooling), []
    bounds = {"a": [[6.0, 22.0], [-torch.inf, 25.0]], "b": [[20.0, 25.0], [9.0, torch.inf]], "c": [[0.0, 9.0]] * 2}
    for epoch in range(3):
        metric.reset()
        masks = (drawn(60 + epoch, SAMPLES, 3, 4, 6) > 0.55).float()
        for n in indices:
            wanted = torch.tensor(bounds[CASES[n]]).reshape(1, 2, 1, 2)
            metric(masks[n : n + 1], wanted, index=torch.tensor([n]), group=[CASES[n]])
        results.append(metric.aggregate())
    return results


def gradient(samples: slice) -> list[Tensor]:
    """Of a tiny network after one backward pass on these samples, averaged over processes where there are several."""
    torch.manual_seed(0)
    network: nn.Module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    if distributed.is_initialized():
        network = DistributedDataParallel(network)
    weak = torch.randint(0, 3, (4, 1, 6, 7), generator=torch.Generator().manual_seed(3))
    weak[:, :, 2:] = 255  # equally many labelled voxels a sample: the cross-entropy averages over those of the batch
    targets = {
        "weak": weak[samples],
        "size_bounds": torch.tensor([[3.0, 5.0], [30.0, 40.0], [0.0, 0.0], [1.0, 42.0]]).reshape(4, 1, 1, 2)[samples],
        "volume_bounds": torch.tensor([20.0, 25.0]).expand(4, 1, 1, 2)[samples],
        "case": ["v", "v", "w", "w"][samples],
    }
    volume = ConstraintLoss(Size(classes=[1]), LogBarrier(2), pooling="group")
    loss = WeightedSum(
        {
            "ce": Term(PartialCrossEntropy(), "weak"),
            "size": Term(ConstraintLoss(Size(classes=[2]), Quadratic()), "size_bounds", weight=0.1),
            "volume": Term(volume, "volume_bounds", weight=0.3, arguments={"group": "case"}),
        }
    )
    loss(network(drawn(5, 4, 1, 6, 7)[samples]), targets).backward()
    gradients = [p.grad.clone() for p in network.parameters()]
    end_processes(network)  # the last to use them: a network that is only forgotten keeps gloo's threads
    return gradients


def ascended(indices: list[int]) -> dict[str, dict[str, Tensor]]:
    """The state of each kind of multipliers after three steps on these samples, in batches of one."""
    kinds: dict[str, Multipliers] = {
        "standard": StandardLagrangian(SAMPLES, values=2, learning_rate=0.3),
        "relu": ReLULagrangian(SAMPLES, values=2, learning_rate=0.3),
        "augmented": AugmentedLagrangian(SAMPLES, values=2, c=0.7),
        "nupi": NuPI(SAMPLES, values=2, learning_rate=0.3, nu=0.5),
    }
    for epoch in range(3):
        z = drawn(80 + epoch, SAMPLES, 1, 2, 2) - 0.4
        with observing(kinds.values()):
            for n in indices:
                for each in kinds.values():
                    each(z[n : n + 1], torch.tensor([n]))
        for each in kinds.values():
            each.ascend()
    return {name: dict(each.state_dict()) for name, each in kinds.items()}


def worker(rank: int, folder: str) -> None:
    os.environ["LOCAL_RANK"] = str(rank)  # else ignite guesses it, with a warning
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD)
    try:
        result: dict[str, Any] = {}
        for even in (True, False):
            result[f"indices {even}"] = list(epoch_sampler(range(SAMPLES), shuffle=False, even=even))  # type: ignore
            for pooling in POOLINGS:
                result[f"{pooling} {even}"] = satisfaction(pooling, result[f"indices {even}"])
            result[f"multipliers {even}"] = ascended(result[f"indices {even}"])
        result["batches"] = list(GroupBatchSampler(CASES, seed=1))
        result["gradient"] = gradient(slice(2 * rank, 2 * rank + 2))
        torch.save(result, f"{folder}/{rank}.pt")
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("gloo")
    multiprocessing.spawn(worker, args=(str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_satisfaction_is_that_of_one_process(ranks: list[dict[str, Any]], pooling: str, even: bool) -> None:
    alone = satisfaction(pooling, list(range(SAMPLES)))
    assert all(0 < result["satisfied"] < 1 for result in alone) and 0 < alone[2]["stability"] < 1
    for rank in ranks:
        for got, expected in zip(rank[f"{pooling} {even}"], alone, strict=True):
            assert got == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("even", [True, False])
def test_multipliers_agree_and_are_those_of_one_process(ranks: list[dict[str, Any]], even: bool) -> None:
    for kind, state in ascended(list(range(SAMPLES))).items():
        for name, alone in state.items():
            here, there = (rank[f"multipliers {even}"][kind][name] for rank in ranks)
            assert torch.equal(here, there) and alone.any()
            torch.testing.assert_close(here, alone)


def test_padding_did_show_a_sample_twice(ranks: list[dict[str, Any]]) -> None:
    shown = [sum((rank[f"indices {even}"] for rank in ranks), []) for even in (True, False)]
    assert [len(s) for s in shown] == [6, 5]
    assert [set(s) for s in shown] == [set(range(SAMPLES))] * 2


def test_groups_stay_whole_on_their_rank(ranks: list[dict[str, Any]]) -> None:
    assert [len(rank["batches"]) for rank in ranks] == [2, 2]
    batches = [batch for rank in ranks for batch in rank["batches"]]
    assert {tuple(batch) for batch in batches} == {(0, 4), (1, 2), (3,)}


def test_averaged_gradients_are_those_of_the_whole_batch(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        for got, expected in zip(rank["gradient"], gradient(slice(0, 4)), strict=True):
            assert expected.abs().max() > 1e-3
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
