from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from matplotlib.image import imread
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import AsDiscreted, Compose
from torch.nn.functional import one_hot as one_hot_of

from monai_constraints.handlers import Curves, Examples, MetricsLog
from monai_constraints.pictures import plot_curves, plot_examples, plot_proposals
from monai_constraints.pictures.curves import draw_panel
from monai_constraints.pictures.examples import class_map, flat

H, W = 24, 20


def picture(path: Path) -> np.ndarray:
    """The picture, which must not be blank."""
    pixels = imread(path)
    assert pixels.shape[0] > 300 and pixels.shape[1] > 300
    assert pixels[..., :3].std() > 0.02
    return pixels


def has_colour(pixels: np.ndarray, colour: str, least: int = 30) -> bool:
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return int((np.abs(pixels[..., :3] - rgb).max(-1) < 0.02).sum()) >= least


def write(path: Path, columns: dict[str, list[Any]]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values()))


def test_plot_curves_draws_the_panels_that_have_data(tmp_path: Path) -> None:
    epochs: dict[str, list[Any]] = {"epoch": [1, 2, 3], "loss": [3.0, 2.0, 1.0]}
    write(tmp_path / "a.csv", epochs)
    plot_curves(tmp_path / "a.csv", tmp_path / "a.png")
    one = picture(tmp_path / "a.png")
    write(tmp_path / "b.csv", epochs | {"val_dice": ["", 0.5, 0.7], "val_stability": ["", "nan", ""]})
    plot_curves(tmp_path / "b.csv", tmp_path / "b.png")
    two = picture(tmp_path / "b.png")
    assert two.shape[1] == 2 * one.shape[1] and two.shape[0] == one.shape[0]
    names = ("dice", "size_satisfied", "size_violation", "stability")
    everything = {f"val_{name}": [0.1, 0.2, 0.3] for name in names}
    write(tmp_path / "c.csv", epochs | everything | {"loss_size": [0.0, -1.0, float("nan")]})
    plot_curves(tmp_path / "c.csv", tmp_path / "c.png")
    five = picture(tmp_path / "c.png")
    assert five.shape[:2] == (2 * one.shape[0], 3 * one.shape[1])


