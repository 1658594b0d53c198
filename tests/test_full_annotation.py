from __future__ import annotations

import pytest
import torch

from monai_constraints.constraints import Quadratic, Size, Tag
from monai_constraints.data import choose_cases
from monai_constraints.losses import ConstraintLoss
from monai_constraints.transforms import ConstraintBoundsd, FullyAnnotatedd, PointLabeld


def test_a_full_case_has_its_label_and_no_bounds_and_others_stay() -> None:
    label = torch.zeros(1, 9, 7, dtype=torch.uint8)
    label[0, 2:7, 2:6] = 1
    size = Size(classes=[1])
    weaken = PointLabeld(classes=[1], radius=1, seed=0), ConstraintBoundsd(size, Tag(), "size")
    hybrid = FullyAnnotatedd(["a"])
    for case in ("a", "b"):
        sample = weaken[1](weaken[0]({"label": label, "case": case, "slice": 3}))
        before = {key: value for key, value in sample.items()}
        after = hybrid(sample)
        assert sample == before and set(after) == set(before)
        if case == "b":
            assert all(after[key] is before[key] for key in before)
            continue
        assert torch.equal(after["weak"], label) and not torch.equal(before["weak"], label)
        assert before["size_bounds"].tolist() == [[[1, 63]]]
        assert after["size_bounds"].tolist() == [[[-torch.inf, torch.inf]]]
        logits = torch.zeros(1, 2, 9, 7, requires_grad=True)
        loss = ConstraintLoss(size, Quadratic(), softmax=True)(logits, after["size_bounds"][None])
        loss.backward()
        assert loss.item() == 0 and logits.grad is not None and not logits.grad.any()
    assert "size_bounds" not in hybrid({"label": label, "case": "a"})
    with pytest.raises(KeyError, match="no 'label'"):
        hybrid({"case": "a"})
    with pytest.raises(ValueError, match="one case or more"):
        FullyAnnotatedd([])


def test_chosen_patients_are_spread_and_whole() -> None:
    items = [{"patient": f"p{i:02d}", "case": f"p{i:02d}_{frame}"} for i in range(20) for frame in "ab"]
    chosen = choose_cases(items, 5)
    assert [item["case"] for item in chosen] == [f"p{i:02d}_{frame}" for i in (2, 6, 10, 14, 18) for frame in "ab"]
    for count in range(1, 21):
        assert len({item["patient"] for item in choose_cases(items, count)}) == count
    assert choose_cases(items, None) == items
    with pytest.raises(ValueError, match="count is 21, the list has 20 patients"):
        choose_cases(items, 21)
    assert [item["case"] for item in choose_cases([{"case": "x"}, {"case": "y"}], 1)] == ["y"]


def test_fewer_cases_are_among_more_and_of_both_phases() -> None:
    items = [{"patient": f"p{i:02d}", "case": f"p{i:02d}_{frame}"} for i in range(20) for frame in "ab"]
    names = [[item["case"] for item in choose_cases(items, count, by="case")] for count in range(1, 41)]
    assert [len(chosen) for chosen in names] == list(range(1, 41)) and names[-1] == [item["case"] for item in items]
    assert all(set(fewer) < set(more) and fewer == sorted(fewer) for fewer, more in zip(names, names[1:]))
    assert {name[-1] for name in names[9]} == {"a", "b"}
    with pytest.raises(ValueError, match="count is 41, the list has 40 cases"):
        choose_cases(items, 41, by="case")
    with pytest.raises(ValueError, match="by is 'slice'"):
        choose_cases(items, 1, by="slice")
