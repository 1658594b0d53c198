"""Intensities from one percentile to another, brought to [0, 1]."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy

from ...keys import CASE

__all__ = ["ScalePercentilesd"]

logger = logging.getLogger(__name__)


class ScalePercentilesd(MapTransform):
    """x -> (x - low) / (high - low), cut to [0, 1], between two percentiles of the whole image, or of each channel.

    The numbers of MONAI's ScaleIntensityRangePercentilesd with b_min=0, b_max=1 and clip=True, to the last bit. That
    one calls torch.quantile for each percentile, which sorts all voxels; NumPy finds both at once without sorting, in a
    ninth of the time. Where both percentiles are one value, only what lies above it is not 0, and of an image of that
    value alone nothing; a warning names the case.

    Args:
        keys: images (C, *S).
        lower, upper: percentiles that become 0 and 1.
        channel_wise: each channel on a scale of its own, for modalities in units of their own; else all on one.

    Returns, under the same keys: float32, with the metadata and on the device of the image.

    Raises:
        ValueError: not 0 <= lower < upper <= 100.
    """

    def __init__(
        self, keys: KeysCollection, *, lower: float = 1.0, upper: float = 99.0, channel_wise: bool = False
    ) -> None:
        super().__init__(keys)
        if not 0 <= lower < upper <= 100:
            raise ValueError(f"ScalePercentilesd: lower={lower}, upper={upper}; expected 0 <= lower < upper <= 100")
        self.percentiles, self.channel_wise = (lower, upper), channel_wise

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        for key in self.keys:
            values = convert_to_numpy(sample[key]).astype(np.float32, copy=False)
            where = f"case {sample.get(CASE, '(not named)')}, {key}"
            if self.channel_wise:
                several = len(values) > 1
                parts = [self._scaled(x, f"{where}{f', channel {c}' * several}") for c, x in enumerate(values)]
                scaled = np.stack(parts)
            else:
                scaled = self._scaled(values, where)
            sample[key], *_ = convert_to_dst_type(scaled, dst=sample[key], dtype=np.float32)
        return sample

    def _scaled(self, values: np.ndarray, where: str) -> np.ndarray:
        low, high = self._limits(values)
        if not high > low:
            share = "all" if values.min() == values.max() else "almost all"
            message = "ScalePercentilesd: %s: %s voxels have one value, %g; look whether the image is empty"
            logger.warning(message, where, share, low)
        scaled = (values - low) / (high - low if high > low else np.float32(1))
        return np.clip(scaled, 0, 1, out=scaled)

    def _limits(self, values: np.ndarray) -> np.ndarray:
        """Both percentiles, float32."""
        if values.size > 1_000_000:  # MONAI too calls NumPy here, as torch.quantile is limited
            return np.percentile(values, self.percentiles).astype(np.float32)
        # np.percentile interpolates in another order than torch.quantile; the last bit would change every training.
        ranks = torch.tensor(self.percentiles, dtype=torch.float64).div(100).float() * (values.size - 1)
        below, above = ranks.long(), ranks.ceil().long()
        ordered = torch.from_numpy(np.partition(values.ravel(), np.unique([*below.tolist(), *above.tolist()])))
        return torch.lerp(ordered[below], ordered[above], ranks - below).numpy()
