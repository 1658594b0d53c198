"""Cross-entropy towards Lagrangian proposals."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..constraints import ExactProposals, Proposals, Statistic
from ..constraints.plain import plain
from ..keys import UNKNOWN
from .base import PROBABILITY_FLOOR, LossOnProbabilities
from .labelled import check_values

__all__ = ["ProposalCrossEntropy"]


class ProposalCrossEntropy(LossOnProbabilities):
    r"""-sum_p sum_k y_kp log s_kp / |Omega|, y the proposal: nearest to s within the bounds (thesis 1.24, Algorithm 4).

    The proposal is made anew at each step, and is constant for the gradient, which vanishes where the bounds hold.
    All classes count, whatever the statistic's. Only a linear statistic will do; for others use `ConstraintLoss`.

    Args:
        statistic: f, linear, with its list of classes.
        proposals: `ExactProposals()` by default, soft targets; `LegacyProposals(...)` as published, hard ones.
        softmax, temperature: what turns the input into probabilities; nothing by default.
        reduction: "mean" over voxels and batch; "sum"; "none" for (B, 1, *S).

    Shapes: input (B, C, *S), C >= 2; bounds (B, K, M, 2); image (B, C', *S), for statistics of intensities; known
    (B, 1, *S), a weak label whose labelled voxels keep their class in the proposal, which it need not have.

    Raises:
        ValueError: for a statistic that is not linear, bounds that do not fit, or a value of known that is neither a
            channel nor 255 (on a CPU: a GPU would have to wait for the answer).

    Source: Pathak et al., Constrained convolutional neural networks for weakly supervised segmentation, 2015.
    """

    target_key = None

    def __init__(
        self,
        statistic: Statistic,
        proposals: Proposals | None = None,
        *,
        softmax: bool = False,
        temperature: float = 1.0,
        reduction: Literal["mean", "sum", "none"] = "mean",
    ) -> None:
        super().__init__(softmax=softmax, temperature=temperature, reduction=reduction)
        if not statistic.linear:
            raise ValueError(
                f"ProposalCrossEntropy: {type(statistic).__name__} is not a sum over voxels, and proposals need linear "
                "constraints (thesis 1.24); use ConstraintLoss, or set `linear = True` on a statistic whose value is "
                "its sums"
            )
        self.statistic = statistic
        self.proposals = ExactProposals() if proposals is None else proposals
        self.needs = ("image",) if statistic.needs_image else ()

    def forward(
        self, input: Tensor, bounds: Tensor, *, image: Tensor | None = None, known: Tensor | None = None
    ) -> Tensor:
        if known is not None and not known.is_floating_point():
            check_values(plain(known), input.shape[1], UNKNOWN, f"{self.name}, known")
        with self.probabilities(input) as s:
            if self.statistic.needs_image and image is None:
                raise ValueError(f"{type(self.statistic).__name__}: needs the image; pass image=(B, C, *S)")
            phi = self.statistic.feature_maps(tuple(s.shape[2:]), s.device, image)
            classes = self.statistic.classes or range(s.shape[1])
            y = self.proposals(s, phi, bounds, classes, known=known)
            return self.reduce(-(y * torch.log(s + PROBABILITY_FLOOR)).sum(1, keepdim=True))
