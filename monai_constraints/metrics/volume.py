"""What the papers report of one segmented structure: Dice in 3D and by slice, and the Hausdorff distance in mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance

__all__ = ["dice_of_masks", "hausdorff95"]


def dice_of_masks(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Dice 2 |P and G| / (|P| + |G|) of two boolean masks of one shape; both empty: 1."""
    total = int(prediction.sum()) + int(truth.sum())
    return 2 * int((prediction & truth).sum()) / total if total else 1.0


def hausdorff95(prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> float:
    """95th percentile of the Hausdorff distance in mm, the larger of the two directions (as in MONAI).

    Both empty: 0. One of them empty: the diagonal of the whole volume, so that missing everything is never better
    than finding something.

    Args:
        prediction, truth: boolean masks of one shape, 2D or 3D.
        spacing: mm along each axis.

    Raises:
        ValueError: the number of spacings is not that of the axes.
    """
    if len(spacing) != truth.ndim:
        raise ValueError(f"hausdorff95: {len(spacing)} spacings for {truth.ndim} axes; give one in mm for each axis")
    if not prediction.any() and not truth.any():
        return 0.0
    if not prediction.any() or not truth.any():
        return float(np.linalg.norm(np.multiply(truth.shape, spacing)))
    # Surfaces and distances are the same in the box around both masks, which is much smaller.
    where = np.argwhere(prediction | truth)
    box = tuple(slice(low, high + 1) for low, high in zip(where.min(0), where.max(0)))
    p, g = (torch.as_tensor(mask[box])[None, None] for mask in (prediction, truth))
    lengths = [float(length) for length in spacing]
    return float(compute_hausdorff_distance(p, g, include_background=True, percentile=95, spacing=lengths))
