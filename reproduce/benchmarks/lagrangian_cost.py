"""What each way to enforce a size costs: a training step over the same step with cross-entropy alone, in one run.

Per step: penalty, barrier, explicit multipliers (outside the dual pass), exact proposals, and the published proposals
with and without early stop. Per epoch: the dual pass over the training steps.

    python reproduce/benchmarks/lagrangian_cost.py [--steps 30] [--threads 1] [--size 128] [--network unet] [--legacy]
        [--batches 1 8] [--only exact]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from monai.networks.nets import BasicUNet
from torch import Tensor, nn
from turns import ratio, step_clock, synchronised, take_turns, training_step

from monai_constraints import ConstraintLoss, LogBarrier, PartialCrossEntropy, Quadratic, Size, Term, WeightedSum
from monai_constraints.constraints import (
    AugmentedLagrangian,
    LegacyProposals,
    NuPI,
    ReLULagrangian,
    StandardLagrangian,
    observing,
)
from monai_constraints.losses import ProposalCrossEntropy
from monai_constraints.networks import ENet

SAMPLES = 1000


def constraints(classes: int, legacy: bool) -> dict[str, nn.Module]:
    size, options = Size(classes=list(range(1, classes + 1))), {"classes": classes, "learning_rate": 0.01}
    found: dict[str, nn.Module] = {
        "penalty": ConstraintLoss(size, Quadratic()),
        "barrier": ConstraintLoss(size, LogBarrier()),
        "standard Lagrangian": ConstraintLoss(size, StandardLagrangian(SAMPLES, **options)),  # type: ignore[arg-type]
        "ReLU Lagrangian": ConstraintLoss(size, ReLULagrangian(SAMPLES, **options)),  # type: ignore[arg-type]
        "augmented Lagrangian": ConstraintLoss(size, AugmentedLagrangian(SAMPLES, classes=classes, c=0.01)),
        "nuPI": ConstraintLoss(size, NuPI(SAMPLES, **options)),  # type: ignore[arg-type]
        "exact proposals": ProposalCrossEntropy(size),
    }
    if legacy:
        for name, stop in (("published proposals, early stop", True), ("published proposals", False)):
            found[name] = ProposalCrossEntropy(size, LegacyProposals(early_stop=stop))
    return found


def compare(
    network: nn.Module, batch: int, classes: int, size: int, rounds: int, legacy: bool, only: str
) -> None:
    device = next(network.parameters()).device
    image = torch.rand(batch, 1, size, size, device=device)
    share = size * size / (10 * classes)
    targets: dict[str, Tensor] = {
        "weak": (torch.rand(batch, 1, size, size, device=device) > 0.9).long(),
        "size_bounds": torch.tensor([0.9 * share, 1.1 * share], device=device).expand(batch, classes, 1, 2),
        "index": torch.arange(batch, device=device),
    }
    ce = {"ce": Term(PartialCrossEntropy(), "weak")}
    optimizer = torch.optim.Adam(network.parameters(), lr=0.0)

    def step(loss: WeightedSum) -> Callable[[], object]:
        return training_step(network, optimizer, loss, image, targets)

    def dual(loss: WeightedSum) -> Callable[[], object]:
        def once() -> None:
            with torch.no_grad(), observing(loss.multipliers().values()):
                loss(network(image), targets)

        return synchronised(once)

    print(f"batch {batch}, {size} x {size}, classes constrained {classes}:")  # noqa: T201 - a benchmark's result
    for name, constraint in constraints(classes, legacy).items():
        if only not in name:
            continue
        loss = WeightedSum({**ce, "size": Term(constraint, weight=0.01)})
        turns = rounds if "published" not in name else max(3, rounds // 6)
        calls = {"ce": step(WeightedSum(ce)), name: step(loss)}
        if name == "standard Lagrangian":
            calls["dual pass"] = dual(loss)
        times = take_turns(calls, turns, clock=step_clock())
        more = f"; dual pass {ratio(times, 'dual pass', 'ce'):.2f}" if "dual pass" in times else ""
        base = statistics.median(times["ce"])
        print(f"  {name}: x {ratio(times, name, 'ce'):.3f} of {base:.4f} s ({turns} pairs){more}")  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description="Ratios of time within one run.")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--network", choices=("unet", "enet"), default="unet")
    parser.add_argument("--legacy", action="store_true", help="the published proposals too, which take long")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--only", default="", help="methods with this in their name")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for classes in (1, 3):
        for batch in arguments.batches:
            if arguments.network == "enet":
                network: nn.Module = ENet(in_channels=1, out_channels=classes + 1)
            else:
                features = (16, 16, 32, 64, 128, 16)
                network = BasicUNet(2, 1, classes + 1, features=features, norm="batch", upsample="nontrainable")
            network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            rest = (arguments.size, arguments.steps, arguments.legacy, arguments.only)
            compare(network, batch, classes, *rest)


if __name__ == "__main__":
    main()
