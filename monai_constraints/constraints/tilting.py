"""The tilted softmax of linear constraints, and the dual problem that finds its tilt (thesis A.10 to A.12)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Problem", "make_problem", "solve_one", "solve_several", "tilted", "weigh"]

SMALLEST = 1e-37  # a probability of 0 has no logarithm; still a normal float32
FAR = 600.0  # a tilt under which a class is certain, or gone; exp(FAR) is still a float64
STRIDE = 16.0  # longest step where the slope says nothing: nats
PATIENCE = 4  # iterations between two looks at convergence on a GPU, each of which waits for it


class Problem(NamedTuple):
    chosen: Tensor  # (B, K, P), the constrained classes' probabilities
    rest: Tensor  # (B, P), the sum of the others
    phi: Tensor  # (B or 1, M, P)
    tilting: Tensor  # the same, or (1, M, 1) where it is constant
    lower: Tensor  # (B, K, M)
    upper: Tensor
    precision: float


def make_problem(probabilities: Tensor, phi: Tensor, bounds: Tensor, classes: Sequence[int]) -> Problem:
    channels = probabilities.shape[1]
    if channels < 2:
        raise ValueError("Proposals: one channel has no distribution over classes; use two and a softmax")
    phi = (phi if phi.ndim == 3 else phi[None]).to(probabilities.device, torch.float64)
    expected = (len(probabilities), len(classes), phi.shape[1], 2)
    if tuple(bounds.shape) != expected:
        raise ValueError(f"Proposals: bounds {tuple(bounds.shape)}, expected (B, K, M, 2) = {expected}")
    # A size needs no exponential for each voxel. A GPU would have to wait for the answer to this question.
    constant = phi.device.type == "cpu" and bool((phi == phi[..., :1]).all())
    # float64: weights from exp(-FAR) to exp(FAR), sums over an image, a line search that sees the last digits.
    flat = probabilities.detach().flatten(2)
    chosen = flat.index_select(1, torch.tensor(list(classes), device=flat.device)).double().clamp_min_(SMALLEST)
    others = torch.tensor([k for k in range(channels) if k not in classes], dtype=torch.long, device=flat.device)
    rest = flat.index_select(1, others).double().sum(1).clamp_min_(SMALLEST if len(others) else 0)
    lower, upper = bounds.to(flat.device, torch.float64).unbind(-1)
    precision = torch.finfo(probabilities.dtype).eps if probabilities.dtype == torch.float64 else 1e-7
    return Problem(chosen, rest, phi, phi[..., :1] if constant else phi, lower, upper, precision)


def weigh(problem: Problem, eta: Tensor) -> tuple[Tensor, Tensor]:
    """s_kp exp(eta_k . phi_p) of the chosen classes (B, K, P), and its sum over all classes (B, P)."""
    weights = problem.chosen * torch.matmul(eta, problem.tilting).exp()
    return weights, weights.sum(1) + problem.rest


def tilted(problem: Problem, eta: Tensor, probabilities: Tensor, classes: Sequence[int]) -> Tensor:
    """y (A.12), with the shape and type of the probabilities."""
    weights, total = weigh(problem, eta)
    share = total.reciprocal_()[:, None]
    y = probabilities.detach().flatten(2) * share.to(probabilities.dtype)
    index = torch.tensor(list(classes), device=y.device)
    return y.index_copy_(1, index, weights.mul_(share).to(y.dtype)).reshape(probabilities.shape)


def _reach(problem: Problem) -> tuple[Tensor, Tensor]:
    """The smallest and largest value that each statistic can have, (B or 1, 1, M)."""
    return problem.phi.clamp_max(0).sum(-1)[:, None], problem.phi.clamp_min(0).sum(-1)[:, None]


def _odds(f: Tensor, least: Tensor, most: Tensor) -> Tensor:
    return torch.log(f - least) - torch.log(most - f)


def _first_step(aim: Tensor, f: Tensor, diagonal: Tensor, reach: Tensor) -> Tensor:
    """All classes together: log(aim / f) against the rest's, exact where all voxels have the same probabilities.

    Where they differ, the step grows as f's slope (`diagonal`) falls short of theirs. A first guess for maps > 0, which
    saves one Newton step or two: classes by themselves don't see that what all of them give up goes to the rest.
    """
    aim, f = aim / reach, f / reach
    rest_aim, rest = 1 - aim.sum(1, keepdim=True), 1 - f.sum(1, keepdim=True)
    step = torch.log(aim / f) - torch.log(rest_aim.clamp_min(1e-3) / rest.clamp_min(1e-3))
    return step * f * (1 - f) * reach / diagonal


def _time_to_look(iteration: int, x: Tensor) -> bool:
    return x.device.type == "cpu" or iteration % PATIENCE == PATIENCE - 1


def solve_one(problem: Problem, iterations: int) -> Tensor:
    """The root of the monotone f(eta) - target, f the tilted sum, by Newton's method within a bracket."""
    phi = problem.tilting[:, 0]
    least, most = (x[:, 0, 0] for x in _reach(problem))
    weights, total = weigh(problem, torch.zeros_like(problem.lower))
    f = (weights[:, 0] / total * phi).sum(1)
    target = f.clamp(problem.lower[:, 0, 0], problem.upper[:, 0, 0]).clamp(least, most)
    eta = torch.zeros_like(f)
    low, high = torch.where(target < f, -torch.inf, eta), torch.where(target > f, torch.inf, eta)
    # The ends are reached in the limit only.
    far = FAR / phi.abs().amax(1).clamp_min(SMALLEST)
    eta = torch.where(target == f, eta, torch.where(target >= most, far, torch.where(target <= least, -far, eta)))
    done = (target == f) | (eta != 0)
    aim = _odds(target, least, most)
    stride = STRIDE * far / FAR
    for iteration in range(iterations):
        if _time_to_look(iteration, f) and bool(done.all()):
            break
        weights, total = weigh(problem, eta[:, None, None])
        share = weights[:, 0] / total * phi
        f, slope = share.sum(1), (share * phi * (problem.rest / total)).sum(1)
        low, high = torch.where(f < target, eta, low), torch.where(f > target, eta, high)
        # On a scale where f is nearly straight, and exactly so where all voxels have the same odds.
        step = (aim - _odds(f, least, most)) * (f - least) * (most - f) / (slope * (most - least))
        new = eta + step
        bracketed = low.isfinite() & high.isfinite()
        middle = torch.where(bracketed, (low + high) / 2, eta + torch.where(f < target, stride, -stride))
        new = torch.where((new > low) & (new < high) & (bracketed | (step.abs() <= stride)), new, middle)
        done = done | ((f - target).abs() <= problem.precision * target.abs().clamp_min(1))
        done = done | (high - low <= 4e-16 * eta.abs())
        eta = torch.where(done, eta, new)
    return eta[:, None, None]


