"""Lagrangian proposals: the distribution nearest to the network's that satisfies linear constraints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from .plain import plain
from .tilting import Problem, make_problem, solve_one, solve_several, tilted, weigh

__all__ = ["ExactProposals", "LegacyProposals", "Proposals"]


class Proposals(ABC):
    """Targets for the network: from its probabilities, feature maps and bounds to a distribution of the same shape."""

    @abstractmethod
    def __call__(
        self,
        probabilities: Tensor,
        phi: Tensor,
        bounds: Tensor,
        classes: Sequence[int],
        *,
        known: Tensor | None = None,
    ) -> Tensor:
        """(B, C, *S), without gradient.

        Args:
            probabilities: (B, C, *S), summing to 1 over C.
            phi: maps of the linear statistic, f_km = sum_p y_kp phi_mp: (M, P) or (B, M, P), P the voxels.
            bounds: (B, K, M, 2), infinite where there is none.
            classes: the K channels.
            known: (B, 1, *S) integer classes of labelled voxels, which keep their class and count in the bounds; a
                value that is no channel, such as 255, says nothing.
        """


class ExactProposals(Proposals):
    r"""argmin_y sum_p KL(y_p || s_p) subject to a <= sum_p y_kp phi_mp <= b (thesis 1.24, A.6 to A.12).

    The solution tilts the softmax, y_kp = s_kp exp(eta_k . phi_p) / sum_k' s_k'p exp(eta_k' . phi_p) (A.12), where
    eta > 0 only if f = a, eta < 0 only if f = b, and eta = 0 inside the bounds. One constraint a sample is a monotone
    equation in one unknown, solved by Newton's method within a bracket; several are coupled through the softmax, and
    solved by Newton's method on the convex negative dual, which has a kink where eta = 0. Both are vectorised over the
    batch and exact to rounding in float64. a = b is allowed, [0, 0] removes the class. Where no distribution satisfies
    all bounds, what the last iteration has comes back.

    Raises:
        ValueError: where shapes don't fit, or there is one channel only.

    Source: Pathak et al., Constrained convolutional neural networks for weakly supervised segmentation, 2015.
    """

    def __init__(self, *, iterations: int = 100) -> None:
        self.iterations = iterations

    def __call__(
        self,
        probabilities: Tensor,
        phi: Tensor,
        bounds: Tensor,
        classes: Sequence[int],
        *,
        known: Tensor | None = None,
    ) -> Tensor:
        with torch.no_grad(), torch.autocast(probabilities.device.type, enabled=False):
            if known is not None:
                phi, bounds = _unlabelled(probabilities, phi, bounds, classes, known)
            problem = make_problem(probabilities, phi, bounds, classes)
            return _labelled(tilted(problem, self._solve(problem), probabilities, classes), known)

    @torch.no_grad()
    def multipliers(self, probabilities: Tensor, phi: Tensor, bounds: Tensor, classes: Sequence[int]) -> Tensor:
        """eta = lambda_lower - lambda_upper, (B, K, M) float64; -+FAR / max |phi| for a class without or with all."""
        return self._solve(make_problem(probabilities, phi, bounds, classes))

    def _solve(self, problem: Problem) -> Tensor:
        if problem.lower[0].numel() == 1:
            return solve_one(problem, self.iterations)
        return solve_several(problem, self.iterations)


class LegacyProposals(Proposals):
    r"""The published baseline: projected gradient ascent on the multipliers (A.13, Algorithm 4), hard arg-max target.

    A bound [0, 0] becomes [-1, 0]. Kept to reproduce the published rows: with 500 steps of 5e-5 the multipliers of a
    small object do not arrive, and the early stop looks at upper multipliers only, so that a region that starts below
    its upper bound is never enlarged. As published, the last step's multipliers are not used any more.

    Args:
        steps, rate: of the ascent.
        early_stop: stop a sample when the relative change of each of its upper multipliers falls below 0.1 %.

    Source: the ascent in the published code of Kervadec et al., Constrained-CNN losses, 2019 (REFERENCE), for one class
    and one value; here the stop waits for all of a sample's.
    """

    def __init__(self, *, steps: int = 500, rate: float = 5e-5, early_stop: bool = True) -> None:
        self.steps, self.rate, self.early_stop = steps, rate, early_stop

    def __call__(
        self,
        probabilities: Tensor,
        phi: Tensor,
        bounds: Tensor,
        classes: Sequence[int],
        *,
        known: Tensor | None = None,
    ) -> Tensor:
        with torch.no_grad(), torch.autocast(probabilities.device.type, enabled=False):
            none = (bounds == 0).all(-1, keepdim=True) & torch.tensor([True, False], device=bounds.device)
            bounds = torch.where(none, -1.0, bounds)
            if known is not None:
                phi, bounds = _unlabelled(probabilities, phi, bounds, classes, known)
            problem = make_problem(probabilities, phi, bounds, classes)
            y = _labelled(tilted(problem, self._ascend(problem), probabilities, classes), known)
            return torch.zeros_like(y).scatter_(1, y.argmax(1, keepdim=True), 1.0)

    def _ascend(self, problem: Problem) -> Tensor:
        """eta = lambda_lower - lambda_upper, (B, K, M)."""
        lower, upper, maps = problem.lower, problem.upper, problem.phi.mT
        raising, lowering = torch.zeros_like(lower), torch.zeros_like(upper)
        running = torch.ones_like(lower[:, :1, :1], dtype=torch.bool)
        for _ in range(self.steps - 1):
            weights, total = weigh(problem, raising - lowering)
            f = torch.matmul(weights / total[:, None], maps)
            up = (raising + self.rate * torch.where(lower.isfinite(), lower - f, 0.0)).relu()
            down = (lowering + self.rate * torch.where(upper.isfinite(), f - upper, 0.0)).relu()
            if self.early_stop:
                change = (down - lowering).abs() / (lowering + 1e-10)
                running = running & (change >= 1e-3).flatten(1).any(1)[:, None, None]
                if not bool(running.any()):
                    break
            raising, lowering = torch.where(running, up, raising), torch.where(running, down, lowering)
        return raising - lowering


def _unlabelled(
    probabilities: Tensor, phi: Tensor, bounds: Tensor, classes: Sequence[int], known: Tensor
) -> tuple[Tensor, Tensor]:
    """The constraints on the voxels that nobody has labelled: phi is 0 at the others, whose sum leaves the bounds."""
    expected = (len(probabilities), 1, *probabilities.shape[2:])
    if tuple(known.shape) != expected or known.is_floating_point():
        raise ValueError(
            f"Proposals: known {tuple(known.shape)} of {known.dtype}; expected integer classes (B, 1, *S) = {expected}"
        )
    labels = plain(known).flatten(2)
    phi = (phi if phi.ndim == 3 else phi[None]).to(labels.device, torch.float64)
    own = labels == torch.tensor(list(classes), device=labels.device)[:, None]
    fixed = torch.matmul(own.double(), phi.mT)
    return phi * (labels >= probabilities.shape[1]), bounds.to(labels.device, torch.float64) - fixed[..., None]


def _labelled(y: Tensor, known: Tensor | None) -> Tensor:
    """The proposal y with the labelled voxels certain of their class."""
    if known is None:
        return y
    known = plain(known)
    classes = torch.arange(y.shape[1], device=y.device).reshape(-1, *[1] * (y.ndim - 2))
    return torch.where(known < y.shape[1], (known == classes).to(y.dtype), y)
