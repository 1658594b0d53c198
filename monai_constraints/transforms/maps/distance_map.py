"""Signed distance maps as a dictionary transform."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage

from monai_constraints.transforms.maps.distances import Crossing, SpacingName, ToDistanced

__all__ = ["SignedDistanceMapd"]


class SignedDistanceMapd(ToDistanced):
    r"""phi_G(q) = D(q) outside G, h - D(q) inside (thesis 4.4): the level set of each class, in mm.

    D(q) is the distance to the centre of the nearest voxel on the other side, and h the smallest voxel size; at 1 mm
    this is the published EDT outside, -(EDT - 1) inside. Never positive inside nor negative outside: the zero level
    lies between the last voxel inside and half-way to the first outside. Zero everywhere for a class that is nowhere,
    or everywhere.

    Put it after what changes the shape (resampling, zooms, elastic deformations) and before what only takes a part:
    cropping, patches, and `SliceDataset`, whose slices then carry the volume's distances (thesis 4.3.3). Flips and
    quarter turns of the finished map are exact.

    Args:
        classes: the map's channels: values of a label (1, *S), or channels of binary masks (C, *S).
        key: the label.
        output: key to write, (K, *S) float32 with the label's metadata and device.
        spacing: of the voxels, one number an axis; "voxel" measures in voxels. By default the label's affine counts.
        spacing_key: entry that knows the voxel size instead: an image with affine, or the numbers themselves.
        slice_axis: measure within each slice across this axis of a volume, rather than in 3D.
        clip: distances beyond it become it, so that far voxels do not outweigh the boundary.
        normalise: divide each class's map by its largest absolute value, after clipping.
        legacy: the published map: -(EDT - 1) at any spacing, cut to integers, of two transforms in float64 by SciPy.
            In float32 a few voxels would fall on the other side of an integer.
        allow_others: other classes of the label than 0 and the listed are outside of every class, not an error; 255 and
            negative numbers are one all the same.
        threads: of the transform; by default PyTorch's number, which is one in a DataLoader's worker.

    Raises:
        KeyError: the sample lacks the label or `spacing_key`.
        ValueError: soft or unexpected values, too few channels, no voxel size, or one that does not fit the label.

    Source: distances from the edt package; where they are installed, from OpenCV for slices of square pixels, and from
    cuCIM for a label on a GPU; with `legacy` from SciPy, as in the published code.

    Example:
        >>> SignedDistanceMapd(classes=[1])({"label": label})["distance"]
    """

    def __init__(
        self,
        *,
        classes: Sequence[int],
        key: str = "label",
        output: str = "distance",
        spacing: SpacingName = None,
        spacing_key: str | None = None,
        slice_axis: int | None = None,
        clip: float | None = None,
        normalise: bool = False,
        legacy: bool = False,
        allow_others: bool = False,
        threads: int | None = None,
    ) -> None:
        super().__init__(
            key=key,
            output=output,
            classes=classes,
            spacing=spacing,
            spacing_key=spacing_key,
            slice_axis=slice_axis,
            allow_others=allow_others,
            threads=threads,
        )
        if clip is not None and not clip > 0:
            raise ValueError(f"SignedDistanceMapd: clip={clip}; expected a distance > 0")
        self.clip, self.normalise, self.legacy = clip, normalise, legacy

    def measure(self, masks: list[np.ndarray], spacing: tuple[float, ...], device: torch.device) -> np.ndarray:
        maps: list[np.ndarray] = []
        crossings: list[Crossing] = []
        for mask in masks:
            if self.legacy:
                parts, sizes = self.parts(mask, spacing)
                maps.append(self.joined([_published(part, sizes) for part in parts]))
                continue
            # The second of two complementary classes has the same distances; only the signs differ.
            if len(masks) == 2 and crossings and np.array_equal(mask, ~masks[0]):
                crossings = [one._replace(inside=~one.inside) for one in crossings]
            else:
                crossings = self.crossings(mask, spacing, device)
            maps.append(self.joined([self._signed(one, copy=len(masks) == 2) for one in crossings]))
        phi = maps[0][None] if len(maps) == 1 else np.stack(maps)
        if self.clip is not None:
            np.clip(phi, -self.clip, self.clip, out=phi)
        if self.normalise:
            for one in phi:
                one /= np.abs(one).max() or 1
        return phi

    def _signed(self, crossing: Crossing, *, copy: bool) -> np.ndarray:
        inside, distance, smallest = crossing
        if distance is None:
            return np.zeros(inside.shape, np.float32)
        phi = distance.copy() if copy else distance
        # On a GPU rounding may leave the distance of a neighbour a little under the voxel size.
        np.subtract(np.float32(smallest), phi, out=phi, where=inside)
        return np.minimum(phi, 0, out=phi, where=inside)


def _published(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    if not 0 < np.count_nonzero(mask) < mask.size:
        return np.zeros(mask.shape, np.float32)
    outside, inside = (ndimage.distance_transform_edt(side, sampling=spacing) for side in (~mask, mask))
    return np.trunc(np.where(mask, 1 - inside, outside)).astype(np.float32)
