from __future__ import annotations

from itertools import product
from typing import Any

import loops
import pytest
import torch
from monai.data import MetaTensor
from monai.losses import DiceLoss
from torch import Tensor

from monai_constraints.losses import PartialDice

SHAPES = [(2, 4, 5, 6), (2, 4, 5, 6, 3)]


def target_for(shape: tuple[int, ...]) -> Tensor:
    """Some voxels of each class, most unknown; uint8 as it is stored."""
    target = torch.randint(0, shape[1], (shape[0], 1, *shape[2:]), dtype=torch.uint8)
    return torch.where(torch.rand(target.shape) < 0.4, target, torch.tensor(255, dtype=torch.uint8))


def loop(p: Tensor, target: Tensor, classes: tuple[int, ...], samples: list[int]) -> list[float]:
    """1 - Dice of each class over the labelled voxels of these samples."""
    result = []
    for k in classes:
        both = total = 0.0
        for b in samples:
            for voxel in product(*map(range, p.shape[2:])):
                y = int(target[(b, 0, *voxel)])
                if y != 255:
                    both += float(p[(b, k, *voxel)].detach()) * (y == k)
                    total += float(p[(b, k, *voxel)].detach()) + (y == k)
        result.append(1 - 2 * both / total)
    return result


@pytest.mark.parametrize("classes", [None, (0, 1, 2, 3), (2,), [3, 1]])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_are_those_of_the_loop(shape: tuple[int, ...], classes: tuple[int, ...] | None) -> None:
    logits, target = torch.randn(shape), target_for(shape)
    wanted = tuple(classes or range(4))
    p = logits.double().softmax(1)
    together, apart = loop(p, target, wanted, [0, 1]), [loop(p, target, wanted, [b]) for b in (0, 1)]
    for batch, expected in ((True, torch.tensor(together)), (False, torch.tensor(apart))):
        each = PartialDice(classes=classes, softmax=True, batch=batch, reduction="none")(logits, target)
        torch.testing.assert_close(each, expected, rtol=1e-4, atol=1e-5)
        for reduction, value in (("mean", expected.mean()), ("sum", expected.sum())):
            given: Any = {"batch": batch, "reduction": reduction}
            loss = PartialDice(classes=classes, softmax=True, **given)
            torch.testing.assert_close(loss(logits, target), value, rtol=1e-4, atol=1e-5)


def test_gradient_is_that_of_the_loop() -> None:
    p, target = (0.05 + torch.rand(2, 4, 3, 5)).requires_grad_(), target_for((2, 4, 3, 5))
    PartialDice(classes=[1, 2, 3])(p, target).backward()
    expected = loops.slope(lambda s: sum(loop(s, target, (1, 2, 3), [0, 1])) / 3, p)
    torch.testing.assert_close(p.grad.double(), expected, rtol=1e-3, atol=1e-5)
    assert (p.grad.abs() * (target == 255)).max() == 0


def test_where_all_is_labelled_it_is_monais_dice() -> None:
    logits, target = torch.randn(3, 4, 5, 6), torch.randint(0, 4, (3, 1, 5, 6))
    expected = DiceLoss(softmax=True, to_onehot_y=True, batch=True)(logits, target)
    torch.testing.assert_close(PartialDice(softmax=True)(logits, target), expected)


@pytest.mark.parametrize("batch", [True, False])
def test_nothing_labelled_is_zero_with_zero_gradient(batch: bool) -> None:
    logits = (100 * torch.randn(2, 4, 5, 6)).requires_grad_()
    value = PartialDice(softmax=True, batch=batch)(logits, torch.full((2, 1, 5, 6), 255))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_a_class_without_labels_has_a_finite_gradient() -> None:
    logits = (100 * torch.randn(2, 4, 5, 6)).requires_grad_()
    PartialDice(softmax=True)(logits, torch.randint(0, 2, (2, 1, 5, 6))).backward()
    assert logits.grad.isfinite().all() and logits.grad.abs().sum() > 0


def test_one_sigmoid_channel_is_the_foreground() -> None:
    logits, target = torch.randn(3, 1, 4, 5), torch.randint(0, 2, (3, 1, 4, 5))
    value = PartialDice(classes=[1], sigmoid=True)(logits, target)
    torch.testing.assert_close(value, DiceLoss(sigmoid=True, batch=True)(logits, target))


def test_half_precision_and_metatensors() -> None:
    logits, target = torch.randn(2, 4, 5, 6), target_for((2, 4, 5, 6))
    loss = PartialDice(softmax=True)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(logits.bfloat16(), target)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(logits.bfloat16().float(), target).item())
    assert type(loss(MetaTensor(logits), MetaTensor(target))) is Tensor


def test_errors_name_the_shapes() -> None:
    loss, logits = PartialDice(softmax=True), torch.randn(3, 4, 5, 6)
    message = r"does not fit input \(3, 4, 5, 6\); expected \(B, 1, \*S\) = \(3, 1, 5, 6\)"
    for wrong in ((3, 5, 6), (3, 4, 5, 6), (3, 1, 6, 5), (2, 1, 5, 6)):
        with pytest.raises(ValueError, match=message):
            loss(logits, torch.zeros(wrong, dtype=torch.long))
    with pytest.raises(ValueError, match="must be integer classes, got floats"):
        loss(logits, torch.zeros(3, 1, 5, 6))
    with pytest.raises(ValueError, match=r"classes=\[4\], but the input has 4 channels"):
        PartialDice(classes=[4], softmax=True)(logits, torch.zeros(3, 1, 5, 6, dtype=torch.long))
    with pytest.raises(ValueError, match=r"classes=\[1, 255\] must be a list without unknown=255"):
        PartialDice(classes=[1, 255])
    with pytest.raises(ValueError, match="reduction='average'; choose mean, sum, none"):
        PartialDice(reduction="average")  # type: ignore[arg-type]
