"""Penalties psi(z) of a constraint z <= 0: elementwise, and finite in value and gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

__all__ = ["Hinge", "LogBarrier", "Penalty", "Quadratic", "StandardLogBarrier", "duality_gap_bound"]


class Penalty(ABC):
    """psi(z), elementwise on float32 residuals (G, K, M, 2); z <= 0 is satisfied.

    Every penalty is called in one way: `index` (G,), the samples' places in the training set, is for those that
    remember something of each sample (`needs_index`), and nothing to the others.
    """

    needs_index: bool = False

    @abstractmethod
    def __call__(self, z: Tensor, index: Tensor | None = None) -> Tensor: ...


class Quadratic(Penalty):
    """psi(z) = max(0, z)^2 (thesis 2.3): no gradient where the constraint holds."""

    def __call__(self, z: Tensor, index: Tensor | None = None) -> Tensor:
        return z.relu().square()


class Hinge(Penalty):
    """psi(z) = max(0, z): the exact penalty, with the same gradient for small and large violations.

    For teaching and comparison: no bundle uses it.
    """

    def __call__(self, z: Tensor, index: Tensor | None = None) -> Tensor:
        return z.relu()


class _Barrier(Penalty):
    def __init__(self, t: float = 5.0, *, t_max: float = 1e9) -> None:
        self.t_max = t_max
        self.t = t

    @property
    def t(self) -> float:
        """The barrier's parameter: the approximation of the hard constraint is 1/t."""
        return self._t

    @t.setter
    def t(self, t: float) -> None:
        if not t > 0:
            raise ValueError(f"{type(self).__name__}: t must be > 0, got {t}")
        self._t = min(float(t), self.t_max)


class LogBarrier(_Barrier):
    r"""The log-barrier extension (thesis 3.9), defined for violated constraints too.

        psi_t(z) = -log(-z) / t                     if z <= -1/t^2
                   t z - log(1/t^2) / t + 1/t       otherwise

    It is convex and once continuously differentiable at its knee. A satisfied constraint keeps pushing back, more
    the nearer it is to violation; a violated one pulls with slope t.

    Args:
        t: raised over the epochs, by a `Schedule` on this attribute (thesis: from 5, times 1.1 an epoch).
        t_max: t is capped here, because 5 x 1.1^epoch passes 1e8 at epoch 178.

    Raises:
        ValueError: for t <= 0.

    Source: Kervadec et al., Constrained deep networks: Lagrangian optimization via log-barrier extensions, 2022.
    """

    def __init__(self, t: float = 5.0, *, t_max: float = 1e4) -> None:
        super().__init__(t, t_max=t_max)

    def __call__(self, z: Tensor, index: Tensor | None = None) -> Tensor:
        t = self.t
        knee = -1.0 / t**2
        # The two branches meet at the knee, so that each can stand still there while the other goes on.
        return (z - knee).relu().mul(t).sub(torch.log(-z.clamp(max=knee)), alpha=1 / t)

    def dual(self, z: Tensor) -> Tensor:
        """The implicit dual variables lambda = psi_t'(z) (thesis 3.10), same shape as z, in (0, t]."""
        knee = -1.0 / self.t**2
        return torch.where(z <= knee, -1 / (self.t * z.clamp(max=knee)), self.t)


class StandardLogBarrier(_Barrier):
    """The standard log-barrier psi_t(z) = -log(-z) / t (thesis 1.21), defined for z < 0 only.

    For teaching: no bundle uses it, since a network at its start satisfies nothing.

    Raises:
        ValueError: for a point that is not strictly feasible. Reading that costs a device synchronisation a call.
    """

    def __call__(self, z: Tensor, index: Tensor | None = None) -> Tensor:
        infeasible = int((z >= 0).sum())
        if infeasible:
            raise ValueError(
                f"StandardLogBarrier: {infeasible} of {z.numel()} constraints are not strictly satisfied (largest "
                f"z={float(z.max()):.4g}), where -log(-z) is not defined: the standard log-barrier needs a feasible "
                "starting point. Use LogBarrier, its extension to infeasible points (thesis 3.9), or start from a "
                "network that satisfies the constraints"
            )
        return -torch.log(-z) / self.t


def duality_gap_bound(constraints: int, samples: int, t: float) -> float:
    """PN/t: how far a feasible global minimum of the barrier problem is from the constrained one (thesis Prop. 2).

    For teaching and for tests of the barrier; no bundle needs it.

    Args:
        constraints: P, active sides of bounds for each sample.
        samples: N.
        t: the barrier's parameter.
    """
    return constraints * samples / t
