from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from monai.data import Dataset

from monai_constraints.data import Oversampled

GROUPS = ["a"] * 2 + ["b"] * 3 + ["c"] * 45


@pytest.mark.parametrize(("share", "times"), [(0.5, 9), (0.33, 4), (0.9, 81), (0.05, 1)])
def test_chosen_samples_are_the_share(share: float, times: int) -> None:
    data = Oversampled(Dataset(list(range(50))), GROUPS, ["a", "b"], share=share)
    seen = Counter(data[i] for i in range(len(data)))
    assert data.times == times
    assert seen == {i: times if i < 5 else 1 for i in range(50)}
    assert times == 1 or sum(seen[i] for i in range(5)) / len(data) == pytest.approx(share, abs=0.03)


def test_all_chosen_come_once() -> None:
    assert len(Oversampled(Dataset([1, 2]), ["a", "b"], ["a", "b"], share=0.5)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 1.0}, r"share=1\.0"),
        ({"share": 0.0}, r"share=0\.0"),
        ({"chosen": []}, "name one or more"),
        ({"chosen": ["a", "z"]}, r"lacks \['z'\]"),
        ({"groups": ["a"]}, "1 groups for 50 samples"),
    ],
)
def test_refuses(arguments: Any, message: str) -> None:
    given: Any = {"groups": GROUPS, "chosen": ["a"], "share": 0.5, **arguments}
    with pytest.raises(ValueError, match=message):
        Oversampled(Dataset(list(range(50))), **given)