def solve_several(problem: Problem, iterations: int) -> Tensor:
    r"""min over eta of sum_p log sum_k s_kp exp(eta_k . phi_p) + sum max(-a eta, -b eta), the negative dual.

    Newton's method within the orthant that eta, or the violated bound where eta is 0, points to. A step ends at the
    first wall of the orthant, or earlier, so that the dual rises. Where Newton's direction is of no use, at the start,
    out of the orthant or after three failures, each unknown goes by itself.
    """
    batch, classes, values = problem.lower.shape
    a, b = problem.lower.flatten(1), problem.upper.flatten(1)
    least, most = (x.expand(-1, classes, -1).flatten(1) for x in _reach(problem))
    a, b = a.clamp(max=most), b.clamp(min=least)
    far = FAR / problem.phi.abs().amax(-1)[:, None].expand(-1, classes, -1).flatten(1).clamp_min(SMALLEST)
    stride = STRIDE * far / FAR
    gone, certain = b <= least, a >= most
    fixed = gone | certain
    eta = torch.where(gone, -far, torch.where(certain, far, torch.zeros_like(a)))
    dual, f, hessian = _negative_dual(problem, eta, a, b)
    failures = torch.zeros(batch, dtype=torch.long, device=a.device)
    eye = torch.eye(classes * values, dtype=a.dtype, device=a.device)
    for iteration in range(iterations):
        inside = (a - f).relu() + (f - b).relu()
        wrong = torch.where(eta > 0, (f - a).abs(), torch.where(eta < 0, (f - b).abs(), inside))
        scale = torch.where(eta > 0, a.abs(), torch.where(eta < 0, b.abs(), f)).clamp_min(1)
        done = ((wrong <= 16 * problem.precision * scale) | fixed).all(1)
        if _time_to_look(iteration, f) and bool(done.all()):
            break
        side = torch.where(eta != 0, eta.sign(), (f < a).double() - (f > b).double())
        slope = torch.where(side > 0, f - a, f - b)
        free = (side != 0) & ~fixed
        slope = torch.where(free, slope, 0.0)
        diagonal = hessian.diagonal(dim1=1, dim2=2).clamp_min(1e-200)
        step, careful = slope, torch.ones_like(failures, dtype=torch.bool)
        if iteration:
            both = free[:, :, None] & free[:, None, :]
            damping = torch.where(free, 1e-12 * diagonal, 1.0)
            system = torch.where(both, hessian, 0.0) + eye * damping[:, None]
            step = torch.linalg.solve_ex(system, -slope[..., None])[0][..., 0]
            careful = (failures >= 3) | (free & (eta == 0) & (step * side <= 0)).any(1)
        if f.device.type != "cpu" or bool(careful.any()):
            # Each by itself, on a scale where it is nearly straight: far from the solution better than Newton's step.
            aim = torch.where(side > 0, a, b)
            alone = (_odds(aim, least, most) - _odds(f, least, most)) * (f - least) * (most - f)
            alone = alone / (diagonal * (most - least))
            if iteration == 0 and values == 1 and classes > 1 and problem.tilting.shape[-1] == 1:
                alone = _first_step(torch.where(free, aim, f), f, diagonal, most - least)
            step = torch.where(careful[:, None], alone, step)
        step = torch.where(step.isfinite(), step, -slope.sign() * stride).clamp(-stride, stride)
        step = torch.where(free, step, 0.0) * 0.25 ** torch.where(failures >= 3, failures - 3, failures)[:, None]
        to_wall = torch.where(step * side < 0, -eta / step, torch.inf)
        first = to_wall.amin(1, keepdim=True).clamp_max(1)
        tried = torch.where(to_wall <= first, 0.0, eta + first * step)
        new_dual, new_f, new_hessian = _negative_dual(problem, tried, a, b)
        promised = (slope * (tried - eta)).sum(1)
        rounding = 1e-14 * (1 + (eta * f).abs().sum(1))
        better = (new_dual <= dual + 1e-4 * promised.clamp_max(0) + rounding) & ~done
        failures = torch.where(better, 0, failures + 1)
        eta = torch.where(better[:, None], tried, eta)
        dual, f = torch.where(better, new_dual, dual), torch.where(better[:, None], new_f, f)
        hessian = torch.where(better[:, None, None], new_hessian, hessian)
    return eta.reshape(problem.lower.shape)


