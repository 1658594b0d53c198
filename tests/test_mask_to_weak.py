"""A first label of masks where they agree with their boxes, and of ellipses where they do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from monai_constraints.transforms import BoxToWeakd, MaskToWeakd


def sample(mask: torch.Tensor, boxes: list[Any]) -> dict[str, Any]:
    return {"image": torch.zeros(1, *mask.shape[1:]), "mask": mask, "boxes": torch.tensor(boxes, dtype=torch.int32)}


def test_a_mask_that_agrees_is_the_label_of_its_box_and_ellipses_that_of_the_others() -> None:
    mask = torch.zeros(1, 30, 40, dtype=torch.uint8)
    mask[0, 2:9, 2:9], mask[0, 4, 7] = 1, 0  # in the first box of class 1, nearly tight
    mask[0, 20, 5] = 1  # one pixel in its second box
    mask[0, 14:24, 25:35] = 1  # the wrong class in the box of class 2
    boxes = [[[[2, 10], [2, 9]], [[16, 26], [2, 14]]], [[[14, 24], [25, 35]], [[0, 0], [0, 0]]]]
    transform = MaskToWeakd()
    found = transform(sample(mask, boxes))
    weak = found["weak"]
    assert weak.dtype == torch.uint8 and torch.equal(found["boxes"], torch.tensor(boxes, dtype=torch.int32))
    inside = weak[0, 2:10, 2:9]
    assert torch.equal(inside, mask[0, 2:10, 2:9]) and set(inside.unique().tolist()) == {0, 1}
    left = [[[[0, 0], [0, 0]], boxes[0][1]], boxes[1]]
    ellipses = BoxToWeakd(inside="ellipse")(sample(mask, left))["weak"]
    ellipses[0, 2:10, 2:9] = mask[0, 2:10, 2:9]
    assert torch.equal(weak, ellipses) and {1, 2, 255} <= set(weak.unique().tolist())
    assert transform.counts == (1, 3)


@pytest.mark.parametrize("loose", [0, 3])
def test_agreement_is_the_part_of_both_boxes_that_is_common(loose: int) -> None:
    mask = torch.zeros(1, 30, 30, dtype=torch.uint8)
    mask[0, 10:20, 10:15] = 1
    box = [[[[10 - loose, 20 + loose], [10 - loose, 20 + loose]]]]  # twice as wide as the mask
    for agreement, expected in ((0.5, 1), (0.51, 0)):
        transform = MaskToWeakd(agreement=agreement, margin=loose)
        transform(sample(mask, box))
        assert transform.counts == (expected, 1)
    untold = MaskToWeakd(agreement=0.5)
    untold(sample(mask, box))
    assert untold.counts == (int(loose == 0), 1)  # loose boxes that are taken for tight


def test_what_sticks_out_of_its_box_is_background_and_a_mask_lies_on_ellipses() -> None:
    mask = torch.zeros(1, 20, 20, dtype=torch.uint8)
    mask[0, 2:14, 2:14] = 1
    weak = MaskToWeakd()(sample(mask, [[[[2, 12], [2, 12]]], [[[4, 8], [4, 8]]]]))["weak"][0]
    assert (weak[2:12, 2:12] == 1).all() and weak.count_nonzero() == 100


def test_volumes_and_boxes_thinner_than_their_margin() -> None:
    mask = torch.zeros(1, 12, 12, 12, dtype=torch.uint8)
    mask[0, 3:9, 3:9, 5] = 2
    transform = MaskToWeakd(margin=2, output="ellipse")
    found = transform(sample(mask, [[[[0, 0]] * 3], [[[1, 11], [1, 11], [4, 7]]]]))["ellipse"]
    assert transform.counts == (1, 1) and torch.equal(found, mask)


def test_none_agrees_or_something_is_missing() -> None:
    mask = torch.zeros(1, 9, 9, dtype=torch.uint8)
    given = sample(mask, [[[[1, 5], [1, 5]]]])
    transform = MaskToWeakd()
    transform(given)
    with pytest.raises(ValueError, match="of none of 1 boxes agrees.*number the classes 1, 2"):
        transform.check()
    with pytest.raises(KeyError, match=r"lacks \['mask'\].*train_keys"):
        transform({key: value for key, value in given.items() if key != "mask"})
    with pytest.raises(ValueError, match=r"a mask \(1, 9, 8\), expected \(1, 9, 9\)"):
        transform({**given, "mask": mask[..., :8]})
    with pytest.raises(ValueError, match="agreement=0"):
        MaskToWeakd(agreement=0)
    with pytest.raises(ValueError, match="margin=-1"):
        MaskToWeakd(margin=-1)
