"""The parts of a regression: targets that move with the image, their loss, standardised outputs, units, residuals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet
from torch import nn

from monai_constraints.constraints import Centroid, ConformalMargin, Patch, Root, Size, Spread, Statistic
from monai_constraints.data import PhysicalUnits, Residuals
from monai_constraints.losses import PartialDice, Term, ValueLoss, WeightedSum
from monai_constraints.networks import PooledEncoder, SegmentedRegion, SoftRegion, Standardised
from monai_constraints.pictures import plot_predicted
from monai_constraints.regression.value_trainer import ValueTrainer, predict_values, values_of
from monai_constraints.transforms import BatchSimilarity

INF = float("inf")


def ellipse(size: int = 64) -> torch.Tensor:
    """A mask (1, 1, H, W), of axes of 12 and 6 pixels, off the centre."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (((y - 27) / 12) ** 2 + ((x - 36) / 6) ** 2 <= 1).float()[None, None]


@pytest.mark.parametrize(
    ("f", "rotation", "tolerance"),
    [(Size(), 45, 0.05), (Root(Size()), 45, 0.03), (Spread(), 0, 0.05), (Centroid(), 45, 0.02)],
    ids=["size", "root", "spread", "centroid"],
)
def test_targets_are_those_of_the_moved_image(f: Statistic, rotation: float, tolerance: float) -> None:
    image = ellipse().expand(16, -1, -1, -1).clone()
    target = f(image)
    batch = {"image": image, "size_bounds": torch.stack([target, target], -1)}
    torch.manual_seed(0)
    move = BatchSimilarity(bounds={"size": f}, rotation=rotation, scale=(0.8, 1.2), dihedral=True)
    moved = move(batch)
    found, expected = values_of(moved["size_bounds"]), f(moved["image"])
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=0.3)
    assert expected.std(0).min() > 0.5


def test_spread_refuses_other_turns() -> None:
    turn = torch.tensor([[[0.8, -0.6], [0.6, 0.8]]])
    with pytest.raises(NotImplementedError, match="augment with rotation=0"):
        Spread().moved(torch.ones(1, 1, 2, 2), turn, (8, 8))
    quarter = torch.tensor([[[-4e-8, -2.0], [2.0, -4e-8]]])
    bounds = torch.tensor([[[[1.0, 2.0], [-INF, INF]]]])
    assert Spread().moved(bounds, quarter, (8, 8)).tolist() == [[[[-INF, INF], [4.0, 8.0]]]]


def test_loss_is_the_squared_error_of_what_is_known() -> None:
    # (B, K, M) = (3, 2, 1)
    predicted = torch.tensor([[[3.0], [1.0]], [[5.0], [7.0]], [[0.5], [2.0]]], requires_grad=True)
    bounds = torch.tensor([[[1.0, 1.0], [-INF, INF]], [[5.0, 5.0], [4.0, 6.0]], [[0.0, 0.0], [-INF, INF]]])[:, :, None]
    loss = ValueLoss("size")
    assert loss.target_keys == ["size_bounds"]
    total = loss(predicted, {"size_bounds": bounds})
    assert total.item() == pytest.approx((4.0 + 0.0 + 1.0 + 0.25) / 4)  # 7 is 1 above [4, 6]
    assert ValueLoss(mean=False)(predicted, {"size_bounds": bounds}).item() == pytest.approx(5.25)
    total.backward()
    assert predicted.grad is not None and predicted.grad[:, :, 0].tolist() == [[1.0, 0.0], [0.0, 0.5], [0.25, 0.0]]
    with pytest.raises(ValueError, match=r"predictions \(3, 2, 1\) and size_bounds \(3, 1, 1, 2\)"):
        loss(predicted, {"size_bounds": bounds[:, :1]})


