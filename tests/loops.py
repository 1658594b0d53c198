"""The thesis's equations as plain Python loops in float64: what the tests compare the package with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray


def size(s: Array, image: Array | None = None) -> list[float]:
    """(3.11)"""
    total = 0.0
    for p in product(*map(range, s.shape)):
        total += s[p]
    return [total]


def centroid(s: Array, image: Array | None = None) -> list[float]:
    """(3.12), one number an axis"""
    result = []
    for axis in range(s.ndim):
        above = 0.0
        for p in product(*map(range, s.shape)):
            above += s[p] * p[axis]
        result.append(above / size(s)[0])
    return result


def spread(s: Array, image: Array | None = None) -> list[float]:
    """The second central moment along each axis."""
    result = []
    for axis, mean in enumerate(centroid(s)):
        above = 0.0
        for p in product(*map(range, s.shape)):
            above += s[p] * (p[axis] - mean) ** 2
        result.append(above / size(s)[0])
    return result


def mean_intensity(s: Array, image: Array | None = None) -> list[float]:
    """One number an image channel."""
    assert image is not None
    result = []
    for channel in image:
        above = 0.0
        for p in product(*map(range, s.shape)):
            above += s[p] * channel[p]
        result.append(above / size(s)[0])
    return result


Loop = Callable[[Array, "Array | None"], "list[float]"]


def values(loop: Loop, region: Tensor, classes: Sequence[int], image: Tensor | None = None) -> Tensor:
    """(B, K, M) float64 of a region (B, C, *S)."""
    s = region.detach().double().numpy()
    images = None if image is None else image.double().numpy()
    rows = [[loop(s[b, k], None if images is None else images[b]) for k in classes] for b in range(len(s))]
    return torch.tensor(rows, dtype=torch.float64)


def quadratic(z: float, t: float = 0) -> float:
    """(2.3) of a residual: (V - a)^2 where V < a, (V - b)^2 where V > b, else 0"""
    return z * z if z > 0 else 0.0


def hinge(z: float, t: float = 0) -> float:
    return z if z > 0 else 0.0


def log_barrier(z: float, t: float) -> float:
    """(3.9)"""
    if z <= -1 / t**2:
        return -math.log(-z) / t
    return t * z - math.log(1 / t**2) / t + 1 / t


def standard_log_barrier(z: float, t: float) -> float:
    """(1.21)"""
    return -math.log(-z) / t


def dual(z: float, t: float) -> float:
    """(3.10)"""
    return -1 / (t * z) if z <= -1 / t**2 else t


def sides(f: Tensor, bounds: Tensor, psi: Callable[[float], float]) -> Tensor:
    """psi(a - f) and psi(f - b), (N, K, M, 2); 0 where a bound is infinite."""
    result = torch.zeros(bounds.shape, dtype=torch.float64)
    for n, k, m in product(*map(range, f.shape)):
        a, b = bounds[n, k, m].tolist()
        if math.isfinite(a):
            result[n, k, m, 0] = psi(a - float(f[n, k, m]))
        if math.isfinite(b):
            result[n, k, m, 1] = psi(float(f[n, k, m]) - b)
    return result


def slope(function: Callable[[Tensor], float], at: Tensor, step: float = 1e-4) -> Tensor:
    """Central differences of a scalar function of a float64 tensor."""
    at = at.detach().double()
    gradient = torch.zeros_like(at)
    for p in product(*map(range, at.shape)):
        ends = []
        for sign in (1, -1):
            moved = at.clone()
            moved[p] += sign * step
            ends.append(function(moved))
        gradient[p] = (ends[0] - ends[1]) / (2 * step)
    return gradient
