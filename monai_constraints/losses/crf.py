"""The energy of a conditional random field as a loss: neighbours that look alike belong together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, avg_pool3d

from ..constraints.plain import plain
from ..keys import IMAGE
from .base import LossOnProbabilities

__all__ = ["CRFLoss"]


class CRFLoss(LossOnProbabilities):
    r"""sum_k E_k / (1 + A_k)^a, E_k = sum_p sum_{q in N(p)} w_pq s_pk (1 - s_qk), A_k = sum_p s_pk: the Potts model.

    w_pq = exp(-|p - q|^2 / 2 position^2 - |I_p - I_q|^2 / 2 intensity^2), N(p) the voxels of the image that are at
    most `radius` from p along each axis, p itself left out. Divided by the number of neighbours, each counted by its
    part of the weight that does not depend on the image, and by |Omega|^(1 - a), with |Omega| the number of voxels. So
    with a = 0 the loss lies between 0 and the number of channels, whatever radius, position and image size are.

    A regularizer R(s) of thesis 1.4.2: beside labels of a few voxels it says that a region ends where the image has an
    edge. With a = 0 it also says that borders are short: where no voxel of the other side is labelled, a part of the
    right region is cheaper than all of it, and masks shrink. Divided by the root of the area, a = 1/2, a disc on a flat
    image costs the same whatever its size, so edges alone decide; (d - 1) / d does it in d dimensions. Above that,
    regions grow: a = 1 is Shi and Malik's average cut.

    Args:
        classes: the channels that count, all by default; with `area_power` leave the background out, whose area says
            little.
        area_power: a, 0 by default.
        radius: of the window, in voxels. The cost of a step grows with its power of 2 (3 in 3D).
        position: of the Gaussian of distances, in voxels.
        intensity: of the Gaussian of the image's differences, in the units that the network sees; about a fifth of
            the contrast between the structures.
        stride: average image and probabilities over blocks of so many voxels first; all else is in these. What does
            not fill a block is left out.
        softmax, sigmoid, temperature: what turns the input into probabilities; nothing by default.

    Shapes: input (B, C, *S), image (B, C', *S), S in 2D or 3D; result a scalar, the mean over the batch.

    Raises:
        ValueError: where image and input differ in shape, a class is no channel, or a setting is out of range.

    Source: Tang et al., On regularized losses for weakly-supervised CNN segmentation, ECCV 2018; with a window in
    place of all pairs, Obukhov et al., Gated CRF loss, 2019. The area's power is ours, between these and the
    average cut (Shi and Malik, Normalized cuts and image segmentation, PAMI 2000).

    Example:
        >>> loss = CRFLoss(softmax=True)
        >>> loss(logits, batch["image"])
    """

    target_key = IMAGE
    reductions = ("mean",)

    def __init__(
        self,
        *,
        classes: Sequence[int] | None = None,
        area_power: float = 0.0,
        radius: int = 5,
        position: float = 6.0,
        intensity: float = 0.1,
        stride: int = 1,
        softmax: bool = False,
        sigmoid: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(classes=classes, softmax=softmax, sigmoid=sigmoid, temperature=temperature)
        if min(radius, stride) < 1 or not min(position, intensity) > 0:
            raise ValueError(
                f"CRFLoss: radius={radius} and stride={stride} must be at least 1, position={position} and "
                f"intensity={intensity} above 0"
            )
        if not 0 <= area_power <= 1:
            raise ValueError(f"CRFLoss: area_power={area_power}; give 0 to 1")
        self.area_power = area_power
        self.radius, self.position, self.intensity, self.stride = radius, position, intensity, stride

    def forward(self, input: Tensor, image: Tensor) -> Tensor:
        image = plain(image)
        if image.shape[0] != input.shape[0] or image.shape[2:] != input.shape[2:]:
            raise ValueError(
                f"CRFLoss: image {tuple(image.shape)} does not fit input {tuple(input.shape)}; expected (B, C', *S) "
                "on the network's grid, augmented with it"
            )
        with self.probabilities(input) as p:
            p, image = self.select(p), image.float()
            if self.stride > 1:
                pool = avg_pool2d if p.ndim == 4 else avg_pool3d
                p, image = pool(p, self.stride), pool(image, self.stride)
            degree, neighbours, count = self._sum_neighbours(p.detach(), image)
            # w is symmetric, so the quadratic part sum w s_p s_q has the gradient 2 sum_q w s_q: no graph of the
            # hundred shifted products is kept.
            cross = p * neighbours
            energy = (p * degree - 2 * cross + cross.detach()).flatten(2).sum(2)
            voxels = p[0, 0].numel()
            area = (1 + p.flatten(2).sum(2)) / voxels if self.area_power else 1
            return (energy / (count * voxels) / area**self.area_power).sum(1).mean()

    @torch.no_grad()
    def _sum_neighbours(self, p: Tensor, image: Tensor) -> tuple[Tensor, Tensor, float]:
        """sum_q w_pq (B, 1, *S), sum_q w_pq s_qk (B, C, *S), and the sum of the positions' part of w."""
        degree, neighbours, count = torch.zeros_like(image[:, :1]), torch.zeros_like(p), 0.0
        zero = (0,) * (p.ndim - 2)
        reach = range(-self.radius, self.radius + 1)
        for offset in product(*[reach] * len(zero)):
            if offset <= zero:
                continue  # of q - p and p - q one is enough
            weight = math.exp(-sum(d * d for d in offset) / (2 * self.position**2))
            count += 2 * weight
            here, there = _overlap(offset)
            difference = image[here] - image[there]
            if difference.numel() == 0:
                continue
            w = difference.square().sum(1, keepdim=True).mul_(-0.5 / self.intensity**2).exp_().mul_(weight)
            degree[here] += w
            degree[there] += w
            neighbours[here] += w * p[there]
            neighbours[there] += w * p[here]
        return degree, neighbours, count


def _overlap(offset: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where p and where p + offset are, for all p for which both are in the image."""
    here = tuple(slice(max(-d, 0), -d if d > 0 else None) for d in offset)
    there = tuple(slice(max(d, 0), d if d < 0 else None) for d in offset)
    return (slice(None), slice(None), *here), (slice(None), slice(None), *there)
