"""What a constraint costs: ratios within one run.

1. A training step with size and centroid bounds over the same step with cross-entropy alone. The two steps take turns,
   so that whatever else the machine does falls on both.
2. The loss on 10,000 constraints over the same loss on 2, and over a Python loop with one constraint at a time.
3. Size, centroid and spread by sums over rows and columns, over the same from a dense map of each feature.

    python reproduce/benchmarks/constraint_cost.py [--steps 60] [--threads 2] [--compile] [--only lines]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from monai.networks.nets import BasicUNet
from torch import Tensor
from turns import ratio, step_clock, take_turns

from monai_constraints import (
    Centroid,
    ConstraintLoss,
    LogBarrier,
    PartialCrossEntropy,
    Size,
    Statistic,
    Term,
    WeightedSum,
)
from monai_constraints.constraints import Spread
from monai_constraints.constraints.block_sums import block_sums
from monai_constraints.constraints.statistic import Feature


class Projections(Statistic):
    """Sums against fixed random maps: as many constraints as wanted."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.maps = maps

    def features(self, coordinates: Sequence[Tensor], image: Tensor | None, boxes: Tensor | None) -> Sequence[Feature]:
        return list(self.maps)

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        return sums


def training_steps(batch: int, size: int, rounds: int, *, compiled: bool) -> None:
    network = BasicUNet(2, 1, 2, features=(16, 16, 32, 64, 128, 16), norm="batch", upsample="nontrainable")
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.rand(batch, 1, size, size)
    targets = {
        "weak": (torch.rand(batch, 1, size, size) > 0.9).long(),
        "size_bounds": torch.tensor([100.0, 200.0]).expand(batch, 1, 1, 2),
        "centroid_bounds": torch.tensor([size / 3, size / 2]).expand(batch, 1, 2, 2),
    }
    barrier = LogBarrier()
    ce = {"ce": Term(PartialCrossEntropy(), "weak")}
    constrained = {
        **ce,
        "size": Term(ConstraintLoss(Size(classes=[1]), barrier), "size_bounds", weight=0.01),
        "centroid": Term(ConstraintLoss(Centroid(classes=[1]), barrier), "centroid_bounds", weight=0.01),
    }

    def step(terms: dict[str, Term]) -> Callable[[], object]:
        loss = WeightedSum(terms)
        loss = torch.compile(loss) if compiled else loss  # type: ignore[assignment]
        optimizer = torch.optim.Adam(network.parameters(), lr=0.0)

        def once() -> None:
            optimizer.zero_grad()
            loss(network(image), targets).backward()
            optimizer.step()

        return once

    calls = {"ce": step(ce), "constrained": step(constrained)}
    times = take_turns(calls, rounds, clock=step_clock() if torch.get_num_threads() == 1 else time.perf_counter)
    print(  # noqa: T201 - a benchmark's result
        f"step, U-Net, batch {batch} x {size} x {size}: {statistics.median(times['ce']):.4f} s with cross-entropy;"
        f" with size and centroid bounds x {ratio(times, 'constrained', 'ce'):.4f} (median of {rounds} pairs)"
    )


def many_constraints(rounds: int) -> None:
    batch, classes, values, size = 10, 10, 50, 64
    logits = torch.rand(batch, classes, size, size, requires_grad=True)
    maps = torch.rand(values, size, size)
    bounds = torch.tensor([100.0, 200.0]).expand(batch, classes, values, 2)
    barrier = LogBarrier()
    every = ConstraintLoss(Projections(maps), barrier, softmax=True)
    one = ConstraintLoss(Projections(maps[:1]), barrier, softmax=True)

    def loop() -> None:
        p = logits.softmax(1)
        total = torch.zeros(())
        for b in range(batch):
            for k in range(classes):
                for m in range(values):
                    f = (p[b, k] * maps[m]).sum()
                    total = total + barrier(bounds[b, k, m, 0] - f) + barrier(f - bounds[b, k, m, 1])
        total.backward()

    times = take_turns(
        {
            "2 x 100": lambda: one(logits, bounds[:, :, :1]).backward(),
            "10,000": lambda: every(logits, bounds).backward(),
            "loop": loop,
        },
        max(3, rounds // 10),
    )
    middle = {name: statistics.median(t) for name, t in times.items()}
    print(  # noqa: T201
        f"10,000 constraints ({batch} x {classes} x {values} x 2), forward and backward: {middle['10,000']:.4f} s, "
        f"x {middle['10,000'] / middle['2 x 100']:.2f} of 200 constraints on the same maps; "
        f"a Python loop over constraints takes x {middle['loop'] / middle['10,000']:.0f}"
    )


def line_sums(rounds: int) -> None:
    for shape in ((1, 1, 256, 256), (4, 4, 64, 64), (4, 4, 256, 256), (1, 2, 64, 160, 160)):
        region = torch.rand(shape, requires_grad=True)
        spatial = tuple(shape[2:])
        for statistic in (Size(), Centroid(), Spread()):
            centre = statistic.centre(spatial, region.device)

            def lines(f: Statistic = statistic) -> Tensor:
                return f.measure(region)

            def maps(f: Statistic = statistic) -> Tensor:
                return block_sums(region, f.feature_maps(spatial, region.device))

            def both(sums: Callable[[], Tensor], value: bool, f: Statistic = statistic) -> Callable[[], object]:
                def once() -> object:
                    found = f.value(sums(), centre) if value else sums()
                    return torch.autograd.grad(found, region, torch.ones_like(found))

                return once

            calls = {
                f"{name}, {what}": both(sums, what == "values")
                for name, sums in (("lines", lines), ("maps", maps))
                for what in ("sums", "values")
            }
            times = take_turns(calls, 5 * rounds)
            print(  # noqa: T201
                f"{type(statistic).__name__} of {' x '.join(map(str, shape))}, forward and backward: a dense map takes "
                f"x {ratio(times, 'maps, sums', 'lines, sums'):.2f} of rows and columns, "
                f"x {ratio(times, 'maps, values', 'lines, values'):.2f} up to the values "
                f"({1e6 * statistics.median(times['lines, values']):.0f} us)"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description="Ratios of time within one run.")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="torch.compile of the loss, in both steps")
    parser.add_argument("--only", choices=("steps", "many", "lines"), help="one of the three")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    if arguments.only in (None, "steps"):
        for batch, size in ((4, 64), (4, 128), (4, 256)):
            training_steps(batch, size, arguments.steps, compiled=arguments.compile)
    if arguments.only in (None, "many"):
        many_constraints(arguments.steps)
    if arguments.only in (None, "lines"):
        line_sums(arguments.steps)


if __name__ == "__main__":
    main()
