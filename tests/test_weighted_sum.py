from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import loops
import pytest
import torch
from monai.losses import GeneralizedDiceLoss
from torch import Tensor, nn

from monai_constraints.constraints import (
    Centroid,
    LogBarrier,
    MeanIntensity,
    Patch,
    Quadratic,
    Size,
    StandardLagrangian,
)
from monai_constraints.losses import (
    BoundaryMapLoss,
    ConstraintLoss,
    CRFLoss,
    PartialCrossEntropy,
    PartialDice,
    ProposalCrossEntropy,
    SizePrincipleLoss,
    Term,
    VoxelWeightedCrossEntropy,
    WeightedSum,
)

SHAPE = (2, 3, 4, 5)


def terms() -> dict[str, Term]:
    return {
        "ce": Term(PartialCrossEntropy(classes=[1, 2])),
        "size": Term(ConstraintLoss(Size(classes=[1]), Quadratic()), weight=0.01),
        "light": Term(ConstraintLoss(MeanIntensity(classes=[2]), LogBarrier(3)), weight=0.5),
    }


def batch() -> dict[str, Tensor]:
    weak = torch.randint(0, 3, (2, 1, 4, 5), dtype=torch.uint8)
    weak[:, :, :2] = 255
    return {
        "weak": weak,
        "size_bounds": torch.tensor([[[[12.0, 20.0]]], [[[0.0, 2.0]]]]),
        "light_bounds": torch.tensor([[[[-0.1, 0.1]]], [[[0.5, 1.0]]]]),
        "image": torch.randn(2, 1, 4, 5),
    }


