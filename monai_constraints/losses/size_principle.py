"""The size principle: of the regions that explain the marks, the smallest one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .labelled import LossOnLabelled

__all__ = ["SizePrincipleLoss"]


class SizePrincipleLoss(LossOnLabelled):
    r"""log(1 + sum_p s_pk), the mean over the classes k and samples that have a mark of k and unknown voxels too.

    Beside the cross-entropy of the marks it is the likelihood of where they lie. Say that the marks M of a sample
    are drawn at random from the region, any voxel as likely as another. Then voxel p is drawn with probability
    s_p / sum_q s_q, and the negative log-likelihood of the marks is

        -1/|M| sum_{p in M} log s_p + log sum_q s_q,

    the partial cross-entropy averaged by sample and this loss. A region that is too small misses marks, one that is
    too large has fewer than it should; over all samples only the true one explains both, so no size has to be known.

    With weight 1 the two do not change when all of s is scaled, and regions may die out. With weight w below 1 the
    cross-entropy holds on to its marks, and a voxel belongs to the region where its chance to be in it is above w / 2.

    Not for marks that people put in the middle of a structure, nor for eroded masks: what is never marked counts as
    outside. And train with augmentation, or shortly: a network that has learned by heart where the marks of a sample
    lie shrinks its region to them.

    Args:
        classes: classes that are marked at random, never the background; all but 0 by default.
        unknown: the value of voxels without annotation. A sample without any is labelled whole, and does not count.
        softmax, sigmoid, temperature: what turns the input into probabilities; one sigmoid channel is the foreground.

    Shapes: input (B, C, *S), target (B, 1, *S) integer; result a scalar, 0 (with zero gradient) where no sample
    counts.

    Raises:
        ValueError: where the shapes differ, the target is not integer, or a class is no channel of the input.

    Source: ours. The size principle is Tenenbaum and Griffiths, Generalization, similarity, and Bayesian inference,
    2001; marks at random are the "selected completely at random" of learning from positive examples alone (Elkan and
    Noto, KDD 2008).

    Example:
        >>> marks = PartialCrossEntropy(classes=[1], softmax=True, reduction="sample")
        >>> loss = marks(logits, weak) + 0.8 * SizePrincipleLoss(softmax=True)(logits, weak)
    """

    reductions = ("mean",)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return self.of_sums(self.sums(input, target), shape=input.shape[2:])

    def sums(self, input: Tensor, target: Tensor) -> Tensor:
        """Size, number of marks, and number of unknown voxels of each sample and class, (B, K, 3)."""
        target = self.labels(target, input)
        with self.probabilities(input) as p:
            p, classes = self.channels(p, first=1)
            sizes = p.flatten(2).sum(2)
            marks = torch.cat([(target == k).flatten(1).sum(1, keepdim=True) for k in classes], dim=1)
            unknown = (target == self.unknown).flatten(1).sum(1, keepdim=True).expand_as(marks)
            return torch.stack([sizes, marks.to(sizes.dtype), unknown.to(sizes.dtype)], dim=2)

    def of_sums(self, sums: Tensor, *, shape: Sequence[int]) -> Tensor:
        """The loss of whole images, from their sums."""
        sizes, marks, unknown = sums.unbind(-1)
        counted = (marks > 0) & (unknown > 0)
        # The 1 keeps the slope finite: the last voxel of a region is not pulled at harder than a whole one.
        return (torch.log1p(sizes) * counted).sum() / counted.sum().clamp_min(1)
