"""Explicit Lagrange multipliers: penalties that remember a number for each constraint, and raise it where violated."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn

from .penalties import Penalty

__all__ = ["Multipliers", "observing"]


class Multipliers(nn.Module, Penalty):
    r"""psi(z, lambda) with a multiplier lambda >= 0 for each sample and constraint, (N, K, M, 2).

    Training alternates (thesis 3.4.2): SGD on the network with the multipliers fixed, then `ascend`, one step of
    projected ascent on the multipliers from the residuals that were seen meanwhile; `DualAscent` is the handler. It
    needs the samples' `index`. Each constraint needs an object of its own: don't share one between two terms.

    Args:
        samples: N, of the training set; `index` runs from 0 to N - 1.
        classes: K of the statistic.
        values: M of the statistic: 1 for a size, D for a centroid.
        learning_rate: of the ascent, in multiplier a unit of the residual (voxels, for sizes and centroids).
        start: the multipliers' first value.

    Attributes:
        multipliers: the buffer, in `state_dict`, so that resuming is exact.

    Shapes: z (G, K, M, 2), index (G,), result as z.

    Raises:
        ValueError: for a learning rate <= 0, a negative start, or z and index that don't fit.
    """

    needs_index = True

    multipliers: Tensor
    _sums: Tensor
    _counts: Tensor

    shared = False
    """One multiplier for the whole data set rather than one a sample."""

    def __init__(
        self, samples: int, *, classes: int = 1, values: int = 1, learning_rate: float, start: float = 0.0
    ) -> None:
        super().__init__()
        if not learning_rate > 0 or start < 0 or min(samples, classes, values) < 1:
            raise ValueError(
                f"{type(self).__name__}: expected samples, classes, values >= 1, learning_rate > 0, start >= 0; got "
                f"samples={samples}, classes={classes}, values={values}, learning_rate={learning_rate}, start={start}"
            )
        self.learning_rate = learning_rate
        self.observing = False
        self.register_buffer("multipliers", torch.full((1 if self.shared else samples, classes, values, 2), start))
        # Of one dual step only, so not saved.
        self.register_buffer("_sums", torch.zeros(samples, classes, values, 2), persistent=False)
        self.register_buffer("_counts", torch.zeros(samples), persistent=False)

    @abstractmethod
    def psi(self, z: Tensor, multipliers: Tensor) -> Tensor:
        """The term of the Lagrangian, elementwise; `multipliers` broadcast to z."""

    @abstractmethod
    def ascent(self, z: Tensor) -> Tensor:
        """The change of `multipliers`, before projection to >= 0, from all samples' residuals (N, K, M, 2)."""

    def forward(self, z: Tensor, index: Tensor | None = None) -> Tensor:
        if index is None:
            raise ValueError(
                f"{type(self).__name__}: keeps a multiplier for each sample and needs to know which these are; pass "
                "index=batch['index']"
            )
        index = self._checked(z, index)
        if self.observing:
            self._sums.index_add_(0, index, z.detach().to(self._sums.dtype))
            self._counts.index_add_(0, index, torch.ones_like(index, dtype=self._counts.dtype))
        return self.psi(z, self.multipliers if self.shared else self.multipliers[index])

    @torch.no_grad()
    def ascend(self) -> None:
        """One step on the multipliers from what was observed since the last; all ranks together.

        A sample that was seen twice, as padding for equal ranks does, counts once; one that was not seen keeps its
        multiplier.
        """
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(self._sums)
            distributed.all_reduce(self._counts)
        seen = self._counts.reshape(-1, 1, 1, 1) > 0
        z = self._sums / self._counts.reshape(-1, 1, 1, 1).clamp_min(1)
        raised = (self.multipliers + self.ascent(z)).relu()
        self.multipliers.copy_(torch.where(seen.any() if self.shared else seen, raised, self.multipliers))
        self._after(z, seen)
        self._sums.zero_()
        self._counts.zero_()

    def _after(self, z: Tensor, seen: Tensor) -> None:
        """What a controller remembers of this step."""

    def summary(self) -> dict[str, float]:
        """{"mean", "max"} of the multipliers. Inactive sides and samples never seen count with their first value."""
        mean, largest = torch.stack([self.multipliers.mean(), self.multipliers.max()]).tolist()
        return {"mean": mean, "max": largest}

    def _checked(self, z: Tensor, index: Tensor) -> Tensor:
        if z.shape[1:] != self.multipliers.shape[1:] or index.shape != z.shape[:1]:
            raise ValueError(
                f"{type(self).__name__}: z {tuple(z.shape)} and index {tuple(index.shape)} do not fit; made for "
                f"(G, K, M, 2) = (G, {', '.join(map(str, self.multipliers.shape[1:]))}) and (G,): pass classes=K, "
                "values=M, and the samples' index"
            )
        if self.multipliers.device != z.device:
            self.to(z.device)
        if index.device.type == "cpu" and len(index):  # on a GPU the device itself stops
            first, last = int(index.min()), int(index.max())
            if not 0 <= first <= last < len(self._counts):
                raise ValueError(
                    f"{type(self).__name__}: index from {first} to {last}, but samples={len(self._counts)}; give the "
                    "size of the training set"
                )
        return index.to(z.device)


@contextmanager
def observing(multipliers: Collection[Multipliers]) -> Iterator[None]:
    """Within the block, losses leave their residuals for the next `ascend`."""
    for each in multipliers:
        each.observing = True
    try:
        yield
    finally:
        for each in multipliers:
            each.observing = False
