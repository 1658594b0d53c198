"""What the boundary loss costs: ratios within one run, calls taking turns.

1. Signed distance maps over SciPy's two transforms: a volume of 160 x 256 x 256, and a batch of 8 slices 256 x 256.
2. The loss on maps made beforehand over MONAI's, which makes them: 8 x 4 x 256 x 256, softmax and backward in both.
3. The loss's share of a training step of the U-Net, batch 8 x 256 x 256.
4. A batch from the loader over that step: maps made once, and maps made after augmentation.
5. MONAI's Hausdorff loss over the one on the faster transform.

    python reproduce/benchmarks/boundary_cost.py [--rounds 10] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.losses import BoundaryLoss, GeneralizedDiceLoss, HausdorffDTLoss
from monai.networks.nets import BasicUNet
from monai.transforms import Compose, RandAffined
from scipy import ndimage
from turns import ratio, take_turns

from monai_constraints import Term, WeightedSum
from monai_constraints.losses import BoundaryMapLoss, HausdorffMapLoss
from monai_constraints.transforms import RandDihedrald, SignedDistanceMapd

SIDE = 256


def ellipses(*shape: int, count: int, seed: int) -> np.ndarray:
    """A label (*shape) with `count` ellipses of classes 1, 2, ..., each under a tenth of the image wide."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    for k in range(1, count + 1):
        centre, radius = rng.uniform(0.2, 0.8, len(shape)) * shape, rng.uniform(0.05, 0.1, len(shape)) * shape
        label[sum(((x - c) / r) ** 2 for x, c, r in zip(axes, centre, radius)) <= 1] = k
    return label


def scipy_map(mask: np.ndarray) -> np.ndarray:
    outside, inside = ndimage.distance_transform_edt(~mask), ndimage.distance_transform_edt(mask)
    return np.where(mask, 1 - inside, outside)


def maps(rounds: int, threads: int) -> None:
    volume = ellipses(160, SIDE, SIDE, count=6, seed=0) > 0
    slices = [ellipses(SIDE, SIDE, count=3, seed=s) > 0 for s in range(8)]
    for name, masks, turns in (("volume 160 x 256 x 256", [volume], max(2, rounds // 4)), ("8 slices", slices, rounds)):
        transform = SignedDistanceMapd(classes=[1], spacing="voxel", threads=threads)
        labels = [torch.from_numpy(mask)[None].byte() for mask in masks]
        ours = lambda: [transform({"label": label})["distance"][0].numpy() for label in labels]  # noqa: B023,E731
        scipy = lambda: [scipy_map(mask) for mask in masks]  # noqa: B023,E731
        difference = max(np.abs(a - b).max() for a, b in zip(ours(), scipy()))
        times = take_turns({"ours": ours, "scipy": scipy}, turns if len(masks) == 1 else 10 * turns, warm_up=0)
        report(f"maps, {name}: SciPy over ours", times, "scipy", "ours", f"largest difference {difference:.1e}")


def losses(rounds: int) -> None:
    slices = [ellipses(SIDE, SIDE, count=3, seed=s) for s in range(8)]
    label = torch.from_numpy(np.stack(slices))[:, None].long()
    classes = [0, 1, 2, 3]
    transform = SignedDistanceMapd(classes=classes, spacing="voxel")
    distance = torch.stack([transform({"label": one})["distance"] for one in label])
    logits = torch.randn(8, 4, SIDE, SIDE, requires_grad=True)
    ours, monai = BoundaryMapLoss(softmax=True), BoundaryLoss(softmax=True, to_onehot_y=True)
    difference = float((ours(logits, distance) - monai(logits, label)).detach().abs())
    calls: dict[str, Callable[[], object]] = {
        "ours": lambda: ours(logits, distance).backward(),
        "monai": lambda: monai(logits, label).backward(),
    }
    times = take_turns(calls, rounds)
    report("loss, 8 x 4 x 256 x 256: MONAI over ours", times, "monai", "ours", f"values differ by {difference:.1e}")
    theirs, faster = HausdorffDTLoss(softmax=True, to_onehot_y=True), HausdorffMapLoss(softmax=True, to_onehot_y=True)
    calls = {"ours": lambda: faster(logits, label).backward(), "monai": lambda: theirs(logits, label).backward()}
    report("Hausdorff loss: MONAI over ours", take_turns(calls, max(2, rounds // 4), warm_up=1), "monai", "ours", "")


def training(rounds: int) -> None:
    network = BasicUNet(2, 1, 2, features=(16, 16, 32, 64, 128, 16), norm="batch", upsample="nontrainable")
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    items = []
    for seed in range(16):
        label = torch.from_numpy(ellipses(SIDE, SIDE, count=3, seed=seed) > 0)[None].byte()
        items.append({"image": label + torch.randn(1, SIDE, SIDE), "label": label})
    transform = SignedDistanceMapd(classes=[1], spacing="voxel")
    loss = WeightedSum(
        {
            "gdl": Term(GeneralizedDiceLoss(to_onehot_y=True), "label"),
            "boundary": Term(BoundaryMapLoss(classes=[1]), "distance"),
        }
    )
    modes = ["bilinear", "nearest"]
    affine = RandAffined(["image", "label"], prob=1, rotate_range=0.3, scale_range=0.2, mode=modes)
    keys = ["image", "label", "distance"]
    pipelines: dict[str, list[Any]] = {
        "maps made once": [transform],
        "maps made once, flips": [transform, RandDihedrald(keys)],
        "maps made after rotation and zoom": [affine, transform],
    }
    loaders = {
        name: DataLoader(CacheDataset(items, Compose(steps), progress=False), batch_size=8, num_workers=0)
        for name, steps in pipelines.items()
    }
    batch = next(iter(loaders["maps made once"]))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.0)
    probabilities = torch.rand(8, 2, SIDE, SIDE).requires_grad_()
    boundary = BoundaryMapLoss(classes=[1])

    def step() -> None:
        optimizer.zero_grad()
        loss(network(batch["image"]), batch).backward()
        optimizer.step()

    calls: dict[str, Callable[[], object]] = {
        "step": step,
        "boundary": lambda: boundary(probabilities, batch["distance"]).backward(),
    }
    for name, loader in loaders.items():
        calls[name] = lambda loader=loader: next(iter(loader))  # type: ignore[misc]
    times = take_turns(calls, max(3, rounds // 2), warm_up=1)
    report("boundary loss, forward and backward, over a training step", times, "boundary", "step", "")
    for name in loaders:
        report(f"batch of the loader, {name}, in one process, over a training step", times, name, "step", "")


def report(what: str, times: dict[str, list[float]], above: str, below: str, more: str) -> None:
    middle = {name: statistics.median(times[name]) for name in (above, below)}
    least = min(times[above]) / min(times[below])
    seconds = f"{above} {middle[above]:.4f} s, {below} {middle[below]:.4f} s{'; ' + more if more else ''}"
    print(  # noqa: T201 - a benchmark's result
        f"{what} x {ratio(times, above, below):.3g} (median of {len(times[above])} pairs; of the least times "
        f"x {least:.3g}; {seconds})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Ratios of time within one run.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    maps(arguments.rounds, arguments.threads)
    losses(arguments.rounds)
    training(arguments.rounds)


if __name__ == "__main__":
    main()
