from __future__ import annotations

import math
from itertools import product

import loops
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_constraints.losses import PartialCrossEntropy, SizePrincipleLoss

SHAPES = [(3, 4, 5, 6), (2, 3, 4, 5, 3)]


def target_for(shape: tuple[int, ...]) -> Tensor:
    """A few marks; the last sample has none of class 2."""
    target = torch.randint(0, shape[1], (shape[0], 1, *shape[2:]), dtype=torch.uint8)
    target = torch.where(torch.rand(target.shape) < 0.3, target, torch.tensor(255, dtype=torch.uint8))
    target[-1][target[-1] == 2] = 1
    return target


def loop(p: Tensor, target: Tensor, classes: tuple[int, ...]) -> float:
    terms = []
    for b, k in product(range(p.shape[0]), classes):
        voxels = list(product(*map(range, p.shape[2:])))
        here = {int(target[(b, 0, *voxel)]) for voxel in voxels}
        if k in here and 255 in here:
            terms.append(math.log(1 + sum(float(p[(b, k, *voxel)].detach()) for voxel in voxels)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("classes", [None, (2,), (1, 2)])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_is_that_of_the_loop(shape: tuple[int, ...], classes: tuple[int, ...] | None) -> None:
    logits, target = torch.randn(shape), target_for(shape)
    wanted = classes or tuple(range(1, shape[1]))
    p = (2 * logits.double()).softmax(1)
    value = SizePrincipleLoss(classes=classes, softmax=True, temperature=2)(logits, target)
    assert value.item() == pytest.approx(loop(p, target, wanted), rel=1e-5)
    assert SizePrincipleLoss(classes=classes)(p, MetaTensor(target)).item() == pytest.approx(value.item(), rel=1e-5)


def test_gradient_is_that_of_the_loop() -> None:
    p, target = (0.05 + torch.rand(2, 3, 3, 5)).requires_grad_(), target_for((2, 3, 3, 5))
    SizePrincipleLoss()(p, target).backward()
    expected = loops.slope(lambda s: loop(s, target, (1, 2)), p)
    torch.testing.assert_close(p.grad.double(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("weight", [0.6, 0.8])
def test_the_region_is_where_marks_fall(weight: float) -> None:
    """A voxel is in the region of all samples, of a part of them on either side of weight / 2, or of none. Each
    sample's region is marked at one voxel, each voxel once, and one prediction has to serve all of them."""
    size, samples = 12, 20
    often, seldom = round((weight / 2 + 0.15) * samples), round((weight / 2 - 0.15) * samples)
    region = torch.zeros(samples, size, dtype=torch.bool)
    region[:, :8], region[:often, 8], region[:seldom, 9] = True, True, True
    drawn = [(i, p) for i in range(samples) for p in range(size) if region[i, p]]
    target = torch.full((len(drawn), 1, size, 1), 255)
    times = torch.tensor([1 / region[i].sum() for i, _ in drawn])  # each sample counts alike, whatever its size
    for row, (_, p) in enumerate(drawn):
        target[row, 0, p, 0] = 1
    marks = PartialCrossEntropy(classes=[1], softmax=True, reduction="none")
    principle = SizePrincipleLoss(softmax=True)
    logit = torch.zeros(size, requires_grad=True)
    optimizer = torch.optim.Adam([logit], lr=0.05)
    for _ in range(1500):
        logits = torch.stack([-logit, logit])[None, :, :, None]
        each = marks(logits.expand(len(drawn), -1, -1, -1), target).flatten(1).sum(1)
        loss = (each * times).sum() / samples + weight * principle(logits, target[:1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (logit > 0).tolist() == [True] * 9 + [False] * 3


def test_only_samples_with_a_mark_and_unknown_voxels_count() -> None:
    logits = torch.randn(3, 2, 4, 5, requires_grad=True)
    target = torch.full((3, 1, 4, 5), 255)
    target[0, 0, 1, 2] = 1
    target[1, 0, 0, 0] = 0  # marked as background alone
    target[2] = torch.randint(0, 2, (1, 4, 5))  # labelled whole
    target[2, 0, 0, 0] = 1
    SizePrincipleLoss(softmax=True)(logits, target).backward()
    assert logits.grad[0].abs().min() > 0 and logits.grad[1:].abs().max() == 0
    value = SizePrincipleLoss(softmax=True)(logits, target[1:2].expand(3, -1, -1, -1))
    logits.grad = None
    value.backward()
    assert value.item() == 0 and logits.grad.abs().max() == 0


def test_an_empty_region_has_a_finite_slope() -> None:
    p = torch.zeros(1, 2, 4, 5, requires_grad=True)
    target = torch.full((1, 1, 4, 5), 255)
    target[0, 0, 0, 0] = 1
    SizePrincipleLoss()(p, target).backward()
    assert torch.equal(p.grad[0, 1], torch.ones(4, 5))


def test_one_sigmoid_channel_is_the_foreground() -> None:
    logits, target = torch.randn(3, 1, 5, 6), target_for((3, 2, 5, 6))
    two = SizePrincipleLoss(softmax=True)(torch.cat([torch.zeros_like(logits), logits], dim=1), target)
    torch.testing.assert_close(SizePrincipleLoss(sigmoid=True)(logits, target), two)


def test_errors() -> None:
    target = torch.full((2, 1, 4, 5), 255)
    with pytest.raises(ValueError, match=r"classes=\[2\], but the input has 2 channels"):
        SizePrincipleLoss(classes=[2])(torch.rand(2, 2, 4, 5), target)
    with pytest.raises(ValueError, match="without unknown=255"):
        SizePrincipleLoss(classes=[255])
    with pytest.raises(ValueError, match="does not fit input"):
        SizePrincipleLoss()(torch.rand(2, 2, 4, 4), target)
    with pytest.raises(ValueError, match="got floats"):
        SizePrincipleLoss()(torch.rand(2, 2, 4, 5), target.float())