class Spy(nn.Module):
    """Records what it was called with."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        self.input, self.autocast = input, torch.is_autocast_enabled(input.device.type)
        return (input * target).sum()


@pytest.mark.parametrize("temperature", [1.0, 5.0])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_it_is_the_weighted_sum_of_terms_on_probabilities(temperature: float, sigmoid: bool) -> None:
    logits, targets = torch.randn(SHAPE).requires_grad_(), batch()
    loss = WeightedSum(terms(), temperature=temperature, sigmoid=sigmoid)
    got = loss(logits, targets)
    p = (temperature * logits).sigmoid() if sigmoid else (temperature * logits).softmax(1)
    apart = {
        "ce": PartialCrossEntropy(classes=[1, 2])(p, targets["weak"]),
        "size": ConstraintLoss(Size(classes=[1]), Quadratic())(p, targets["size_bounds"]),
        "light": ConstraintLoss(MeanIntensity(classes=[2]), LogBarrier(3))(
            p, targets["light_bounds"], image=targets["image"]
        ),
    }
    torch.testing.assert_close(got, apart["ce"] + 0.01 * apart["size"] + 0.5 * apart["light"])
    assert list(loss.last) == ["ce", "size", "light"]
    for name, value in apart.items():
        torch.testing.assert_close(loss.last[name], value)  # unweighted
        assert not loss.last[name].requires_grad and loss.last[name].ndim == 0


def test_gradient_is_the_slope_of_the_sum() -> None:
    logits, targets = torch.randn(SHAPE).requires_grad_(), batch()
    loss = WeightedSum(terms(), temperature=2)
    loss(logits, targets).backward()

    def from_equations(x: Tensor) -> float:
        p, total, count = (2 * x).softmax(1), 0.0, 0
        for b in range(2):
            for i in range(4):
                for j in range(5):
                    y = int(targets["weak"][b, 0, i, j])
                    if y in (1, 2):
                        total, count = total - float(p[b, y, i, j].log()), count + 1
        size = loops.sides(loops.values(loops.size, p, [1]), targets["size_bounds"], loops.quadratic)
        light = loops.values(loops.mean_intensity, p, [2], targets["image"])
        barrier = loops.sides(light, targets["light_bounds"], lambda z: loops.log_barrier(z, 3))
        return total / count + float(0.01 * size.sum() + 0.5 * barrier.sum()) / (2 * 20)

    torch.testing.assert_close(logits.grad.double(), loops.slope(from_equations, logits), rtol=2e-3, atol=1e-5)


def test_every_term_gets_the_same_probabilities() -> None:
    spies = [Spy(), Spy()]
    loss = WeightedSum({"a": Term(spies[0], "x"), "b": Term(spies[1], "x")})
    loss(torch.randn(SHAPE), {"x": torch.ones(())})
    assert spies[0].input is spies[1].input
    torch.testing.assert_close(spies[0].input.sum(1), torch.ones(2, 4, 5))


def test_weights_change_at_run_time() -> None:
    logits, targets = torch.randn(SHAPE), batch()
    loss = WeightedSum(terms())
    assert loss.weights == {"ce": 1.0, "size": 0.01, "light": 0.5}
    loss.weights.update(ce=0.0, size=3.0, light=0.0)
    torch.testing.assert_close(loss(logits, targets), 3 * loss.last["size"])


def test_a_weight_of_zero_logs_without_gradient() -> None:
    logits, targets = torch.randn(SHAPE).requires_grad_(), batch()
    loss = WeightedSum(terms())
    loss.weights["size"] = loss.weights["light"] = 0
    (got,) = torch.autograd.grad(loss(logits, targets), logits)
    alone = WeightedSum({"ce": terms()["ce"]})
    (expected,) = torch.autograd.grad(alone(logits, targets), logits)
    assert torch.equal(got, expected)
    assert loss.last["size"] > 0 and loss.last["light"] != 0
    loss.weights["ce"] = 0
    (got,) = torch.autograd.grad(loss(logits, targets), logits)
    assert torch.equal(got, torch.zeros_like(logits))


def test_a_term_of_weight_zero_may_be_infinite() -> None:
    class Broken(nn.Module):
        def forward(self, input: Tensor, target: Tensor) -> Tensor:
            return torch.log(input * 0).sum()

    logits = torch.randn(SHAPE).requires_grad_()
    loss = WeightedSum({"broken": Term(Broken(), "weak", weight=0), "ce": terms()["ce"]})
    total = loss(logits, batch())
    total.backward()
    assert total.isfinite() and logits.grad.isfinite().all() and loss.last["broken"].isinf()


def test_evaluation_without_gradient() -> None:
    loss, targets = WeightedSum(terms()), batch()
    with torch.no_grad():
        assert not loss(torch.randn(SHAPE), targets).requires_grad
    assert not loss(torch.randn(SHAPE), targets).requires_grad


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits, targets = torch.randn(SHAPE).bfloat16(), batch()
    with torch.autocast("cpu", torch.bfloat16):
        inside = WeightedSum(terms())(logits, targets)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, WeightedSum(terms())(logits.float(), targets))
    spy = Spy()
    with torch.autocast("cpu", torch.bfloat16):
        WeightedSum({"a": Term(spy, "x")})(logits, {"x": torch.ones(())})
    assert spy.input.dtype == torch.float32 and not spy.autocast


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.skipif(" " in torch.__file__, reason="torch.compile can't link to a PyTorch in a folder with a space")
@pytest.mark.filterwarnings("ignore")  # PyTorch's own, about what it traces
@pytest.mark.parametrize("names", [["ce"], ["ce", "size", "light"]])
def test_compiled_it_is_the_same(names: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    loss, targets = WeightedSum({name: terms()[name] for name in names}), batch()
    logits = torch.randn(SHAPE, requires_grad=True)
    (expected,) = torch.autograd.grad(loss(logits, targets), logits)
    last = dict(loss.last)
    (gradient,) = torch.autograd.grad(torch.compile(loss, fullgraph=True)(logits, targets), logits)
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(loss.last, last)


def test_errors() -> None:
    loss, targets = WeightedSum(terms()), batch()
    assert loss.target_keys == ["weak", "size_bounds", "light_bounds", "image"]
    del targets["size_bounds"], targets["image"]
    with pytest.raises(KeyError, match=r"lack \['size_bounds', 'image'\] \(they have \['light_bounds', 'weak'\]\)"):
        loss(torch.randn(SHAPE), targets)
    with pytest.raises(ValueError, match="no terms"):
        WeightedSum({})
    with pytest.raises(ValueError, match="temperature must be > 0, got -1"):
        WeightedSum(terms(), temperature=-1)


def quarters(x: Tensor) -> list[tuple[Tensor, tuple[int, int]]]:
    """A tensor (B, C, H, W) in four patches of different sizes, and where each begins."""
    height, width = x.shape[2] // 3, x.shape[3] // 2
    rows, columns = [(0, height), (height, x.shape[2])], [(0, width), (width, x.shape[3])]
    return [(x[:, :, a:b, c:d], (a, c)) for a, b in rows for c, d in columns]


@pytest.mark.parametrize("reduction", ["mean", "voxel", "sample", "sum"])
def test_patches_of_an_image_add_up_to_it(reduction: Any) -> None:
    p = torch.rand(2, 3, 7, 9).softmax(1).requires_grad_()
    weak = torch.randint(0, 3, (2, 1, 7, 9))
    weak[torch.rand(weak.shape) < 0.5] = 255
    distance = torch.randn(2, 1, 7, 9)
    bounds = torch.tensor([3.0, 3.2]).expand(2, 1, 2, 2)
    loss = WeightedSum(
        {
            "ce": Term(PartialCrossEntropy(reduction=reduction), weight=0.7),
            "dice": Term(PartialDice(batch=False)),
            "principle": Term(SizePrincipleLoss(), weight=0.3),
            "place": Term(ConstraintLoss(Centroid(classes=[2]), LogBarrier(3)), weight=5.0),
            "boundary": Term(BoundaryMapLoss(classes=[1]), weight=0.2),
        }
    )
    targets = {"weak": weak, "place_bounds": bounds, "distance": distance}
    whole = loss(p.log(), targets)
    expected, last = torch.autograd.grad(whole, p)[0], dict(loss.last)
    sums: dict[str, Tensor] = {}
    local = torch.zeros(())
    parts = zip(quarters(p), quarters(weak), quarters(distance))
    for (piece, offset), (marks, _), (distances, _) in parts:
        given = {**targets, "weak": marks, "distance": distances}
        patch = Patch(torch.tensor(offset).expand(2, 2), torch.tensor([7, 9]).expand(2, 2))
        for name, value in loss.sums(piece, given, patch=patch).items():
            sums[name] = sums.get(name, 0) + value
        local = local + loss.local(piece, given) * piece[0, 0].numel() / 63
    total = loss.of_sums(sums, targets, shape=(7, 9)) + local
    place = loss.terms["place"].loss
    by_sample = torch.tensor([7, 9]).expand(2, 2)
    for group in (None, ["a", "b"]):
        each = place.of_sums(sums["place"], bounds, shape=by_sample, group=group)  # type: ignore[operator]
        torch.testing.assert_close(each, loss.last["place"])
    torch.testing.assert_close(total, whole, rtol=1e-4, atol=1e-5)
    # `whole` goes through log and softmax, which leave a probability where it is but not its gradient.
    through = torch.autograd.grad(total, p)[0]
    torch.testing.assert_close(through - (through * p).sum(1, keepdim=True), expected, rtol=1e-3, atol=1e-4)
    assert {name: pytest.approx(float(loss.last[name]), abs=1e-3) for name in sums} == {
        name: float(last[name]) for name in sums
    }


def test_a_loss_without_sums_needs_whole_images() -> None:
    loss = WeightedSum({"size": Term(ProposalCrossEntropy(Size(classes=[1])))})
    assert loss.target_keys == ["size_bounds"]
    other = WeightedSum({"gdl": Term(GeneralizedDiceLoss(to_onehot_y=True))})
    with pytest.raises(TypeError, match=r"gdl \(GeneralizedDiceLoss\) is no function of sums"):
        other.sums(torch.rand(1, 2, 4, 5).softmax(1), {"label": torch.zeros(1, 1, 4, 5)})
    with pytest.raises(TypeError, match=r"size \(ProposalCrossEntropy\) is no function of sums"):
        loss.sums(torch.rand(1, 2, 4, 5).softmax(1), {"size_bounds": torch.zeros(1, 1, 1, 2)})


def test_a_loss_says_what_it_needs() -> None:
    multipliers = StandardLagrangian(3, learning_rate=1)
    loss = WeightedSum(
        {
            "ce": Term(PartialCrossEntropy()),
            "size": Term(ConstraintLoss(Size(classes=[1]), multipliers, pooling="group")),
            "border": Term(VoxelWeightedCrossEntropy(), "weak"),
            "edges": Term(CRFLoss()),
            "other": Term(GeneralizedDiceLoss(to_onehot_y=True)),
        }
    )
    assert loss.target_keys == ["weak", "size_bounds", "case", "index", "border_weight", "image", "label"]
    assert loss.multipliers() == {"size": multipliers}
