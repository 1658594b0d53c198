"""The weight map of the U-Net's cross-entropy, as a dictionary transform."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from monai_constraints.transforms.maps.distances import SpacingName, ToDistanced

__all__ = ["BorderWeightd"]


class BorderWeightd(ToDistanced):
    r"""u(p) = w_c + w0 exp(-D(p)^2 / (2 sigma^2)) at a voxel p of class c (thesis 4.3.2).

    w_c is the share of the image that class c takes, as the thesis writes it, and D the distance to the boundary, 0 for
    the voxels next to it inside a class (the absolute value of `SignedDistanceMapd`). Among several classes, the
    nearest boundary counts. Without any boundary u = w_c.

    Args:
        classes: whose boundaries and shares count; the background needs no mention.
        key: the label, (1, *S) integer classes.
        output: key to write, (1, *S) float32 with the label's metadata and device.
        w0, sigma: height and width of the border's weight; sigma in the units of the spacing.
        spacing: by default the thesis's, "voxel"; None takes it from the label's affine.
        spacing_key, slice_axis, allow_others, threads: as in `SignedDistanceMapd`.

    Raises:
        KeyError: the sample lacks the label or `spacing_key`.
        ValueError: as `SignedDistanceMapd`, and for sigma <= 0.

    Source: Ronneberger, Fischer and Brox, U-Net, MICCAI 2015, with one distance instead of two.
    """

    def __init__(
        self,
        *,
        classes: Sequence[int],
        key: str = "label",
        output: str = "border_weight",
        w0: float = 10.0,
        sigma: float = 5.0,
        spacing: SpacingName = "voxel",
        spacing_key: str | None = None,
        slice_axis: int | None = None,
        allow_others: bool = False,
        threads: int | None = None,
    ) -> None:
        super().__init__(
            key=key,
            output=output,
            classes=[k for k in classes if k != 0],
            spacing=None if spacing_key is not None and spacing == "voxel" else spacing,
            spacing_key=spacing_key,
            slice_axis=slice_axis,
            allow_others=allow_others,
            threads=threads,
        )
        if not sigma > 0:
            raise ValueError(f"BorderWeightd: sigma={sigma}; expected a distance > 0")
        self.w0, self.sigma = w0, sigma

    def measure(self, masks: list[np.ndarray], spacing: tuple[float, ...], device: torch.device) -> np.ndarray:
        nearest = np.full(masks[0].shape, np.inf, np.float32)
        for mask in masks:
            parts = []
            for inside, distance, smallest in self.crossings(mask, spacing, device):
                if distance is None:
                    parts.append(np.full(inside.shape, np.inf, np.float32))
                else:
                    parts.append(np.where(inside, np.maximum(distance - np.float32(smallest), 0), distance))
            np.minimum(nearest, self.joined(parts), out=nearest)
        weight = self.w0 * np.exp(-np.square(nearest) / (2 * self.sigma**2))
        for mask in [~np.logical_or.reduce(masks), *masks]:
            weight += mask * self._share(mask)
        return weight[None]

    def _share(self, mask: np.ndarray) -> np.ndarray:
        """Of the whole image, or of each slice, that the mask takes."""
        axes = tuple(range(mask.ndim))
        if self.slice_axis is not None:
            axes = tuple(axis for axis in axes if axis != self.slice_axis % mask.ndim)
        return mask.mean(axes, dtype=np.float32, keepdims=True)
