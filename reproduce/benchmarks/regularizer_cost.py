"""What the regularizers cost: a training step with each over the same step with cross-entropy alone, in one run.

The conditional random field's energy at full resolution and on blocks of 2, and consistency, of a U-Net at full and at
half of the images' resolution; and the size principle of marks.

    python reproduce/benchmarks/regularizer_cost.py [--steps 20] [--threads 1] [--size 128] [--batch 4]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from monai.networks.nets import BasicUNet
from monai.transforms import Compose
from torch import Tensor, nn
from turns import ratio, step_clock, take_turns, training_step

from monai_constraints import PartialCrossEntropy, Term, WeightedSum
from monai_constraints.losses import ConsistencyLoss, CRFLoss, SizePrincipleLoss
from monai_constraints.transforms import BatchGamma, BatchIntensity


def unet(half: bool) -> nn.Module:
    features = (16, 32, 64, 64, 64, 16) if half else (16, 16, 32, 64, 128, 16)
    unet = BasicUNet(2, 16 if half else 1, 2, features=features, norm="batch", upsample="nontrainable")
    if not half:
        return unet
    return nn.Sequential(nn.Conv2d(1, 16, 3, stride=2, padding=1), unet, nn.Upsample(scale_factor=2, mode="bilinear"))


def compare(network: nn.Module, batch: int, size: int, rounds: int) -> None:
    device = next(network.parameters()).device
    image = torch.rand(batch, 1, size, size, device=device)
    targets: dict[str, Tensor] = {"weak": torch.where(torch.rand_like(image) > 0.9, 1, 255), "image": image}
    ce = {"ce": Term(PartialCrossEntropy(), "weak")}
    optimizer = torch.optim.Adam(network.parameters(), lr=0.0)

    def step(loss: WeightedSum) -> Callable[[], object]:
        return training_step(network, optimizer, loss, image, targets)

    terms: dict[str, nn.Module] = {
        "CRF": CRFLoss(),
        "CRF on blocks of 2": CRFLoss(stride=2),
        "consistency": ConsistencyLoss(network, view=Compose([BatchGamma(), BatchIntensity()])),
    }
    calls = {name: step(WeightedSum({**ce, name: Term(term, "image")})) for name, term in terms.items()}
    calls["size principle"] = step(WeightedSum({**ce, "size principle": Term(SizePrincipleLoss(), "weak")}))
    times = take_turns({"ce": step(WeightedSum(ce)), **calls}, rounds, clock=step_clock())
    for name in calls:
        print(f"  {name}: x {ratio(times, name, 'ce'):.2f}", flush=True)  # noqa: T201 - a benchmark's result
    print(f"  of {statistics.median(times['ce']):.4f} s, {rounds} rounds")  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description="Ratios of time within one run.")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for half in (False, True):
        network = unet(half).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        print(f"{arguments.batch} x {arguments.size} x {arguments.size}, U-Net at", end=" ")  # noqa: T201
        print("half the resolution:" if half else "full resolution:")  # noqa: T201
        compare(network, arguments.batch, arguments.size, arguments.steps)


if __name__ == "__main__":
    main()
