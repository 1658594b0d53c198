"""How well a segmentation satisfies its constraints (thesis 3.4.1)."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from monai.metrics import Cumulative
from torch import Tensor

from ..constraints import Groups, Pooling, PoolingName, Statistic, active, get_pooling, residuals

__all__ = ["ConstraintSatisfaction"]


class ConstraintSatisfaction(Cumulative):
    r"""Share of constraints satisfied, mean relative violation, and stability, of hard masks over an epoch.

        satisfied  = mean over active sides of [z <= 0],  z = (a - f, f - b)
        violation  = mean over active sides of max(0, z) / max(|bound|, 1)
        stability  = share of the sides satisfied at the previous `aggregate` that are satisfied at this one

    (thesis 3.4.1). A side with an infinite bound is not counted. The relative violation of a bound of 0 is in units.

    Args:
        statistic: f, the same object as in the loss.
        pooling: who shares one constraint, as in the loss. A group may be spread over batches and ranks.

    Shapes: mask (B, C, *S), one-hot or probabilities; bounds (B, K, M, 2); index: B integers that tell the samples
    apart from epoch to epoch. Correct under DDP: samples that padding shows twice count once.
    """

    def __init__(self, statistic: Statistic, *, pooling: PoolingName | Pooling = "image") -> None:
        super().__init__()
        self.statistic, self.pooling = statistic, get_pooling(pooling)
        self._centre: Tensor | None = None
        self._previous: dict[int, Tensor] = {}

    def __call__(
        self,
        mask: Tensor,
        bounds: Tensor,
        *,
        index: Tensor,
        image: Tensor | None = None,
        group: Groups | None = None,
    ) -> None:
        """Add the samples of a batch."""
        sums = self.statistic.sums(mask, image=image)
        self._centre = self.statistic.centre(mask.shape[2:], torch.device("cpu"))
        names = index if group is None else group
        # A checksum, since only tensors are gathered over ranks.
        codes = [zlib.crc32(str(name).encode()) for name in (names.tolist() if isinstance(names, Tensor) else names)]
        keys = torch.stack([index.cpu().long(), torch.tensor(codes, dtype=torch.long)], dim=1)
        self.extend(keys.to(sums.device), sums, bounds.to(sums.device, torch.float32))

    def aggregate(self) -> dict[str, float]:  # type: ignore[override]
        """{"satisfied", "violation", "stability"} since the last reset; NaN where nothing was constrained.

        Stability needs two epochs; it is NaN after the first.
        """
        self._sync()
        if self._synced_tensors is None or self._centre is None or self._synced_tensors[0] is None:
            return {"satisfied": float("nan"), "violation": float("nan"), "stability": float("nan")}
        keys, sums, bounds = (torch.as_tensor(t).cpu() for t in self._synced_tensors)
        _, once = np.unique(keys[:, 0].numpy(), return_index=True)
        keys, sums, bounds = keys[once], sums[once], bounds[once]
        sums, bounds = self.pooling(sums, bounds, keys[:, 1])
        z = residuals(self.statistic.value(sums, self._centre), bounds)
        now = torch.where(active(bounds), z.relu() / bounds.abs().clamp_min(1), torch.nan).flatten(1)
        pooled = len(now) < len(keys)
        names = list(dict.fromkeys(keys[:, 1].tolist())) if pooled else keys[:, 0].tolist()
        then = torch.stack([self._previous.get(name, torch.full_like(now[0], torch.nan)) for name in names])
        self._previous = dict(zip(names, now))
        counted, held = ~now.isnan(), (then == 0) & ~now.isnan()
        return {
            "satisfied": _share(now == 0, counted),
            "violation": float(now[counted].mean()),
            "stability": _share(now == 0, held),
        }

    def state_dict(self) -> dict[str, Any]:
        """What stability remembers of the previous epoch, for a checkpoint."""
        return {"previous": dict(self._previous)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._previous = dict(state["previous"])


def _share(good: Tensor, among: Tensor) -> float:
    return float((good & among).sum() / among.sum()) if among.any() else float("nan")
