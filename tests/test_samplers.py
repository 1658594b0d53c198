from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ignite.engine import Events
from monai.data import DataLoader
from monai.engines import Workflow
from torch import distributed

from monai_constraints.data import GroupBatchSampler, epoch_sampler

GROUPS = ["b", "a", "b", "c", "a", "b"]


def test_a_batch_is_a_group_in_its_order() -> None:
    assert list(GroupBatchSampler(GROUPS, shuffle=False)) == [[0, 2, 5], [1, 4], [3]]
    assert sorted(GroupBatchSampler(GROUPS)) == [[0, 2, 5], [1, 4], [3]]


@given(
    groups=st.lists(st.integers(0, 8), min_size=1, max_size=30),
    replicas=st.integers(1, 5),
    epoch=st.integers(0, 1000),
    shuffle=st.booleans(),
)
def test_ranks_partition_the_groups(groups: list[int], replicas: int, epoch: int, shuffle: bool) -> None:
    whole = {g: [i for i, other in enumerate(groups) if other == g] for g in groups}
    ranks = []
    for rank in range(replicas):
        sampler = GroupBatchSampler(groups, shuffle=shuffle, num_replicas=replicas, rank=rank)
        sampler.set_epoch(epoch)
        ranks.append(list(sampler))
        assert len(sampler) == len(ranks[-1])
    counts = Counter(groups[batch[0]] for batches in ranks for batch in batches)
    assert all(batch == whole[groups[batch[0]]] for batches in ranks for batch in batches)  # none split
    assert set(counts) == set(groups)
    assert len({len(batches) for batches in ranks}) == 1
    assert sum(counts.values()) - len(counts) == -len(counts) % replicas  # only the padding repeats
    assert max(counts.values()) - min(counts.values()) <= 1
    together = [batch for turn in zip(*ranks) for batch in turn]
    single = GroupBatchSampler(groups, shuffle=shuffle, num_replicas=1, rank=0)
    single.set_epoch(epoch)
    assert together[: len(counts)] == list(single)


def test_order_is_a_closed_form_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = GroupBatchSampler(range(50), seed=seed)
        torch.rand(epoch + 1)  # the global generator has no part in it
        sampler.set_epoch(epoch)
        return [batch[0] for batch in sampler]

    assert order(0, 7) == order(0, 7) and order(0, 7) != order(0, 8) and order(0, 7) != order(3, 7)
    unshuffled = GroupBatchSampler(range(50), shuffle=False)
    unshuffled.set_epoch(7)
    assert [batch[0] for batch in unshuffled] == list(range(50))


def test_errors() -> None:
    assert len(GroupBatchSampler(GROUPS, max_size=3)) == 3
    with pytest.raises(ValueError, match="group 'b' has 3 samples, max_size is 2"):
        GroupBatchSampler(GROUPS, max_size=2)
    with pytest.raises(ValueError, match="groups is empty"):
        GroupBatchSampler([])
    with pytest.raises(ValueError, match="rank is 2 of 2"):
        GroupBatchSampler(GROUPS, num_replicas=2, rank=2)


def test_world_from_torch_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    assert list(GroupBatchSampler(GROUPS, shuffle=False)) == [[1, 4], [0, 2, 5]]
    assert list(epoch_sampler(range(5), shuffle=False)) == [1, 3, 0]  # type: ignore[arg-type]
    assert list(epoch_sampler(range(5), shuffle=False, even=False)) == [1, 3]  # type: ignore[arg-type]


def test_epoch_sampler_resumes_exactly_under_a_monai_engine() -> None:
    def run(first: int, last: int) -> dict[int, list[int]]:
        data = list(range(11))
        loader = DataLoader(data, batch_size=1, sampler=epoch_sampler(data, seed=4))  # type: ignore[arg-type]
        seen: dict[int, list[int]] = {}
        engine = Workflow(
            device="cpu",
            max_epochs=last,
            data_loader=loader,
            prepare_batch=lambda batch, device, non_blocking: batch,
            iteration_update=lambda engine, batch: seen.setdefault(engine.state.epoch, []).append(int(batch)),
        )
        engine.add_event_handler(Events.STARTED, lambda: setattr(engine.state, "epoch", first))
        engine.run()
        return seen

    straight, resumed = run(0, 4), run(2, 4)
    assert len({tuple(order) for order in straight.values()}) == 4
    assert all(sorted(order) == list(range(11)) for order in straight.values())
    assert straight[1] == torch.randperm(11, generator=torch.Generator().manual_seed(4 + 1)).tolist()
    assert resumed == {epoch: straight[epoch] for epoch in (3, 4)}
