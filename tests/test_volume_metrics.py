from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_data import read_csv
from ignite.engine import Engine
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from torch.nn.functional import one_hot

from monai_constraints.handlers import VolumeMetrics
from monai_constraints.metrics import dice_of_masks, hausdorff95

H, W, D = 9, 7, 5
SPACING = [1.5, 1.25, 8.0]


def surface(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Voxels with a neighbour across a face that is not in the mask, or that lies outside the volume."""
    found = []
    for voxel in zip(*map(np.ndarray.tolist, np.nonzero(mask))):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            other = list(voxel)
            other[axis] += step
            if not 0 <= other[axis] < mask.shape[axis] or not mask[tuple(other)]:
                found.append(voxel)
                break
    return found


def naive_hd95(prediction: np.ndarray, truth: np.ndarray, spacing: list[float]) -> float:
    if not prediction.any() or not truth.any():
        both = not prediction.any() and not truth.any()
        return 0.0 if both else sum((n * s) ** 2 for n, s in zip(truth.shape, spacing)) ** 0.5
    surfaces = surface(prediction), surface(truth)
    worst = []
    for a, b in (surfaces, surfaces[::-1]):
        nearest = [min(sum(((i - j) * s) ** 2 for i, j, s in zip(p, q, spacing)) ** 0.5 for q in b) for p in a]
        worst.append(float(np.percentile(nearest, 95)))
    return max(worst)


def naive_dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    p, g = (set(zip(*map(np.ndarray.tolist, np.nonzero(mask)))) for mask in (prediction, truth))
    return 2 * len(p & g) / (len(p) + len(g)) if p or g else 1.0


def blobs(seed: int, *shape: int) -> np.ndarray:
    """Classes 0, 1, 2 in boxes, away from some borders and across others."""
    rng = np.random.default_rng(seed)
    classes = np.zeros(shape, np.uint8)
    for k in (1, 2, 1):
        low = [int(rng.integers(0, side - 1)) for side in shape]
        box = tuple(slice(a, a + int(rng.integers(1, side))) for a, side in zip(low, shape))
        classes[box] = k
    return classes


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("axes", [2, 3])
def test_distances_are_those_of_a_loop(seed: int, axes: int) -> None:
    prediction, truth = (blobs(2 * seed + i, *(H, W, D)[:axes]) == 1 for i in (0, 1))
    if seed == 7:
        prediction[:] = False
    expected = naive_hd95(prediction, truth, SPACING[:axes])
    assert hausdorff95(prediction, truth, SPACING[:axes]) == pytest.approx(expected, rel=1e-5)
    assert dice_of_masks(prediction, truth) == pytest.approx(naive_dice(prediction, truth))


def test_conventions_of_empty_masks() -> None:
    empty, full = np.zeros((3, 4), bool), np.ones((3, 4), bool)
    assert dice_of_masks(empty, empty) == 1 and dice_of_masks(full, empty) == 0
    assert hausdorff95(empty, empty, [2, 2]) == 0
    assert hausdorff95(full, empty, [2, 2]) == hausdorff95(empty, full, [2, 2]) == 10
    with pytest.raises(ValueError, match="1 spacings for 2 axes"):
        hausdorff95(full, full, [2])


Case = tuple[np.ndarray, np.ndarray]


def cases() -> dict[str, Case]:
    made = {f"case{i}": (blobs(10 + i, H, W, D), blobs(20 + i, H, W, D)) for i in range(3)}
    made["case1"][0][:] = 0
    return made


def one(volume: np.ndarray, *, hot: bool) -> torch.Tensor:
    classes = torch.as_tensor(volume).long()
    return one_hot(classes, 3).movedim(-1, 0) if hot else classes[None]


def samples(volumes: dict[str, Case], *, axis: int, hot: bool, spacing: bool = True) -> list[tuple[Any, Any]]:
    """(output, item) of each slice, in no order, and some of them twice."""
    found = []
    for name, (prediction, truth) in volumes.items():
        for z in range(truth.shape[axis]):
            p, g = (mask.take(z, axis) for mask in (prediction, truth))
            out = {"pred": one(p, hot=hot), "label": one(g, hot=hot), "image": one(g, hot=False) + 10.0 * z}
            item = {"case": name, "patient": name[:4], "slice": torch.tensor(z)}
            found.append((out, item | ({"spacing": [torch.tensor(s) for s in SPACING]} if spacing else {})))
    order = np.random.default_rng(0).permutation(len(found)).tolist()
    return [found[i] for i in order + order[:4]]


def evaluator(pairs: list[tuple[Any, Any]], size: int = 4) -> tuple[Engine, range]:
    def step(engine: Engine, start: int) -> Any:
        chosen = pairs[start : start + size]
        engine.state.batch = [item for _, item in chosen]
        return [out for out, _ in chosen]

    return Engine(step), range(0, len(pairs), size)


def expect(rows: list[dict[str, str]], volumes: dict[str, Case], zoom: list[float], axis: int = -1) -> None:
    assert [(row["case"], row["class"]) for row in rows] == [(c, k) for c in sorted(volumes) for k in ("one", "two")]
    voxel = [s * z for s, z in zip(SPACING, zoom)]
    for row in rows:
        p, g = (mask == ["one", "two"].index(row["class"]) + 1 for mask in volumes[row["case"]])
        by_slice = [naive_dice(p.take(z, axis), g.take(z, axis)) for z in range(g.shape[axis])]
        assert float(row["dice"]) == pytest.approx(naive_dice(p, g), rel=1e-5)
        assert float(row["hd95"]) == pytest.approx(naive_hd95(p, g, voxel), rel=1e-5)
        assert float(row["dice_2d"]) == pytest.approx(np.mean(by_slice), rel=1e-5)
        assert row["slices"] == str(len(by_slice)) and row["patient"] == "case"
        seen = [(bool(p.take(z, axis).any()), bool(g.take(z, axis).any())) for z in range(g.shape[axis])]
        counts = [sum(not there for _, there in seen), seen.count((False, False)), seen.count((False, True))]
        assert [int(row[name]) for name in ("absent", "left_empty", "missed")] == counts


@pytest.mark.parametrize(("axis", "hot"), [(-1, True), (0, False)])
def test_slices_become_volumes(axis: int, hot: bool, tmp_path: Path) -> None:
    volumes, zoom = cases(), [2.0, 1.6, 1.0]
    engine, batches = evaluator(samples(volumes, axis=axis, hot=hot))
    handler = VolumeMetrics(tmp_path, class_names=["one", "two"], zoom=zoom, slice_axis=axis)
    handler.attach(engine)
    handler.attach(engine)
    engine.run(batches)
    expect(read_csv(tmp_path / "patients.csv"), volumes, zoom, axis)
    planes = np.load(tmp_path / "predictions.npz")
    assert len(planes.files) == 9
    for name, (prediction, truth) in volumes.items():
        sizes = [(truth.take(z, axis) > 0).sum() for z in range(truth.shape[axis])]
        z = int((planes[f"image/{name}"] // 10).flat[0])
        assert sizes[z] == max(sizes) > 0
        np.testing.assert_array_equal(planes[f"label/{name}"], truth.take(z, axis))
        np.testing.assert_array_equal(planes[f"pred/{name}"], prediction.take(z, axis))
        np.testing.assert_array_equal(planes[f"image/{name}"] - 10 * z, truth.take(z, axis))


def test_the_picture_is_of_the_modality_asked_for(tmp_path: Path) -> None:
    volumes = cases()
    pairs = [
        (out | {"image": torch.cat([out["image"], -out["image"]])}, item)
        for out, item in samples(volumes, axis=-1, hot=True)
    ]
    for channel, sign in ((0, 1), (1, -1)):
        engine, batches = evaluator(pairs)
        VolumeMetrics(tmp_path, class_names=["one", "two"], image_channel=channel).attach(engine)
        engine.run(batches)
        planes = np.load(tmp_path / "predictions.npz")
        for name, (_, truth) in volumes.items():
            np.testing.assert_array_equal(sign * planes[f"image/{name}"] % 10, planes[f"label/{name}"])
    VolumeMetrics(tmp_path, class_names=["one", "two"], image_channel=2).attach(engine)
    with pytest.raises(ValueError, match="image_channel=2, but the image has 2 channels"):
        engine.run(batches)


def test_slices_left_out_are_gaps(tmp_path: Path) -> None:
    truth = np.zeros((H, W, 9), np.uint8)
    truth[2:5, 2:5, 2] = 1
    prediction = np.zeros_like(truth)
    prediction[2:5, 2:5, 6] = 1
    pairs = [pair for pair in samples({"a": (prediction, truth)}, axis=-1, hot=True) if pair[1]["slice"] in (2, 3, 6)]
    engine, batches = evaluator(pairs)
    VolumeMetrics(tmp_path, class_names=["one", "two"]).attach(engine)
    engine.run(batches)
    row = read_csv(tmp_path / "patients.csv")[0]
    assert float(row["hd95"]) == 4 * SPACING[2] and row["slices"] == "3"
    assert float(row["dice_2d"]) == pytest.approx(1 / 3, rel=1e-5)
    assert [row[name] for name in ("absent", "left_empty", "missed")] == ["2", "1", "1"]


def test_only_the_last_validation_of_a_training_counts(tmp_path: Path) -> None:
    volumes = cases()
    validator, batches = evaluator(samples(volumes, axis=-1, hot=True))
    first = {name: (truth, truth) for name, (_, truth) in volumes.items()}
    perfect = samples({**first, "gone": first["case0"]}, axis=-1, hot=True)

    def train(engine: Engine, batch: Any) -> None:
        if engine.state.epoch == 1:
            other, those = evaluator(perfect)
            validator._process_function, process = other._process_function, validator._process_function
            validator.run(those)
            validator._process_function = process
        else:
            validator.run(batches)
        assert not (tmp_path / "patients.csv").exists()

    trainer = Engine(train)
    VolumeMetrics(tmp_path, evaluator=validator, class_names=["one", "two"]).attach(trainer)
    trainer.run([0], max_epochs=2)
    expect(read_csv(tmp_path / "patients.csv"), volumes, [1, 1, 1])
    assert "image/gone" not in np.load(tmp_path / "predictions.npz")


def test_no_spacing_no_millimetres(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine, batches = evaluator(samples(cases(), axis=-1, hot=True, spacing=False))
    VolumeMetrics(tmp_path, class_names=["one", "two"]).attach(engine)
    with caplog.at_level(logging.WARNING):
        engine.run(batches)
    assert "3 of 3 cases have no 'spacing'" in caplog.text
    rows = read_csv(tmp_path / "patients.csv")
    assert {row["hd95"] for row in rows} == {""} and all(row["dice"] for row in rows)
    caplog.clear()
    engine, batches = evaluator(samples(cases(), axis=-1, hot=True))
    VolumeMetrics(tmp_path, class_names=["one", "two"], spacing_key=None).attach(engine)
    engine.run(batches)
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert {row["hd95"] for row in read_csv(tmp_path / "patients.csv")} == {""}


def test_wrong_samples_are_named(tmp_path: Path) -> None:
    (pair, *_) = samples(cases(), axis=-1, hot=True)
    for change, names, error, message in (
        ({"case": None}, ["one", "two"], KeyError, "no 'case'"),
        ({}, ["one"], ValueError, "has class 2"),
        ({"spacing": [1.0]}, ["one", "two"], ValueError, "same axes"),
    ):
        item = {k: v for k, v in {**pair[1], **change}.items() if v is not None}
        label = one(np.full((H, W), 2, np.uint8), hot=True)
        engine, batches = evaluator([({**pair[0], "label": label}, item)])
        VolumeMetrics(tmp_path, class_names=names).attach(engine)
        with pytest.raises(error, match=message):
            engine.run(batches)
    with pytest.raises(ValueError, match="list of one name"):
        VolumeMetrics(tmp_path, class_names="ventricle")


@pytest.mark.parametrize("axes", [2, 3])
def test_whole_volumes_and_lone_images_in_a_monai_evaluator(axes: int, tmp_path: Path) -> None:
    """A network that answers where the image is above 1/2; the batch goes through DataLoader and decollation."""
    shape = (H, W, D)[:axes]
    data, volumes = [], {}
    for i in range(3):
        prediction, truth = blobs(40 + i, *shape) % 2, blobs(50 + i, *shape) % 2
        image, label = (torch.as_tensor(mask)[None] for mask in (prediction, truth))
        data.append({"image": image.float(), "label": label, "case": f"case{i}", "spacing": SPACING})
        volumes[f"case{i}"] = (prediction, truth)
    network: Any = (torch.nn.Conv3d if axes == 3 else torch.nn.Conv2d)(1, 2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([-1.0, 1.0]).reshape(network.weight.shape))
        network.bias.copy_(torch.tensor([0.5, -0.5]))
    engine = SupervisedEvaluator(
        device="cpu", val_data_loader=DataLoader(Dataset(data), batch_size=2), network=network,
        val_handlers=[VolumeMetrics(tmp_path, class_names=["one"])],
    )  # fmt: skip
    engine.run()
    rows = read_csv(tmp_path / "patients.csv")
    assert [row["case"] for row in rows] == sorted(volumes)
    for row in rows:
        p, g = (mask == 1 for mask in volumes[row["case"]])
        assert float(row["hd95"]) == pytest.approx(naive_hd95(p, g, SPACING[:axes]), rel=1e-5)
        slices = [(p, g)] if axes == 2 else [(p[..., z], g[..., z]) for z in range(D)]
        assert float(row["dice_2d"]) == pytest.approx(np.mean([naive_dice(*pair) for pair in slices]), rel=1e-5)
    planes = np.load(tmp_path / "predictions.npz")
    assert all(planes[name].shape == (H, W) for name in planes.files) and len(planes.files) == 9