def test_plot_curves_of_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", {"epoch": [], "loss": []})
    plot_curves(tmp_path / "a.csv", tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def sample(dice: float = 0.5, **changes: Any) -> dict[str, Any]:
    label = np.zeros((1, H, W), int)
    label[0, 5:15, 5:12] = 1
    weak = np.full((1, H, W), 255)
    weak[0, 10, 8] = 1
    image = np.random.default_rng(0).normal(size=(1, H, W))
    prediction = np.roll(label, 3, 1)
    arrays = {"image": image, "label": label, "weak": weak, "prediction": prediction}
    return {**arrays, "dice": dice, "case": "a", **changes}


def test_plot_examples_rows_and_columns(tmp_path: Path) -> None:
    plot_examples([sample(0.9), sample(0.1), sample(0.2), sample(0.3)], tmp_path / "a.png", title="Worst and best")
    with_weak = picture(tmp_path / "a.png")
    assert has_colour(with_weak, "#56B4E9", 300) and has_colour(with_weak, "#E69F00", 300)
    panels = with_weak[: with_weak.shape[0] * 8 // 10]  # above the legend
    assert has_colour(panels, "#0072B2", 300)  # rings around points of one pixel
    plot_examples([sample(weak=None)], tmp_path / "b.png")
    without = picture(tmp_path / "b.png")
    assert with_weak.shape[1] > 1.3 * without.shape[1]  # a column a sample
    assert with_weak.shape[0] > 1.2 * without.shape[0]  # a row for the weak label
    with pytest.raises(ValueError, match="none"):
        plot_examples([], tmp_path / "c.png")


def test_a_weak_label_without_a_known_pixel_has_no_row(tmp_path: Path) -> None:
    plot_examples([sample(weak=np.full((1, H, W), 255))], tmp_path / "a.png")
    plot_examples([sample(weak=None)], tmp_path / "b.png")
    assert np.array_equal(picture(tmp_path / "a.png"), picture(tmp_path / "b.png"))


def test_unknown_pixels_are_not_drawn(tmp_path: Path) -> None:
    known = np.full((1, H, W), 255)
    known[0, 3, 3] = 1
    for name, weak in (("few", known), ("all", np.zeros_like(known))):
        plot_examples([sample(weak=weak, image=np.zeros((1, H, W)))], tmp_path / f"{name}.png")
    few, every = (picture(tmp_path / f"{name}.png") for name in ("few", "all"))
    black = [(pixels[..., :3].max(-1) < 0.05).sum() for pixels in (few, every)]
    assert black[0] > 1.3 * black[1]  # the panel of the weak label stays black but for one point


def test_a_volume_gives_the_slice_with_most_foreground() -> None:
    label = np.zeros((1, H, W, 7), int)
    label[0, :3, :3, 2] = 1
    label[0, :4, :4, 4] = 2
    image = np.arange(7.0) * np.ones((1, H, W, 7))
    row = flat(sample(label=label, image=image, prediction=label, weak=None))
    assert row["image"].shape == (H, W) and (row["image"] == 4).all()
    assert row["label"].sum() == 32


def evaluator(dices: list[float | None], *, one_hot: bool, decollated: bool) -> Engine:
    """Samples of 2 a batch whose prediction has nearly the given Dice; None: no foreground."""

    def step(engine: Engine, batch: list[int]) -> Any:
        outputs, inputs = [], []
        for i in batch:
            dice = dices[i]
            label, prediction = torch.zeros(2, 1, H, W, dtype=torch.long)
            if dice is not None:
                label.view(-1)[:100] = 2
                prediction.view(-1)[round(100 * (1 - dice)) : round(100 * (1 - dice)) + 100] = 2
            if one_hot:
                label, prediction = (one_hot_of(x[0], 3).permute(2, 0, 1) for x in (label, prediction))
            outputs.append({"image": torch.rand(1, H, W), "label": label, "pred": prediction})
            inputs.append({"weak": torch.full((1, H, W), 255), "case": f"case{i}", "slice": torch.tensor(i)})
        engine.state.batch = inputs
        if not decollated:
            engine.state.batch = {k: [x[k] for x in inputs] for k in ("weak", "case", "slice")}
        return outputs

    return Engine(step)


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("decollated", [False, True])
def test_examples_keeps_worst_and_best(tmp_path: Path, one_hot: bool, decollated: bool) -> None:
    dices = [0.5, 0.9, None, 0.2, 0.6, 0.1, 0.7, 0.4, 0.8, 0.3]
    engine = evaluator(dices, one_hot=one_hot, decollated=decollated)
    examples = Examples(tmp_path, count=2)
    examples.attach(engine)
    examples.attach(engine)
    engine.run([[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]])
    kept = [(round(s["dice"], 3), s["case"]) for s in examples._kept]
    assert kept == [(0.1, "case5 slice 5"), (0.2, "case3 slice 3"), (0.8, "case8 slice 8"), (0.9, "case1 slice 1")]
    assert all(s["weak"].shape == s["prediction"].shape == (H, W) for s in examples._kept)
    picture(tmp_path / "examples.png")


def test_examples_of_the_last_validation_are_drawn_by_the_trainer(tmp_path: Path) -> None:
    validator = evaluator([0.5, 0.9], one_hot=True, decollated=True)
    trainer = Engine(lambda e, b: validator.run([[0, 1]]) and None)
    examples = Examples(tmp_path, evaluator=validator, count=3)
    examples.attach(trainer)
    trainer.run([0, 1], max_epochs=1)
    assert len(examples._kept) == 2
    picture(tmp_path / "examples.png")


def test_examples_shows_the_modality_asked_for(tmp_path: Path) -> None:
    label = torch.zeros(1, H, W, dtype=torch.long)
    label[0, :3] = 1
    image = torch.stack([torch.full((H, W), float(c)) for c in range(3)])
    engine = Engine(lambda e, b: [{"image": image, "label": label, "pred": label}])
    engine.add_event_handler(Events.ITERATION_STARTED, lambda e: setattr(e.state, "batch", [{"case": "a"}]))
    for channel in (0, 2):
        examples = Examples(tmp_path, image_channel=channel)
        examples.attach(engine)
        engine.run([0])
        assert (examples._kept[0]["image"] == channel).all()
    Examples(tmp_path, image_channel=3).attach(engine)
    with pytest.raises(ValueError, match="image_channel=3, but the image has 3 channels; choose 0 to 2"):
        engine.run([0])


def test_examples_wants_decollated_output(tmp_path: Path) -> None:
    engine = Engine(lambda e, b: {"pred": torch.zeros(2, 1, H, W)})
    Examples(tmp_path).attach(engine)
    with pytest.raises(TypeError, match="decollate=True"):
        engine.run([0])


def test_examples_in_a_monai_evaluator(tmp_path: Path) -> None:
    label = torch.zeros(1, H, W, 5)
    label[:, 4:15, 3:12, 1:4] = 1
    weak = torch.full(label.shape, 255)
    data = [
        {"image": label + 0.1 * i, "label": label.long(), "weak": weak, "case": f"case{i}"} for i in range(3)
    ]
    network = torch.nn.Conv3d(1, 2, 1)
    with torch.no_grad():  # foreground where the image is above 1/2
        network.weight.copy_(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1, 1))
        network.bias.copy_(torch.tensor([0.5, -0.5]))
    engine = SupervisedEvaluator(
        device="cpu", val_data_loader=DataLoader(Dataset(data), batch_size=2), network=network,
        postprocessing=Compose(
            [AsDiscreted(("pred",), argmax=True, to_onehot=2), AsDiscreted(("label",), to_onehot=2)]
        ),
        val_handlers=[examples := Examples(tmp_path, count=1)],
    )  # fmt: skip
    engine.run()
    assert [(s["case"], s["dice"]) for s in examples._kept] == [("case0", 1.0), ("case1", 1.0)]
    assert all(s["weak"].shape == s["image"].shape == (H, W) for s in examples._kept)
    picture(tmp_path / "examples.png")


def test_curves_are_drawn_every_few_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    monkeypatch.setattr(
        "monai_constraints.handlers.curves.plot_curves",
        lambda source, target: rows.append(len(Path(source).read_text().splitlines()) - 1),
    )
    engine = Engine(lambda e, b: {"loss": 1.0})
    MetricsLog(tmp_path).attach(engine)
    Curves(tmp_path, every=2).attach(engine)
    engine.run([0], max_epochs=5)
    assert rows == [2, 4, 5]


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_class_map_is_the_argmax(channels: int) -> None:
    scores = torch.randint(0, 4, (channels, 6, 7, 3))  # many ties: the first of the largest channels
    expected = torch.from_numpy(scores.numpy().argmax(0))
    for values in (scores, scores.float(), MetaTensor(scores.float())):
        assert torch.equal(class_map(values).long(), expected)
    one_hot = one_hot_of(expected, channels).movedim(-1, 0)
    assert torch.equal(class_map(one_hot).long(), expected)
    assert torch.equal(class_map(expected[None]), expected)


def test_one_epoch_alone_has_whole_numbers_beside_it() -> None:
    axes = Figure().add_subplot()
    draw_panel(axes, "Dice", {"dice": (np.array([2.0]), np.array([0.5]))})
    assert axes.get_xlim() == (1, 3) and all(float(tick).is_integer() for tick in axes.get_xticks())


def test_proposals_over_the_epochs(tmp_path: Path) -> None:
    boxes, proposals = np.zeros((2, 1, H, W)), np.zeros((9, 2, H, W), np.uint8)
    boxes[:, :, 4:20, 5:15] = 1
    for after, targets in enumerate(proposals):
        targets[:, 4 + after : 20 - after, 5:15] = 1
    images = np.random.default_rng(0).random((2, H, W))
    plot_proposals(images, boxes, proposals, range(0, 90, 10), tmp_path / "proposals.png")
    assert has_colour(picture(tmp_path / "proposals.png"), "#D55E00")
    volumes = [np.stack([0 * one, one, one, one, 0 * one], -1) for one in (images, boxes, proposals)]
    volumes[2][..., 1:4:2] = 0  # of each volume the middle slice of its box is drawn
    plot_proposals(*volumes, range(0, 90, 10), tmp_path / "volumes.png")
    assert np.array_equal(imread(tmp_path / "volumes.png"), imread(tmp_path / "proposals.png"))
    with pytest.raises(ValueError, match="plot_proposals: images .* 8 epochs"):
        plot_proposals(images, boxes, proposals, range(8), tmp_path / "proposals.png")