def test_standardised_outputs_are_in_units_of_the_targets() -> None:
    targets = torch.tensor([[[1.0, 9.0]], [[3.0, 9.0]], [[float("nan"), 9.0]]])
    network = Standardised(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), classes=1, values=2)
    raw = network(torch.ones(5, 1, 2, 2))
    network.fit(targets)
    assert network.mean.tolist() == [[2.0, 9.0]] and network.deviation.tolist() == [[1.0, 1.0]]
    torch.testing.assert_close(network(torch.ones(5, 1, 2, 2)), raw + torch.tensor([[2.0, 9.0]]))
    assert set(network.state_dict()) > {"mean", "deviation"}
    with pytest.raises(ValueError, match="value 0 of class number 0 is known in no slice"):
        network.fit(targets[2:])
    with pytest.raises(ValueError, match="expected 3 numbers a sample"):
        Standardised(nn.Flatten(), classes=3)(torch.ones(5, 1, 2, 2))


@pytest.mark.parametrize("f", [Size(classes=[3, 1]), Root(Size(classes=[3, 1])), Centroid(classes=[3, 1])])
def test_the_statistic_of_a_region_is_the_head(f: Statistic) -> None:
    """The network's first channel is the first class, whatever its value in the files."""
    logits = torch.randn(4, 2, 12, 10)
    found = SoftRegion(nn.Identity(), f, offset=1.0)(logits)
    region = torch.zeros(4, 4, 12, 10)
    region[:, [3, 1]] = (logits - 1).sigmoid()
    torch.testing.assert_close(found, f(region))
    assert f.classes == (3, 1)


def test_the_statistic_of_a_segmentation_is_the_head() -> None:
    logits = torch.randn(4, 3, 12, 10)
    network, f = SegmentedRegion(nn.Identity(), Size(classes=[3, 1])), Size(classes=[1, 2])
    torch.testing.assert_close(network(logits), f(logits.softmax(1)))
    assert network.logits is not None and torch.equal(network.logits, logits)  # of a training alone
    network.eval()(logits)
    assert network.logits is None


def slices_with_outlines() -> Any:
    """Squares of 4 to 8 pixels: the size of each, and where they are."""
    cases = []
    for side in range(4, 9):
        weak = torch.zeros(1, 32, 32, dtype=torch.uint8)
        weak[:, 8 : 8 + side, 8 : 8 + side] = 1
        value = torch.full((1, 1, 2), float(side**2))
        cases.append({"image": weak.float() + 0.1 * torch.rand(1, 32, 32), "weak": weak, "size_bounds": value})
    return cases


def test_outlines_train_the_network_beside_values() -> None:
    """With values of no weight at all outlines alone find the squares; a network that has none is refused."""
    outline = WeightedSum({"dice": Term(PartialDice())})
    unet = BasicUNet(2, 1, 2, features=(4, 4, 8, 8, 8, 4), upsample="nontrainable")
    network = Standardised(SegmentedRegion(unet, Size(classes=[1])))
    given: dict[str, Any] = {
        "dataset": slices_with_outlines(), "loss": ValueLoss(), "standardised": False, "epoch_steps": 10,
        "optimizer": lambda parameters: torch.optim.Adam(parameters, lr=0.01), "batch_size": 5,
        "lr_scheduler": lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
    }  # fmt: skip
    given["loss"].forward = lambda predicted, targets: 0 * predicted.sum()
    dice = []
    for epochs in (1, 6):
        trained = ValueTrainer(network=network, outline=outline, **given)(range(5), epochs=epochs, what="", number=0)
        with torch.no_grad():
            logits = trained.network.network(torch.stack([case["image"] for case in given["dataset"]]))
        dice.append(float(outline(logits, {"weak": torch.stack([case["weak"] for case in given["dataset"]])})))
    assert dice[1] < 0.3 < dice[0]
    with pytest.raises(ValueError, match="outlines for PooledEncoder, which has no SegmentedRegion"):
        ValueTrainer(network=PooledEncoder(), outline=outline, **given)


