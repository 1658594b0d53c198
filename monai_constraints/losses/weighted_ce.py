"""Cross-entropy with a weight for each voxel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .partial_ce import PartialCrossEntropy

__all__ = ["VoxelWeightedCrossEntropy"]


class VoxelWeightedCrossEntropy(nn.Module):
    r"""-sum_p u(p) log s_{p, y_p}, averaged over voxels (thesis 4.3.2, the U-Net's distance-weighted cross-entropy).

    u comes from the loader, made by `BorderWeightd`.

    Args:
        ignore, softmax, sigmoid, temperature: as in `PartialCrossEntropy`; ignored voxels count as 0 in the mean.

    Shapes: input (B, C, *S), target (B, 1, *S) integer, weight (B, 1, *S) float.

    Raises:
        ValueError: where the shapes differ or the target is not integer.
    """

    def __init__(
        self, *, ignore: int = 255, softmax: bool = False, sigmoid: bool = False, temperature: float = 1.0
    ) -> None:
        super().__init__()
        self.cross_entropy = PartialCrossEntropy(
            ignore=ignore, softmax=softmax, sigmoid=sigmoid, temperature=temperature, reduction="none"
        )

    def forward(self, input: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        weight = weight.as_subclass(Tensor) if type(weight) is not Tensor else weight
        if weight.shape != (input.shape[0], 1, *input.shape[2:]):
            raise ValueError(
                f"VoxelWeightedCrossEntropy: weight {tuple(weight.shape)} does not fit input {tuple(input.shape)}; "
                "expected (B, 1, *S), made by BorderWeightd and cropped with the image"
            )
        with torch.autocast(input.device.type, enabled=False):
            return (self.cross_entropy(input, target) * weight.float()).mean()
