"""Bounds of mixed images, against the enumeration of all labellings that agree with what is known."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from monai_constraints.constraints import Centroid, Root, Size
from monai_constraints.transforms import BatchCopyPaste

FREE = (-torch.inf, torch.inf)
SHAPE = (2, 3)


class Fixed(BatchCopyPaste):
    """With a box that the test knows."""

    def __init__(self, box: Tensor, *, bounds: dict[str, Size | Root]) -> None:
        super().__init__(bounds=bounds)  # type: ignore[arg-type]
        self.box = box

    def boxes(self, image: Tensor) -> Tensor:
        return self.box


def labellings(weak: Tensor, bounds: tuple[float, float]) -> list[Tensor]:
    """All labels of background and one class that agree with an image's weak label and bounds."""
    free = (weak == 255).flatten().nonzero().flatten().tolist()
    found = []
    for values in itertools.product((0, 1), repeat=len(free)):
        label = weak.flatten().clone()
        label[free] = torch.tensor(values, dtype=label.dtype)
        if bounds[0] <= int((label == 1).sum()) <= bounds[1]:
            found.append(label.reshape(weak.shape))
    return found


def random_case(seed: int) -> tuple[Tensor, list[tuple[float, float]], Tensor]:
    """Weak labels of four images (whole, nothing, parts, nothing), bounds that a label meets, and boxes."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, 2, (4, 1, *SHAPE), generator=generator, dtype=torch.uint8)
    weak = truth.clone()
    weak[1], weak[3] = 255, 255
    weak[2][torch.rand(1, *SHAPE, generator=generator) < 0.5] = 255
    sizes = truth.flatten(1).sum(1).tolist()
    slack = torch.randint(0, 3, (4, 2), generator=generator).tolist()
    bounds = [(float(max(0, s - a)), float(s + b)) for s, (a, b) in zip(sizes, slack)]
    bounds[0] = FREE
    if seed % 2:
        bounds[3] = FREE
    return weak, bounds, torch.rand(4, 1, *SHAPE, generator=generator) < 0.5


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("root", [False, True])
def test_bounds_are_exact(seed: int, root: bool) -> None:
    weak, given, box = random_case(seed)
    statistic = Root(Size(classes=[1])) if root else Size(classes=[1])
    bounds = statistic.link(torch.tensor(given)[:, None, None])
    image = torch.arange(24.0).reshape(4, 1, *SHAPE)
    before = weak.clone(), bounds.clone(), image.clone()
    out = Fixed(box, bounds={"size": statistic})({"image": image, "weak": weak, "size_bounds": bounds, "case": "abcd"})
    assert all(torch.equal(a, b) for a, b in zip(before, (weak, bounds, image))) and out["case"] == "abcd"
    for i in range(4):
        j = i - 1
        assert torch.equal(out["image"][i], torch.where(box[i], image[j], image[i]))
        assert torch.equal(out["weak"][i], torch.where(box[i], weak[j], weak[i]))
        found = statistic.unlink(out["size_bounds"][i, 0, 0])
        if not box[i].any():
            assert torch.equal(out["size_bounds"][i], bounds[i])
        elif (out["weak"][i] != 255).all():
            assert found.tolist() == list(FREE)
        else:
            own = [int((one[~box[i]] == 1).sum()) for one in labellings(weak[i], given[i])]
            pasted = [int((one[box[i]] == 1).sum()) for one in labellings(weak[j], given[j])]
            torch.testing.assert_close(found, torch.tensor([min(own) + min(pasted), max(own) + max(pasted)]).float())


def test_a_mixture_of_two_labelled_images_has_no_bounds() -> None:
    weak = torch.tensor([[1, 0, 1], [1, 1, 0]], dtype=torch.uint8).expand(3, 1, *SHAPE)
    bounds, box = torch.tensor(FREE).expand(3, 1, 1, 2), torch.ones(3, 1, *SHAPE, dtype=torch.bool)
    box[..., 0] = False
    paste = Fixed(box, bounds={"size": Size(classes=[1])})
    assert paste({"image": weak.float(), "weak": weak, "size_bounds": bounds})["size_bounds"].isinf().all()


def test_several_classes_hold_the_truth() -> None:
    torch.manual_seed(0)
    truth = torch.randint(0, 4, (6, 1, 9, 7), dtype=torch.uint8)
    weak = truth.clone()
    weak[1::2] = 255
    size = Size(classes=[1, 3])
    values = torch.stack([(truth == k).flatten(1).sum(1) for k in (1, 3)], 1)[:, :, None].float()
    bounds = torch.stack([0.8 * values, 1.2 * values], -1)
    bounds[::2] = torch.tensor(FREE)
    paste = BatchCopyPaste(bounds={"size": size}, probability=1.0, sides=(0.3, 0.9))
    out = paste({"image": truth.float(), "weak": weak, "size_bounds": bounds})
    mixed = torch.stack([(out["image"] == k).flatten(1).sum(1) for k in (1, 3)], 1)[:, :, None]
    low, high = out["size_bounds"].unbind(-1)
    assert (low <= mixed).all() and (mixed <= high).all() and high.isfinite().all() and (low < high).all()
    assert not torch.equal(out["image"], truth.float())
    assert set(paste({"image": truth.float(), "weak": weak})) == {"image", "weak"}


def test_boxes_have_the_sides_and_the_share_that_are_asked_for() -> None:
    torch.manual_seed(0)
    box = BatchCopyPaste(bounds={}, probability=0.25, sides=(0.5, 0.5)).boxes(torch.zeros(400, 1, 20, 10))
    there = box.flatten(1).any(1)
    assert 0.15 < there.float().mean() < 0.35
    rows, columns = box[there].any(3).sum((1, 2)), box[there].any(2).sum((1, 2))
    assert set(rows.tolist()) <= {9, 10, 11} and set(columns.tolist()) <= {4, 5, 6}


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(ValueError, match="size is Centroid"):
        BatchCopyPaste(bounds={"size": Centroid(classes=[1])})
    with pytest.raises(ValueError, match="classes=None"):
        BatchCopyPaste(bounds={"size": Size()})
    with pytest.raises(ValueError, match="from 0 to 1"):
        BatchCopyPaste(bounds={}, probability=1.5)
