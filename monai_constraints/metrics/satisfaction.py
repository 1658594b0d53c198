"""How well a segmentation satisfies its constraints (thesis 3.4.1)."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from monai.metrics import Cumulative
from torch import Tensor

from ..constraints import GroupPooling, Groups, Patch, Pooling, PoolingName, Statistic, active, get_pooling, residuals

__all__ = ["ConstraintSatisfaction"]

QUANTITIES = ("satisfied", "lower_held", "upper_held", "violation", "stability")


class ConstraintSatisfaction(Cumulative):
    r"""Share of constraints satisfied, mean relative violation, and stability, of hard masks over an epoch.

        satisfied        = mean over constraints of [a <= f <= b]
        lower_held       = mean over finite a of [a <= f], and upper_held over finite b of [f <= b]
        violation        = mean over active sides of max(0, z) / max(|bound|, 1),  z = (a - f, f - b)
        stability        = share of the constraints satisfied at the previous `aggregate` that are satisfied at this one

    (thesis 3.4.1). A constraint is one value of the statistic of one class, and counts where a or b is finite. It is
    satisfied on both sides or not at all: an empty mask, below every upper bound, satisfies no size. The sides tell
    whether masks are too small or too large. The relative violation of a bound of 0 is in units.

    Args:
        statistic: f, the same object as in the loss.
        pooling: who shares one constraint, as in the loss. A group may be spread over batches and ranks.

    Shapes: mask (B, C, *S), one-hot or probabilities; bounds (B, K, M, 2); index: B integers that tell the samples
    apart from epoch to epoch. Correct under DDP: samples that padding shows twice count once. The disjoint patches of a
    sample may come one by one, in any batch: they have its index, and their sums add.
    """

    def __init__(self, statistic: Statistic, *, pooling: PoolingName | Pooling = "image") -> None:
        super().__init__()
        self.statistic, self.pooling = statistic, get_pooling(pooling)
        self._previous: dict[int, Tensor] = {}

    def __call__(
        self,
        mask: Tensor,
        bounds: Tensor,
        *,
        index: Tensor,
        image: Tensor | None = None,
        boxes: Tensor | None = None,
        patch: Patch | None = None,
        group: Groups | None = None,
    ) -> None:
        """Add the samples of a batch, or patches of them."""
        sums = self.statistic.measure(mask, image=image, boxes=boxes, patch=patch)
        # One for each sample, since images may differ in shape.
        centre = self.statistic.centre(mask.shape[2:] if patch is None else patch, sums.device)
        centres = centre.reshape(-1, centre.shape[-1]).expand(len(sums), -1)
        names = index if group is None else group
        if isinstance(self.pooling, GroupPooling) and (group is None or any(name is None for name in group)):
            raise ValueError("ConstraintSatisfaction: no groups; pass group=batch['case'], the volume of each slice")
        if not len(index) == len(names) == len(bounds) == len(sums):
            raise ValueError(
                f"ConstraintSatisfaction: {len(sums)} masks, {len(bounds)} bounds, {len(index)} indices and "
                f"{len(names)} groups; expected one of each for every sample of the batch"
            )
        # A checksum, since only tensors are gathered over ranks.
        codes = [zlib.crc32(str(name).encode()) for name in (names.tolist() if isinstance(names, Tensor) else names)]
        keys = torch.stack([index.cpu().long(), torch.tensor(codes, dtype=torch.long)], dim=1)
        corner = torch.zeros_like(centres) if patch is None else patch.offset
        keys = torch.cat([keys, corner.cpu().long()], dim=1)
        self.extend(keys.to(sums.device), sums, bounds.to(sums.device, torch.float32), centres)

    def aggregate(self) -> dict[str, float]:  # type: ignore[override]
        """{quantity: value} of all five since the last reset; NaN where nothing was constrained.

        Stability needs two epochs; it is NaN after the first.
        """
        self._sync()
        if self._synced_tensors is None or self._synced_tensors[0] is None:
            return dict.fromkeys(QUANTITIES, float("nan"))
        keys, sums, bounds, centres = (torch.as_tensor(t).cpu() for t in self._synced_tensors)
        _, once = np.unique(np.delete(keys.numpy(), 1, axis=1), axis=0, return_index=True)
        keys, sums, bounds, centres = keys[once], sums[once], bounds[once], centres[once]
        _, first, own = np.unique(keys[:, 0].numpy(), return_index=True, return_inverse=True)
        sums = torch.zeros_like(sums[first]).index_add(0, torch.as_tensor(own), sums)  # of a sample's patches
        keys, bounds, centres = keys[first], bounds[first], centres[first]
        sums, bounds = self.pooling(sums, bounds, keys[:, 1])
        codes = keys[:, int(len(sums) < len(keys))].tolist()
        names = list(dict.fromkeys(codes))
        centres = centres[[codes.index(name) for name in names]]
        z = residuals(torch.stack([self.statistic.value(s, c) for s, c in zip(sums, centres)]), bounds)
        now = torch.where(active(bounds), z.relu() / bounds.abs().clamp_min(1), torch.nan).flatten(1, 2)
        then = torch.stack([self._previous.get(name, torch.full_like(now[0], torch.nan)) for name in names])
        self._previous = dict(zip(names, now))
        (holds, counted), (held, before) = _both_sides(now), _both_sides(then)
        below, above = (_share(now[..., side] == 0, ~now[..., side].isnan()) for side in (0, 1))
        violation, stability = float(now[~now.isnan()].mean()), _share(holds, counted & held & before)
        return dict(zip(QUANTITIES, (_share(holds, counted), below, above, violation, stability)))

    def state_dict(self) -> dict[str, Any]:
        """What stability remembers of the previous epoch, for a checkpoint."""
        return {"previous": dict(self._previous)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._previous = dict(state["previous"])


def _both_sides(sides: Tensor) -> tuple[Tensor, Tensor]:
    """Where relative violations (..., 2) are 0 on every active side, and where a side is active."""
    active_sides = ~sides.isnan()
    return ((sides == 0) | ~active_sides).all(-1), active_sides.any(-1)


def _share(good: Tensor, among: Tensor) -> float:
    return float((good & among).sum() / among.sum()) if among.any() else float("nan")