def _negative_dual(problem: Problem, eta: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Its value (B,), the statistics f (B, D) and their Jacobian (B, D, D), D = K M."""
    batch, classes, values = problem.lower.shape
    phi, own = problem.phi, torch.eye(classes, dtype=a.dtype, device=a.device)
    if problem.tilting.shape[-1] == 1:  # constant maps: what is summed are the probabilities alone
        growth = torch.matmul(eta.reshape(batch, classes, values), problem.tilting).exp()
        total = torch.matmul(growth.mT, problem.chosen)[:, 0].add_(problem.rest)
        y = problem.chosen * total.reciprocal()[:, None]
        sums, growth = y.sum(-1) * growth[..., 0], growth[..., 0]
        pairs = torch.matmul(y, y.mT) * (growth[:, :, None] * growth[:, None])
        heights = problem.tilting[..., 0]
        f = sums[:, :, None] * heights[:, None]
        spread = torch.diag_embed(sums) - pairs
        jacobian = torch.einsum("bkl,bm,bn->bkmln", spread, heights.expand(batch, -1), heights.expand(batch, -1))
    else:
        weights, total = weigh(problem, eta.reshape(batch, classes, values))
        weighted = (weights / total[:, None])[:, :, None] * phi[:, None]
        f = weighted.sum(-1)
        flat = weighted.flatten(1, 2)
        same = torch.einsum("bkmp,bnp->bkmn", weighted, phi.expand(batch, -1, -1))
        pairs = torch.matmul(flat, flat.mT).unflatten(1, (classes, values)).unflatten(3, (classes, values))
        jacobian = torch.einsum("bkmn,kl->bkmln", same, own) - pairs
    cost = torch.where(eta > 0, -a * eta, torch.where(eta < 0, -b * eta, 0.0))
    return total.log().sum(1) + cost.sum(1), f.flatten(1), jacobian.flatten(3).flatten(1, 2)
