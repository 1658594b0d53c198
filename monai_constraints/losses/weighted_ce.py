"""Cross-entropy with a weight for each voxel."""

from __future__ import annotations

from torch import Tensor

from ..constraints.plain import plain
from ..keys import LABEL, UNKNOWN
from .base import LossOnProbabilities
from .partial_ce import PartialCrossEntropy

__all__ = ["VoxelWeightedCrossEntropy"]


class VoxelWeightedCrossEntropy(LossOnProbabilities):
    r"""-sum_p u(p) log s_{p, y_p}, averaged over voxels (thesis 4.3.2, the U-Net's distance-weighted cross-entropy).

    u comes from the loader, made by `BorderWeightd`.

    Args:
        unknown, softmax, sigmoid, temperature: as in `PartialCrossEntropy`; unknown voxels count as 0 in the mean.

    Shapes: input (B, C, *S), target (B, 1, *S) integer, weight (B, 1, *S) float.

    Raises:
        ValueError: where the shapes differ or the target is not integer.
    """

    needs = ("weight",)
    local = True
    target_key = LABEL

    def __init__(
        self, *, unknown: int = UNKNOWN, softmax: bool = False, sigmoid: bool = False, temperature: float = 1.0
    ) -> None:
        super().__init__(softmax=softmax, sigmoid=sigmoid, temperature=temperature)
        self.cross_entropy = PartialCrossEntropy(
            unknown=unknown, softmax=softmax, sigmoid=sigmoid, temperature=temperature, reduction="none"
        )

    def forward(self, input: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        if weight.shape != (input.shape[0], 1, *input.shape[2:]):
            raise ValueError(
                f"VoxelWeightedCrossEntropy: weight {tuple(weight.shape)} does not fit input {tuple(input.shape)}; "
                "expected (B, 1, *S), made by BorderWeightd and cropped with the image"
            )
        return (self.cross_entropy(input, target) * plain(weight).float()).mean()