def test_predictions_are_means_over_the_views() -> None:
    network = PooledEncoder(features=(4, 4, 8, 8, 8), out_channels=1)
    image = torch.rand(3, 1, 32, 32)
    wrapped = Standardised(network)
    found = predict_values(wrapped, image, views=True)
    turned = predict_values(wrapped, image.rot90(1, (2, 3)).flip(3), views=True)
    torch.testing.assert_close(found, turned)
    alone = predict_values(wrapped, image, views=False)
    assert not torch.allclose(alone, found, rtol=0, atol=1e-7) and found.shape == (3, 1, 1)
    with pytest.raises(ValueError, match="five levels"):
        PooledEncoder(features=(4, 4))


def test_units() -> None:
    spacing = torch.tensor([[1.5, 1.25, 8.0], [2.0, 1.0, 8.0]])
    given = {"zoom": [2.0, 3.0, 1.0], "spatial_size": [5, 9]}
    value = torch.tensor([[[4.0]], [[-1.0]]])
    size = PhysicalUnits(Size(classes=[1]), **given)  # type: ignore[arg-type]
    assert size.unit == "mm2" and size(value, spacing).flatten().tolist() == pytest.approx([4 * 3.0 * 3.75, 0.0])
    root = PhysicalUnits(Root(Size(classes=[1])), voxel_size=1.5, **given)  # type: ignore[arg-type]
    assert root(value, spacing).flatten().tolist() == pytest.approx([16 * 3.0 * 4.5, 0.0])
    place = torch.tensor([[[2.0, 4.0]], [[3.0, float("nan")]]])
    centroid = PhysicalUnits(Centroid(classes=[1]), **given)(place, spacing)  # type: ignore[arg-type]
    assert centroid[0].tolist() == [[0.0, 0.0]] and centroid[1, 0, 0] == 4.0 and centroid[1, 0, 1].isnan()
    spread = PhysicalUnits(Spread(classes=[1]), **given)(place, spacing)  # type: ignore[arg-type]
    assert spread[0].tolist() == [[2 * 9.0, 4 * 14.0625]]

    class Other(Size):
        def sums(self, region: torch.Tensor, *, image: object, boxes: object, patch: Patch | None) -> torch.Tensor:
            return region

    with pytest.raises(ValueError, match="the unit of Other is not known"):
        PhysicalUnits(Other(classes=[1]), **given)  # type: ignore[arg-type]


def test_residuals_are_read_as_written_and_drawn(tmp_path: Path) -> None:
    true = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]).repeat(6, 1, 1) * torch.arange(6).reshape(-1, 1, 1)
    true[0, 1, 1] = float("nan")
    made = Residuals(
        patients=list("aabbcc"), cases=list("aabbcd"), slices=[0, 1, 0, 1, 0, 0], true=true, predicted=true + 1,
        folds=[0, 0, 1, 1, 2, 2], classes=[1, 3], prior=true - 2,
    )  # fmt: skip
    made.write(tmp_path / "residuals.csv")
    found = Residuals.read(tmp_path / "residuals.csv")
    for name in ("patients", "cases", "slices", "folds", "classes"):
        assert getattr(found, name) == getattr(made, name)
    torch.testing.assert_close(found.true, made.true, equal_nan=True)
    assert found.errors().tolist() == [[1.0, 1.0]] * 2 and found.errors(prior=True).tolist() == [[2.0, 2.0]] * 2
    assert found.coverage(ConformalMargin(level=0.5, scaled=False)) == (1.0, 1.0)
    plot_predicted(found, tmp_path / "predicted.png", unit="mm2", names=["a", "b"])
    assert (tmp_path / "predicted.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(FileNotFoundError, match="train the regressor"):
        Residuals.read(tmp_path / "none.csv")
    lines = (tmp_path / "residuals.csv").read_text().splitlines()
    (tmp_path / "cut.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(ValueError, match="23 rows, expected 4 a slice"):
        Residuals.read(tmp_path / "cut.csv")
