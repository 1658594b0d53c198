"""Labels of any integer type, byte order and stride; and bounds on another device."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_constraints.arrays import of_classes
from monai_constraints.constraints import Centroid, Common, Individual, Size, Tag, Unbounded
from monai_constraints.data import LoadCased
from monai_constraints.losses import PartialCrossEntropy, PartialDice, SizePrincipleLoss
from monai_constraints.transforms import (
    ConstraintBoundsd,
    ErodedLabeld,
    FullyAnnotatedd,
    OneStructured,
    PointLabeld,
    ScribbleLabeld,
    SignedDistanceMapd,
)

LABEL = np.zeros((1, 8, 9), np.uint8)
LABEL[0, 2:6, 3:8] = 1
KINDS = ["?", "i1", "u1", ">i2", "<u2", ">u2", "<i4", "<u4", ">i8", "<u8"]
WAYS: dict[str, Any] = {
    "as it is": lambda x: x,
    "backwards": lambda x: x[:, ::-1].copy()[:, ::-1],
    "every other": lambda x: np.repeat(x, 2, 2)[..., ::2],
    "Fortran": np.asfortranarray,
}
TRANSFORMS: dict[str, Any] = {
    "bounds": (ConstraintBoundsd(Size(classes=[1]), Individual(relative=0.1), "it"), "it_bounds"),
    "distance": (SignedDistanceMapd(classes=[1], spacing="voxel"), "distance"),
    "structure": (OneStructured("label", 1, classes=2), "label"),
    "eroded": (ErodedLabeld(classes=[1], size=2), "weak"),
    "point": (PointLabeld(classes=[0, 1], radius=1), "weak"),
    "scribble": (ScribbleLabeld(classes=2, key="label"), "weak"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_take_labels_of_any_kind(name: str, kind: str) -> None:
    transform, key = TRANSFORMS[name]
    expected = torch.as_tensor(transform({"label": torch.as_tensor(LABEL), "case": "a"})[key])
    for way in WAYS.values():
        found = transform({"label": way(LABEL.astype(kind)), "case": "a"})[key]
        assert torch.equal(torch.as_tensor(found), expected)
    tensor = torch.as_tensor(LABEL.astype(np.dtype(kind).newbyteorder("=")))
    for given in (tensor, tensor.mT.contiguous().mT, MetaTensor(tensor)):
        assert torch.equal(torch.as_tensor(transform({"label": given, "case": "a"})[key]), expected)


@pytest.mark.parametrize("loss", [PartialCrossEntropy, PartialDice, SizePrincipleLoss])
def test_losses_take_labels_of_any_kind(loss: Any) -> None:
    x, label = torch.randn(1, 2, 8, 9), torch.as_tensor(LABEL)[None]
    expected = loss(softmax=True)(x, label)
    for kind in KINDS:
        target = torch.as_tensor(LABEL.astype(np.dtype(kind).newbyteorder("=")))[None]
        assert torch.equal(loss(softmax=True)(x, target), expected)
    with pytest.raises(ValueError, match=r"the target holds \[-1\]"):  # which PyTorch calls equal to 255
        loss(softmax=True)(x, -label.to(torch.int8))


@pytest.mark.parametrize("kind", [">i2", ">f4", "<u2"])
def test_arrays_in_memory_are_read(kind: str) -> None:
    volume = np.arange(24).reshape(1, 4, 3, 2).astype(kind)[:, ::-1]
    read = LoadCased(["image", "label"])({"image": volume, "label": volume, "case": "a"})
    for key in ("image", "label"):
        assert np.array_equal(np.asarray(read[key]), volume)


def test_of_classes_keeps_metadata() -> None:
    given = MetaTensor(torch.ones(1, 2, 2, dtype=torch.uint16), meta={"a": 1})
    found = of_classes(given)
    assert isinstance(found, MetaTensor) and found.meta["a"] == 1 and found.dtype == torch.int32


RULES = [Tag(), Common(2, 30), Common([[2.0]], [[30.0]]), Individual(relative=0.1), Unbounded()]


@pytest.mark.parametrize("statistic", [Size, Centroid])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_bounds_are_made_where_the_label_is(rule: Any, statistic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device without values: PyTorch computes shapes there, and refuses to mix two devices."""
    if isinstance(rule, Common) and rule.lower.ndim and statistic is Centroid:
        return
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda self: False)  # nothing is wrong with values that are not there
    monkeypatch.setattr(torch, "autocast", lambda *given, **named: nullcontext())  # which this device has not
    label = torch.zeros(1, 8, 9, dtype=torch.uint8, device="meta")
    sample = ConstraintBoundsd(statistic(classes=[1]), rule, "it")({"label": label, "case": "a"})
    assert sample["it_bounds"].device == label.device
    free = FullyAnnotatedd(["a"], bounds=["it"])
    monkeypatch.setattr(free, "annotate", dict)
    assert free(sample)["it_bounds"].device == label.device
