"""What an update of DeepCut's proposals costs: seconds for 100 slices, the dense CRF in one process and in several.

The network's own part, a U-Net at half the resolution, is in it. Table B.1 has the thesis's: 440 seconds on PROMISE12
and 3120 on ATLAS. The cost grows with the number of slices that have a box.

    python reproduce/benchmarks/deepcut_cost.py [--processes 1 2] [--slices 100] [--size 128] [--classes 1] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.engines import SupervisedTrainer
from monai.networks.nets import BasicUNet
from torch import nn
from turns import ratio, take_turns

from monai_constraints.data import CachedSlices, slice_loader
from monai_constraints.engines import PrepareTargets
from monai_constraints.handlers import DeepCut
from monai_constraints.transforms import BoxesFromLabeld, BoxToWeakd


def volume(sample: dict[str, Any], *, slices: int, size: int, classes: int) -> dict[str, Any]:
    """Noise, and in every slice squares beside each other, one of each class, that fill half of the width."""
    rng = np.random.default_rng(0)
    label = np.zeros((1, size, size, slices), np.uint8)
    for k in range(classes):
        label[:, size // 4 : 3 * size // 4, size // 4 + k * size // 2 // classes : 3 * size // 4] = k + 1
    image = rng.random(label.shape, np.float32) / 2 + label / (2 * classes)
    return {**sample, "image": torch.from_numpy(image).float(), "label": torch.from_numpy(label)}


def trainer_of(dataset: CachedSlices, classes: int) -> SupervisedTrainer:
    """A trainer whose network has not been trained: the time is the same."""
    features = (16, 32, 64, 64, 64, 16)
    trunk = BasicUNet(2, 16, 1 + classes, features=features, norm="batch", upsample="nontrainable")
    stem = nn.Conv2d(1, 16, 3, stride=2, padding=1)
    network = nn.Sequential(stem, trunk, nn.Upsample(scale_factor=2, mode="bilinear"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return SupervisedTrainer(
        device=device, max_epochs=1, train_data_loader=slice_loader(dataset), network=network.to(device),
        optimizer=torch.optim.Adam(network.parameters()), loss_function=nn.Identity(),
        prepare_batch=PrepareTargets(["weak"]),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds of an update, the numbers of processes taking turns.")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--classes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    make = partial(volume, slices=arguments.slices, size=arguments.size, classes=arguments.classes)
    boxes = BoxesFromLabeld(classes=range(1, 1 + arguments.classes))
    dataset = CachedSlices([{"case": "one"}], make, annotate=[boxes, BoxToWeakd(inside="class")])
    trainer = trainer_of(dataset, arguments.classes)

    def update(processes: int) -> Callable[[], object]:
        deepcut = DeepCut(dataset, workers=processes)
        return lambda: deepcut.update(trainer)

    names = {f"{processes} processes": processes for processes in arguments.processes}
    times = take_turns({name: update(processes) for name, processes in names.items()}, arguments.rounds, warm_up=1)
    first = next(iter(names))
    for name, of_name in times.items():
        seconds = 100 / arguments.slices * statistics.median(of_name)
        text = f"{name}: {seconds:.1f} s for 100 slices of {arguments.size} x {arguments.size}, "
        print(text + f"x {ratio(times, first, name):.2f} of {first}", flush=True)  # noqa: T201 - a benchmark's result


if __name__ == "__main__":
    main()
