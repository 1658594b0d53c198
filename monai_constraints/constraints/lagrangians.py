"""The Lagrangians that explicit multipliers stand in, and how each raises them."""

from __future__ import annotations

import torch
from torch import Tensor

from .multipliers import Multipliers

__all__ = ["AugmentedLagrangian", "NuPI", "ReLULagrangian", "StandardLagrangian"]


class StandardLagrangian(Multipliers):
    """psi = lambda z, lambda <- max(0, lambda + rate z) (thesis 3.2).

    A satisfied constraint whose multiplier is still positive goes on pulling (1.5.3): with several constraints a
    sample the thesis could not train with it, Dice .005 on the circles.
    """

    def psi(self, z: Tensor, multipliers: Tensor) -> Tensor:
        return multipliers * z

    def ascent(self, z: Tensor) -> Tensor:
        return self.learning_rate * z


class ReLULagrangian(Multipliers):
    """psi = lambda max(0, z), one lambda a constraint for the whole data set (thesis 3.3).

    lambda <- lambda + rate mean_n max(0, z_n): where (3.3) has the sum over samples, so that the rate does not depend
    on their number. lambda never falls, and rises while a single sample is violated (A.3).

    Source: Nandwani et al., A primal dual formulation for deep learning with constraints, 2019.
    """

    shared = True

    def psi(self, z: Tensor, multipliers: Tensor) -> Tensor:
        return multipliers * z.relu()

    def ascent(self, z: Tensor) -> Tensor:
        return self.learning_rate * z.relu().sum(0, keepdim=True) / (self._counts > 0).sum().clamp_min(1)


class AugmentedLagrangian(Multipliers):
    """psi = (max(0, lambda + c z)^2 - lambda^2) / 2c, lambda <- max(0, lambda + c z).

    The method of multipliers of Powell, Hestenes and Rockafellar, beyond the thesis: a satisfied constraint is let go
    at z = -lambda / c, and on a convex problem the multipliers converge without c going to infinity.

    Args:
        c: the penalty's coefficient, > 0; a `Schedule` may raise it.
        learning_rate: of the ascent where it is to differ from c.
        samples, classes, values, start: as in `Multipliers`.

    Source: Nocedal and Wright, Numerical Optimization, 17.3 and 17.4.
    """

    def __init__(
        self,
        samples: int,
        *,
        classes: int = 1,
        values: int = 1,
        c: float,
        learning_rate: float | None = None,
        start: float = 0.0,
    ) -> None:
        if not c > 0:
            raise ValueError(f"AugmentedLagrangian: c must be > 0, got {c}")
        rate = c if learning_rate is None else learning_rate
        super().__init__(samples, classes=classes, values=values, learning_rate=rate, start=start)
        self.c = c

    def psi(self, z: Tensor, multipliers: Tensor) -> Tensor:
        return ((multipliers + self.c * z).relu().square() - multipliers.square()) / (2 * self.c)

    def ascent(self, z: Tensor) -> Tensor:
        return self.learning_rate * z


class NuPI(Multipliers):
    r"""psi = lambda z, with a PI controller for lambda: it reacts to the change of the violation, not only to its sum.

        xi_t = nu xi_{t-1} + (1 - nu) z_t,   lambda <- max(0, lambda + rate (z_t + kappa (xi_t - xi_{t-1})))

    with xi_{-1} = z_0, so that the first step is the standard Lagrangian's, as all are for kappa = 0. Damps the
    oscillation between network and multipliers; beyond the thesis.

    Args:
        kappa: the proportional gain over the integral one.
        nu: smoothing of the residual, in [0, 1).
        samples, classes, values, learning_rate, start: as in `Multipliers`.

    Source: Sohrabi et al., On PI controllers for updating Lagrange multipliers in constrained optimization, 2024.
    """

    smoothed: Tensor
    started: Tensor

    def __init__(
        self,
        samples: int,
        *,
        classes: int = 1,
        values: int = 1,
        learning_rate: float,
        kappa: float = 1.0,
        nu: float = 0.0,
        start: float = 0.0,
    ) -> None:
        super().__init__(samples, classes=classes, values=values, learning_rate=learning_rate, start=start)
        if kappa < 0 or not 0 <= nu < 1:
            raise ValueError(f"NuPI: expected kappa >= 0 and nu in [0, 1), got kappa={kappa}, nu={nu}")
        self.kappa, self.nu = kappa, nu
        self.register_buffer("smoothed", torch.zeros(samples, classes, values, 2))
        self.register_buffer("started", torch.zeros(samples, 1, 1, 1, dtype=torch.bool))

    def psi(self, z: Tensor, multipliers: Tensor) -> Tensor:
        return multipliers * z

    def ascent(self, z: Tensor) -> Tensor:
        before = torch.where(self.started, self.smoothed, z)
        return self.learning_rate * (z + self.kappa * (1 - self.nu) * (z - before))

    def _after(self, z: Tensor, seen: Tensor) -> None:
        before = torch.where(self.started, self.smoothed, z)
        self.smoothed.copy_(torch.where(seen, self.nu * before + (1 - self.nu) * z, self.smoothed))
        self.started |= seen
