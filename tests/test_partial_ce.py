from __future__ import annotations

import math
from itertools import product

import loops
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor
from torch.nn.functional import cross_entropy

from monai_constraints.losses import PartialCrossEntropy

SHAPES = [(2, 4, 5, 6), (2, 4, 5, 6, 3)]


def target_for(shape: tuple[int, ...]) -> Tensor:
    """Some voxels of each class, most unknown; uint8 as it is stored."""
    target = torch.randint(0, shape[1], (shape[0], 1, *shape[2:]), dtype=torch.uint8)
    return torch.where(torch.rand(target.shape) < 0.4, target, torch.tensor(255, dtype=torch.uint8))


def loop(p: Tensor, target: Tensor, classes: tuple[int, ...]) -> tuple[float, int]:
    """-sum over labelled voxels of log s_p, and how many there are."""
    total, count = 0.0, 0
    for b in range(len(p)):
        for voxel in product(*map(range, p.shape[2:])):
            y = int(target[(b, 0, *voxel)])
            if y in classes:
                total -= math.log(float(p[(b, y, *voxel)].detach()))
                count += 1
    return total, count


@pytest.mark.parametrize("classes", [None, (0, 1, 2, 3), (2,), [3, 1]])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_are_those_of_the_loop(shape: tuple[int, ...], classes: tuple[int, ...] | None) -> None:
    logits, target = torch.randn(shape), target_for(shape)
    total, count = loop(logits.double().softmax(1), target, tuple(classes or range(4)))
    assert 0 < count < target.numel()
    for reduction, expected in (("sum", total), ("mean", total / count)):
        loss = PartialCrossEntropy(classes=classes, softmax=True, reduction=reduction)  # type: ignore[arg-type]
        assert loss(logits, target).item() == pytest.approx(expected, rel=1e-5)
    each = PartialCrossEntropy(classes=classes, softmax=True, reduction="none")(logits, target)
    assert each.shape == target.shape and (each > 0).sum() == count
    assert each.sum().item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1.0, 8.0])  # from 69 on, the probability floor shows
def test_all_classes_are_torchs_cross_entropy(shape: tuple[int, ...], scale: float) -> None:
    target = target_for(shape)
    ours = (scale * torch.randn(shape)).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    loss = PartialCrossEntropy(softmax=True)(ours, target)
    expected = cross_entropy(theirs, target[:, 0].long(), ignore_index=255)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6)


