"""The 3D Dice of every validation is that of the volumes, in whatever order their slices come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events

from monai_constraints.handlers import VolumeDice
from monai_constraints.metrics.volume import dice_of_masks


def validated(*validations: list[list[dict[str, Any]]]) -> list[float]:
    """The metric after each validation, of batches of samples with `maps`: prediction and truth as classes (H, W)."""

    def step(engine: Engine, batch: Any) -> Any:
        one_hot = [[torch.eye(3)[maps.long()].movedim(-1, 0) for maps in item["maps"]] for item in batch]
        return [{"pred": pred, "label": label} for pred, label in one_hot]

    engine, found = Engine(step), list[float]()
    VolumeDice().attach(engine)
    engine.add_event_handler(Events.COMPLETED, lambda: found.append(engine.state.metrics["dice_3d"]))
    for batches in validations:
        engine.run(batches)
    return found


def test_volumes_of_slices() -> None:
    generator = torch.Generator().manual_seed(0)
    volumes = {case: torch.randint(0, 3, (2, depth, 6, 5), generator=generator) for case, depth in (("a", 4), ("b", 2))}
    volumes["c"] = torch.zeros(2, 3, 6, 5)  # nothing there, nothing found
    volumes["b"][1][volumes["b"][1] == 2] = 0  # found, and not there
    items = [
        {"case": case, "slice": torch.tensor(z), "maps": maps[:, z]} for case, maps in volumes.items()
        for z in range(maps.shape[1])
    ]  # fmt: skip
    masks = [[(maps == k).numpy() for maps in pair] for pair in volumes.values() for k in (1, 2)]
    expected = np.mean([dice_of_masks(*pair) for pair in masks])
    assert 0.2 < expected < 0.8
    mixed = [items[i] for i in torch.randperm(len(items), generator=generator).tolist()]
    again = [*mixed[:5], *mixed[:3]]  # a rank's padding shows slices twice
    (first, second) = validated([items], [again, mixed[5:]])
    assert first == pytest.approx(expected) and second == pytest.approx(expected)


def test_each_validation_begins_anew_and_whole_volumes_need_no_number() -> None:
    full, empty = torch.ones(2, 4, 4, 4), torch.stack([torch.zeros(4, 4, 4), torch.ones(4, 4, 4)])
    assert validated([[{"case": "a", "maps": full}]], [[{"case": "b", "maps": empty}]]) == [1.0, 0.5]
