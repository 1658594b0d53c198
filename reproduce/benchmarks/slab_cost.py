"""What tightness, emptiness and size of boxes cost: ratios within one run.

1. A training step with the three over the same step with cross-entropy alone, in turns, at 4 x 256 x 256.
2. The tightness, its bounds, forward and backward, over a Python loop with one band's mask at a time, for 160 to 1152
   bands; and the memory that either takes for the bands.

    python reproduce/benchmarks/slab_cost.py [--steps 30] [--threads 1] [--device cpu]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from monai.networks.nets import BasicUNet
from torch import Tensor
from turns import ratio, step_clock, synchronised, take_turns

from monai_constraints.constraints import (
    BoxSize,
    Empty,
    LogBarrier,
    Outside,
    Root,
    Size,
    SlabSums,
    Tight,
)
from monai_constraints.constraints.intervals import box_mask
from monai_constraints.constraints.slabs import bands
from monai_constraints.losses import ConstraintLoss, PartialCrossEntropy, Term, WeightedSum
from monai_constraints.networks import placed
from monai_constraints.transforms import BoxBoundsd

BATCH, SIDE, WIDTH = 4, 256, 5


def made(classes: int, count: int, device: str) -> dict[str, Tensor]:
    """Boxes of 100 x 100 pixels (20 bands an axis), and a weak label."""
    low = torch.randint(0, SIDE - 100, (BATCH, classes, count, 2))
    weak = torch.full((BATCH, 1, SIDE, SIDE), 255, dtype=torch.uint8)
    weak[..., :64] = 0
    boxes = torch.stack([low, low + 100], -1)
    return {"boxes": boxes.to(device), "weak": weak.to(device), "image": torch.rand(BATCH, 1, SIDE, SIDE).to(device)}


def training_steps(rounds: int, device: str) -> None:
    for classes, count in ((1, 1), (3, 1), (3, 4)):
        features = (16, 32, 64, 64, 64, 16)
        unet = BasicUNet(2, 1, 1 + classes, features=features, norm="batch", upsample="nontrainable")
        network = placed(unet, device)
        batch = made(classes, count, device)
        chosen = list(range(1, 1 + classes))
        terms = {"ce": Term(PartialCrossEntropy())}
        boxed = dict(terms)
        bounds = []
        for name, statistic, rule in (
            ("tightness", Root(SlabSums(width=WIDTH, classes=chosen)), Tight()),
            ("emptiness", Root(Outside(classes=chosen)), Empty()),
            ("size", Root(Size(classes=chosen)), BoxSize()),
        ):
            bounds.append(BoxBoundsd(statistic, rule, name))
            boxed[name] = Term(ConstraintLoss(statistic, LogBarrier()))

        def step(terms: dict[str, Term], make: list[BoxBoundsd]) -> Callable[[], object]:
            loss, optimizer = WeightedSum(terms), torch.optim.Adam(network.parameters(), lr=0.0)

            def once() -> None:
                targets = dict(batch)
                for transform in make:  # bands are made for each batch, behind its augmentation
                    targets = transform(targets)  # type: ignore[arg-type, assignment]
                optimizer.zero_grad()
                loss(network(targets["image"]), targets).backward()
                optimizer.step()

            return synchronised(once)

        calls = {"ce": step(terms, []), "boxes": step(boxed, bounds)}
        times = take_turns(calls, rounds, clock=clock())
        print(  # noqa: T201
            f"step, U-Net, {BATCH} x {SIDE} x {SIDE}, {classes} classes with {count} boxes each: "
            f"{1e3 * statistics.median(times['ce']):.0f} ms with cross-entropy; with tightness, emptiness, size and "
            f"their bounds x {ratio(times, 'boxes', 'ce'):.4f} (median of {rounds} pairs)"
        )


def tightness(rounds: int, device: str) -> None:
    for classes, count in ((1, 1), (3, 1), (3, 2), (3, 4)):
        batch = made(classes, count, device)
        logits = torch.randn(BATCH, 1 + classes, SIDE, SIDE, device=device, requires_grad=True)
        probabilities = logits.detach().softmax(1).requires_grad_()
        chosen, barrier = list(range(1, 1 + classes)), LogBarrier()
        statistic = SlabSums(width=WIDTH, classes=chosen)
        bounds = BoxBoundsd(statistic, Tight(), "tightness")
        loss = ConstraintLoss(statistic, barrier)
        begin, end, axis = bands(batch["boxes"], (SIDE, SIDE), WIDTH)
        masks = []
        for b, k, j, n in (end > begin).nonzero().tolist():
            one = batch["boxes"][b, k, j].clone()
            one[axis[n]] = torch.stack([begin[b, k, j, n], end[b, k, j, n]])
            masks.append((b, k + 1, box_mask(one[None], (SIDE, SIDE)), float(end[b, k, j, n] - begin[b, k, j, n])))

        def ours(p: Tensor) -> Tensor:
            given = bounds(batch)  # type: ignore[arg-type]
            return loss(p, given["tightness_bounds"], boxes=batch["boxes"])  # type: ignore[no-any-return]

        def loop(p: Tensor) -> Tensor:
            total = torch.zeros((), device=device)
            for b, k, mask, lines in masks:
                total = total + barrier(lines - (p[b, k] * mask).sum())
            return total

        def of(leaf: Tensor, value: Callable[[Tensor], Tensor]) -> Callable[[], object]:
            activation = (lambda x: x.softmax(1)) if leaf is logits else (lambda x: x)
            return synchronised(lambda: torch.autograd.grad(value(activation(leaf)), leaf))

        calls = {f"{f.__name__}, {name}": of(leaf, f) for name, leaf in
                 (("softmax", logits), ("alone", probabilities)) for f in (ours, loop)}  # fmt: skip
        times = take_turns(calls, max(5, rounds // 2), clock=clock())
        held = sum(mask.numel() * 4 for *_, mask, _ in masks) / 2**20
        profile = 4 * BATCH * classes * count * (2 * SIDE + 1) / 2**20
        print(  # noqa: T201 - a benchmark's result
            f"{len(masks)} bands: {1e3 * statistics.median(times['ours, alone']):.2f} ms, bounds included; a loop over "
            f"bands takes x {ratio(times, 'loop, alone', 'ours, alone'):.0f}, with the softmax of either "
            f"x {ratio(times, 'loop, softmax', 'ours, softmax'):.0f}; profiles {profile:.2f} MiB, masks {held:.0f} MiB"
        )


def clock() -> Callable[[], float]:
    return step_clock() if torch.get_num_threads() == 1 else time.perf_counter


def main() -> None:
    parser = argparse.ArgumentParser(description="Ratios of time within one run.")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    tightness(arguments.steps, arguments.device)
    training_steps(arguments.steps, arguments.device)


if __name__ == "__main__":
    main()