def test_gradient_is_that_of_the_loop() -> None:
    p, target = (0.05 + torch.rand(2, 4, 3, 5)).requires_grad_(), target_for((2, 4, 3, 5))
    PartialCrossEntropy(classes=[1, 2, 3])(p, target).backward()
    _, count = loop(p, target, (1, 2, 3))
    expected = loops.slope(lambda s: loop(s, target, (1, 2, 3))[0] / count, p)
    assert count > 0
    torch.testing.assert_close(p.grad.double(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("classes, fill", [(None, 255), ([1], 0), ([1], 255)])
def test_nothing_labelled_is_zero_with_zero_gradient(classes: list[int] | None, fill: int) -> None:
    logits = (100 * torch.randn(2, 4, 5, 6)).requires_grad_()
    value = PartialCrossEntropy(classes=classes, softmax=True)(logits, torch.full((2, 1, 5, 6), fill))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_another_value_for_unknown() -> None:
    logits, target = torch.randn(2, 4, 5, 6), target_for((2, 4, 5, 6)).long()
    other = PartialCrossEntropy(softmax=True, unknown=-1)(logits, torch.where(target == 255, -1, target))
    assert torch.equal(other, PartialCrossEntropy(softmax=True)(logits, target))


def test_confident_mistakes_keep_a_finite_value_and_a_gradient() -> None:
    logits = torch.tensor([60.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 3, 4).clone().requires_grad_()
    value = PartialCrossEntropy(softmax=True)(logits, torch.ones(1, 1, 3, 4, dtype=torch.long))
    value.backward()
    assert value.item() == pytest.approx(60, rel=1e-4)
    assert logits.grad[0, 0].sum().item() == pytest.approx(1, rel=1e-3)
    certain = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 3, 4).clone().requires_grad_()
    value = PartialCrossEntropy()(certain, torch.ones(1, 1, 3, 4, dtype=torch.long))
    value.backward()
    assert value.isfinite() and certain.grad.isfinite().all()


def test_one_sigmoid_channel_is_the_foreground() -> None:
    logits = torch.randn(3, 1, 4, 5).requires_grad_()
    target = torch.randint(0, 2, (3, 1, 4, 5))
    value = PartialCrossEntropy(sigmoid=True, temperature=2)(logits, target)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(2 * logits, target.float())
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    mistake = torch.full((1, 1, 2, 3), 40.0, requires_grad=True)
    value = PartialCrossEntropy(sigmoid=True)(mistake, torch.zeros(1, 1, 2, 3, dtype=torch.long))
    value.backward()
    assert value.item() == pytest.approx(40) and mistake.grad.sum().item() == pytest.approx(1)
    p = torch.rand(3, 1, 4, 5)
    expected = torch.nn.functional.binary_cross_entropy(p, target.float())
    torch.testing.assert_close(PartialCrossEntropy()(p, target), expected, rtol=1e-5, atol=1e-6)


def test_the_mean_of_samples_weighs_them_equally() -> None:
    """As batches of one image would, where a sample has labels at all."""
    logits, target = torch.randn(4, 3, 5, 6), torch.randint(0, 3, (4, 1, 5, 6))
    target[1].fill_(255)[0, 2, 3] = 1
    target[2] = 255
    value = PartialCrossEntropy(softmax=True, reduction="sample")(logits, target)
    alone = PartialCrossEntropy(softmax=True)
    each = [alone(logits[i : i + 1], target[i : i + 1]).item() for i in (0, 1, 3)]
    assert value.item() == pytest.approx(sum(each) / 3)
    assert value.item() != pytest.approx(alone(logits, target).item(), rel=1e-3)
    nothing = PartialCrossEntropy(softmax=True, reduction="sample")(logits, torch.full_like(target, 255))
    assert nothing.item() == 0


def test_a_labelled_voxel_weighs_the_same_in_every_batch() -> None:
    logits, target = torch.randn(3, 3, 5, 6), torch.randint(0, 3, (3, 1, 5, 6))
    target[1].fill_(255)[0, 2, 3] = 1
    target[2] = 255
    loss = PartialCrossEntropy(softmax=True, reduction="voxel")
    expected = 0.0
    for i, _, row, column in (target != 255).nonzero():
        expected -= logits[i, :, row, column].log_softmax(0)[target[i, 0, row, column]].item() / (3 * 5 * 6)
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-5)
    assert loss(logits[2:], target[2:]).item() == 0
    full = PartialCrossEntropy(softmax=True)(logits[:1], target[:1])
    torch.testing.assert_close(loss(logits[:1], target[:1]), full)


def test_half_precision_and_metatensors() -> None:
    logits, target = torch.randn(2, 4, 5, 6), target_for((2, 4, 5, 6))
    loss = PartialCrossEntropy(softmax=True)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(logits.bfloat16(), target)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(logits.bfloat16().float(), target).item())
    assert type(loss(MetaTensor(logits), MetaTensor(target))) is Tensor
    assert torch.equal(loss(MetaTensor(logits), MetaTensor(target)), loss(logits, target))


def test_errors_name_the_shapes() -> None:
    loss, logits = PartialCrossEntropy(softmax=True), torch.randn(3, 4, 5, 6)
    message = r"does not fit input \(3, 4, 5, 6\); expected \(B, 1, \*S\) = \(3, 1, 5, 6\)"
    for wrong in ((3, 5, 6), (3, 4, 5, 6), (3, 1, 6, 5), (2, 1, 5, 6)):
        with pytest.raises(ValueError, match=message):
            loss(logits, torch.zeros(wrong, dtype=torch.long))
    with pytest.raises(ValueError, match="must be integer classes, got floats"):
        loss(logits, torch.zeros(3, 1, 5, 6))
    with pytest.raises(ValueError, match=r"classes=\[1, 255\] must be a list without unknown=255"):
        PartialCrossEntropy(classes=[1, 255])
    with pytest.raises(ValueError, match="reduction='average'; choose mean, voxel, sample, sum, none"):
        PartialCrossEntropy(reduction="average")  # type: ignore[arg-type]
