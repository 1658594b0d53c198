"""The share of a batch that is annotated, and epochs that are counted in steps."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from monai_constraints.data import MixedSampler, MixedSlices, slice_loader


def epochs(count: int, **options: Any) -> list[list[int]]:
    sampler, found = MixedSampler(**options), []
    for epoch in range(1, count + 1):
        sampler.set_epoch(epoch)
        found.append(list(sampler))
        assert len(found[-1]) == len(sampler)
    return found


@pytest.mark.parametrize(("share", "samples"), [(0.5, 12), (0.25, 16), (1 / 3, 9), (0.3, 10)])
def test_every_sample_once_before_any_twice(share: float, samples: int) -> None:
    chosen = [True] * 5 + [False] * 17
    row = [index for epoch in epochs(40, chosen=chosen, share=share, samples=samples) for index in epoch]
    kinds = [[index for index in row if chosen[index] is kind] for kind in (True, False)]
    assert len(kinds[0]) == pytest.approx(share * len(row), abs=1)
    for kind, size in zip(kinds, (5, 17)):
        turns = [kind[i : i + size] for i in range(0, len(kind) - size + 1, size)]
        assert len(turns) > 3 and all(len(set(turn)) == size for turn in turns) and turns[0] != turns[1]


def test_half_of_every_batch() -> None:
    chosen = [True] * 3 + [False] * 20
    for epoch in epochs(5, chosen=chosen, share=0.5, samples=24):
        assert all(sum(chosen[i] for i in epoch[k : k + 4]) == 2 for k in range(0, 24, 4))


def test_the_first_epochs_have_the_annotated_alone() -> None:
    """What follows is half of each kind, and no sample comes twice before all of its kind came once."""
    chosen = [True] * 3 + [False] * 20
    found = epochs(5, chosen=chosen, share=0.5, samples=8, alone=2)
    assert [sum(chosen[i] for i in epoch) for epoch in found] == [8, 8, 4, 4, 4]
    others = [i for epoch in found for i in epoch if not chosen[i]]
    own = [i for epoch in found for i in epoch if chosen[i]]
    assert len(set(others)) == len(others) == 12 and all(len(set(own[i : i + 3])) == 3 for i in range(0, 27, 3))
    ranks = [epochs(5, chosen=chosen, share=0.5, samples=8, alone=2, num_replicas=2, rank=rank) for rank in (0, 1)]
    assert [a + b for a, b in zip(*ranks)] == found
    with pytest.raises(ValueError, match="alone=-1"):
        epochs(1, chosen=chosen, share=0.5, samples=8, alone=-1)


def test_ranks_share_an_epoch_and_each_has_both_kinds() -> None:
    options: dict[str, Any] = {"chosen": [True] * 3 + [False] * 9, "share": 0.5, "samples": 12, "seed": 4}
    whole = epochs(3, **options)
    parts = [epochs(3, **options, num_replicas=2, rank=rank) for rank in (0, 1)]
    assert [a + b for a, b in zip(*parts)] == whole
    assert all(sum(i < 3 for i in epoch) == 3 for part in parts for epoch in part)
    assert epochs(3, **{**options, "seed": 5}) != whole


def test_one_kind_alone_has_as_many_steps() -> None:
    (first, second) = epochs(2, chosen=[True] * 4, share=0.5, samples=10)
    assert Counter(first + second) == dict.fromkeys(range(4), 5)
    with pytest.raises(ValueError, match="share=1"):
        MixedSampler([True], share=1, samples=3)


def volumes(annotated: int, others: int) -> list[dict[str, Any]]:
    cases = []
    for number in range(annotated + others):
        shape = (1, 6, 5, 3)
        weak = torch.randint(0, 2, shape) if number < annotated else torch.full(shape, 255)
        case = {"image": torch.full(shape, float(number)), "weak": weak.to(torch.uint8), "case": f"c{number}"}
        cases.append(case | ({"annotated": True} if number < annotated else {}))
    return cases


@pytest.mark.parametrize("annotated", [1, 6])
def test_batches_of_the_loader(annotated: int) -> None:
    data = MixedSlices(volumes(annotated, 7), lambda case: case, samples=40, share=0.5, classes=["disc"])
    assert data.annotated == [True] * 3 * annotated + [False] * 21
    loader = slice_loader(data, batch_size=4)
    batches = list(loader)
    assert len(batches) == 10 and len(data) == 3 * (annotated + 7)
    assert all((batch["weak"] < 255).flatten(1).all(1).sum() == 2 for batch in batches)
    assert len(list(slice_loader(data, batch_size=4, shuffle=False))) == -(-len(data) // 4)


def test_volumes_of_both_kinds_by_turns() -> None:
    data = MixedSlices(volumes(2, 5), lambda case: case, samples=40, share=0.5)
    loader = slice_loader(data, batch_size=4, volumes=True, seed=1)
    seen = []
    for epoch in (1, 2):
        loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
        batches = list(loader)
        assert len(batches) == len(loader) == 10  # as many as without volumes
        for batch in batches:
            assert batch["slice"].tolist() == [0, 1, 2] and len(set(batch["case"])) == 1
        seen += [batch["case"][0] for batch in batches]
    assert [name < "c2" for name in seen] == [False, True] * 10
    others = seen[::2]
    assert sorted(others[:5]) == sorted(others[5:]) == ["c2", "c3", "c4", "c5", "c6"] and others[:5] != others[5:]
    in_order = slice_loader(data, volumes=True, shuffle=False)
    assert [batch["case"][0] for batch in in_order] == [f"c{n}" for n in range(7)]


def test_where_no_case_says_it_those_with_a_label_are_annotated() -> None:
    cases = volumes(2, 1)
    for case in cases:
        case["label" if case.pop("annotated", False) else "image"] = case["image"]
    add = lambda case: {**case, "image": case["image"] + 1}  # noqa: E731
    data = MixedSlices(cases, lambda case: case, samples=4, of_volume=[add])
    assert data.annotated == [True] * 6 + [False] * 3 and float(data[0]["image"].mean()) == 1


def test_refusals() -> None:
    for samples, share, words in ((4, 1.0, "share=1.0"), (0, 0.5, "samples=0")):
        with pytest.raises(ValueError, match=words):
            MixedSlices(volumes(1, 1), lambda case: case, samples=samples, share=share)
    with pytest.raises(ValueError, match="0 annotated cases"):
        MixedSlices(volumes(0, 2), lambda case: case, samples=4)
    with pytest.raises(ValueError, match="ring in no label of the 1 annotated cases"):
        MixedSlices(volumes(1, 2), lambda case: case, samples=4, classes=["disc", "ring"])
