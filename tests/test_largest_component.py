from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_constraints.transforms import LargestComponentd


@pytest.mark.parametrize("depth", [None, 3])
def test_the_largest_component_of_each_class_stays(depth: int | None) -> None:
    classes = torch.zeros(1, 8, 9, dtype=torch.uint8)
    classes[0, 1:4, 1:4] = 2
    classes[0, 4, 4] = 2  # touches by a corner
    classes[0, 6, 1:4] = 2
    classes[0, 0, 8] = classes[0, 7, 6:8] = 1
    expected = classes.clone()
    expected[0, 6, 1:4] = expected[0, 0, 8] = 0
    if depth:
        classes, expected = (x[..., None].repeat(1, 1, 1, depth) for x in (classes, expected))
        classes[0, 6, 6, 0] = 2
    out = LargestComponentd("pred")({"pred": MetaTensor(classes), "case": "a"})
    assert out["pred"].dtype == torch.uint8 and isinstance(out["pred"], MetaTensor) and out["case"] == "a"
    assert torch.equal(out["pred"].as_tensor(), expected)
    one_hot, wanted = (torch.cat([x == k for k in range(4)]).float() for x in (classes, expected))
    assert torch.equal(LargestComponentd("pred")({"pred": one_hot})["pred"], wanted)


def test_nothing_predicted_stays_nothing() -> None:
    empty = torch.zeros(1, 4, 5)
    assert torch.equal(LargestComponentd("pred")({"pred": empty})["pred"], empty)
    with pytest.raises(ValueError, match=r"'pred' is \(4, 5\)"):
        LargestComponentd("pred")({"pred": np.zeros((4, 5))})
