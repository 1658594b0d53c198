from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.data import MetaTensor
from torch import Tensor, nn

from bundles import Runs, configs, settings, train, with_needs
from monai_constraints.engines import AutocastInferer
from monai_constraints.losses import ConsistencyLoss, Term, WeightedSum

SHAPES = [(3, 2, 6, 5), (2, 3, 4, 5, 3)]


def network_for(shape: tuple[int, ...], channels: int = 1) -> nn.Module:
    return (nn.Conv2d if len(shape) == 4 else nn.Conv3d)(channels, shape[1], 1)


def brighter(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "image": batch["image"] + 0.5}


@pytest.mark.parametrize("temperature", [1.0, 5.0])
@pytest.mark.parametrize("threshold", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_is_that_of_the_loop(shape: tuple[int, ...], threshold: float, temperature: float) -> None:
    image, logits, network = torch.rand(shape[0], 1, *shape[2:]), 2 * torch.randn(shape), network_for(shape)
    settings: Any = {"threshold": threshold, "temperature": temperature, "cut": 0}
    loss = ConsistencyLoss(network, view=brighter, softmax=True, **settings)
    s = (temperature * logits).softmax(1)
    q = (temperature * network(image + 0.5)).softmax(1)
    terms = []
    for b, at in product(range(shape[0]), product(*map(range, shape[2:]))):
        k = int(s[(b, slice(None), *at)].argmax())
        terms.append(-math.log(q[(b, k, *at)]) if s[(b, k, *at)] >= threshold else 0.0)
    assert loss(logits, image).item() == pytest.approx(sum(terms) / len(terms), rel=1e-4, abs=1e-7)
    without = ConsistencyLoss(network, view=brighter, **settings)
    assert without(s, image).item() == pytest.approx(loss(logits, image).item(), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("shape", [(8, 2, 20, 24), (8, 3, 10, 12, 8)])
def test_a_box_brings_the_labels_of_the_image_that_it_is_cut_from(shape: tuple[int, ...]) -> None:
    """A network that repeats its input agrees with itself, boxes or not, so nothing is left but its own doubt."""
    image = torch.randn(shape) * 3
    seen = []

    def repeat(x: Tensor) -> Tensor:
        seen.append(x)
        return x

    loss = ConsistencyLoss(repeat, softmax=True, threshold=0.0, cut=1.0)  # type: ignore[arg-type]
    value = loss(image, image)
    (view,) = seen
    doubt = -view.log_softmax(1).amax(1)
    assert value.item() == pytest.approx(doubt.mean().item(), rel=1e-5)
    other = image.roll(1, 0)
    changed = (view != image).any(1)
    assert torch.equal(view, torch.where(changed[:, None], other, image))
    for mask in changed:
        where = mask.nonzero()
        sides = where.amax(0) - where.amin(0) + 1
        assert sides.prod() == mask.sum(), "no box"
        assert all(0.2 * n - 1 <= side <= 0.7 * n + 1 for side, n in zip(sides, shape[2:]))
    assert len({mask.nonzero().float().mean(0).sum().item() for mask in changed}) > 4


@pytest.mark.parametrize(("cut", "share"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_as_many_samples_have_a_box(cut: float, share: float) -> None:
    image = torch.rand(400, 1, 8, 8)
    boxes = ConsistencyLoss(nn.Identity(), cut=cut)._boxes(image).flatten(1).any(1).float().mean().item()
    assert boxes == pytest.approx(share, abs=0.1)


def test_gradient_goes_through_the_view_alone() -> None:
    shape = (2, 2, 6, 5)
    network, logits = network_for(shape), torch.randn(shape, requires_grad=True)
    image = MetaTensor(torch.rand(2, 1, 6, 5))
    loss = ConsistencyLoss(network, inferer=AutocastInferer(False), threshold=0.5, softmax=True)
    loss(logits, image).backward()
    assert logits.grad is None and network.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


def test_beside_other_terms_it_leaves_the_weights_to_the_network() -> None:
    network = network_for((2, 2, 6, 5))
    loss = WeightedSum({"consistency": Term(ConsistencyLoss(network), "image")})
    assert not loss.state_dict() and not list(loss.parameters())
    image = torch.rand(2, 1, 6, 5)
    loss(network(image), {"image": image}).backward()
    assert network.weight.grad is not None


@pytest.mark.parametrize("settings", [{"threshold": 1.5}, {"threshold": -0.1}, {"cut": 2}])
def test_bad_settings(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be from 0 to 1"):
        ConsistencyLoss(nn.Identity(), **settings)


@pytest.mark.parametrize(
    ("input", "image"), [((2, 1, 4, 4), (2, 1, 4, 4)), ((2, 2, 4, 4), (1, 1, 4, 4)), ((2, 2, 4, 4), (2, 1, 4, 5))]
)
def test_bad_shapes(input: tuple[int, ...], image: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(B, C, \*S\) with C >= 2"):
        ConsistencyLoss(nn.Identity())(torch.rand(input), torch.rand(image))


@pytest.mark.filterwarnings("ignore:No hash value provided")
def test_a_row_repeats_its_draws_and_saves_no_second_network(runs: Runs, tmp_path: Path) -> None:
    rows = [*with_needs("acdc_lv", "common"), "hybrid", "consistency"]
    saved = []
    for name in ("a", "b"):
        train("acdc_lv", runs.data("acdc_lv"), tmp_path / name, *rows)
        saved.append(torch.load(tmp_path / name / "checkpoint.pt", weights_only=False))
    first, second = (state["network"] for state in saved)
    assert all(torch.equal(first[key], second[key]) for key in first) and not saved[0]["loss"]
    files = configs("acdc_lv", "train", *(f"rows/{row}" for row in rows))
    options = settings("acdc_lv", *rows, dataset_dir=str(runs.data("acdc_lv")), output_dir=str(tmp_path / "c"))
    workflow = ConfigWorkflow(files, logging_file=False, **options)
    workflow.initialize()
    loss = workflow.parser.get_parsed_content("loss")
    network = workflow.parser.get_parsed_content("network")
    assert loss.terms["consistency"].loss._network == (network,)
    assert loss.terms["consistency"].loss.view_activation.temperature == 5.0
