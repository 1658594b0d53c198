"""The loss of a regressor of statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..constraints import active, residuals
from ..keys import bounds_key

__all__ = ["ValueLoss"]


class ValueLoss(nn.Module):
    r"""(R(x) - f(y))^2 (thesis 5.2), as the quadratic penalty (2.3) on bounds [a, b] = [f(y), f(y)].

    So targets are bounds like any others: augmentation moves them along (`BatchSimilarity`), one that is infinite is
    not known and counts for nothing, such as the centroid of what is not there, and a measured interval is a target
    too. An empty slice has the size [0, 0] and counts.

    Args:
        name: of the statistic; the targets are `<name>_bounds`, (B, K, M, 2), in the units of the predictions.
        mean: divide the sum by the number of known targets; False: the sum, as published.

    Shapes: predictions (B, K, M); result a scalar.

    Raises:
        ValueError: where the shapes differ.
    """

    def __init__(self, name: str = "size", *, mean: bool = True) -> None:
        super().__init__()
        self.key, self.mean = bounds_key(name), mean

    @property
    def target_keys(self) -> list[str]:
        """The batch keys that it needs."""
        return [self.key]

    def forward(self, predicted: Tensor, targets: Mapping[str, Any]) -> Tensor:
        bounds = targets[self.key]
        if bounds.shape != (*predicted.shape, 2):
            raise ValueError(
                f"ValueLoss: predictions {tuple(predicted.shape)} and {self.key} {tuple(bounds.shape)}; expected "
                "(B, K, M) and (B, K, M, 2)"
            )
        total = residuals(predicted, bounds).clamp_min(0).square().sum()
        known = active(bounds).any(-1).sum().clamp_min(1)
        return total / known if self.mean else total
