"""The fully connected conditional random field, which moves borders of a prediction to edges of the image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy

from monai_constraints.keys import IMAGE

__all__ = ["DenseCRF", "DenseCRFd"]

FLOOR = 1e-5  # of probabilities: one voxel of which a network is entirely sure must not outweigh all of its neighbours


@dataclass(frozen=True, kw_only=True)
class DenseCRF:
    r"""Mean field of argmin_x sum_p -log s_p(x_p) + sum_{p < q} [x_p != x_q] k(p, q), over all pairs of voxels.

    k(p, q) = w_1 exp(-|p - q|^2 / 2 theta_alpha^2 - |I_p - I_q|^2 / 2 theta_beta^2) + w_2 exp(-|p - q|^2 / 2
    theta_gamma^2), each of both Gaussians normalised symmetrically, as in the authors' program, which computes it here.
    The names are those of MONAI's `networks.blocks.CRF`, which needs a build of MONAI with its own compiled parts. The
    defaults are those of the thesis's DeepCut (6.3, B.1), where images had 256 grey values.

    Args:
        bilateral_weight: w_1.
        bilateral_spatial_sigma: theta_alpha in voxels, one for all axes or one an axis.
        bilateral_color_sigma: theta_beta in the units of the image, one for all channels or one a channel.
        gaussian_weight: w_2.
        gaussian_spatial_sigma: theta_gamma in voxels, one for all axes or one an axis.
        iterations: of the mean field.

    Shapes: probabilities (K, *S) of K >= 2 classes and image (C, *S), NumPy, S in 1, 2 or 3 dimensions; result (K, *S)
    float32, probabilities again.

    Raises:
        ImportError: pydensecrf2 is not installed.
        ValueError: for a setting out of range; when called, for shapes that do not fit.

    Source: Kraehenbuehl and Koltun, Efficient inference in fully connected CRFs with Gaussian edge potentials, 2011.

    Example:
        >>> DenseCRF(iterations=10)(probabilities, image).argmax(0)
    """

    bilateral_weight: float = 10.0
    bilateral_spatial_sigma: float | Sequence[float] = 10.0
    bilateral_color_sigma: float | Sequence[float] = 20 / 255
    gaussian_weight: float = 3.0
    gaussian_spatial_sigma: float | Sequence[float] = 1.0
    iterations: int = 5

    def __post_init__(self) -> None:
        if find_spec("pydensecrf") is None:
            raise ImportError(
                "DenseCRF: the package pydensecrf2 is not installed; pip install 'monai-constraints[crf]', which "
                "compiles it in a minute and needs a C++ compiler"
            )
        sigmas = (self.bilateral_spatial_sigma, self.bilateral_color_sigma, self.gaussian_spatial_sigma)
        positive = all(np.min(sigma) > 0 for sigma in sigmas)
        if not positive or min(self.bilateral_weight, self.gaussian_weight) < 0 or self.iterations < 1:
            raise ValueError(f"DenseCRF: {self}; expected sigmas above 0, weights of 0 or more, one iteration or more")

    def __call__(self, probabilities: np.ndarray, image: np.ndarray) -> np.ndarray:
        if len(probabilities) < 2 or probabilities.shape[1:] != image.shape[1:]:
            raise ValueError(
                f"DenseCRF: probabilities {probabilities.shape} and image {image.shape}; expected (K, *S) of two "
                "classes or more and (C, *S) on the same grid"
            )
        from pydensecrf.densecrf import DenseCRF as Field  # an extra, and only here

        classes, voxels = len(probabilities), int(np.prod(image.shape[1:]))
        field = Field(voxels, classes)
        unary = -np.log(np.clip(probabilities, FLOOR, 1), dtype=np.float32)
        field.setUnaryEnergy(np.ascontiguousarray(unary.reshape(classes, voxels), np.float32))
        # The lattice that sums over all pairs is no more than close to the formula, and the order of axes matters to
        # it: last axis first, as in the authors' program for pictures.
        places = np.indices(image.shape[1:], np.float32)
        if self.gaussian_weight:
            near = _scaled(places, self.gaussian_spatial_sigma)[::-1].copy()
            field.addPairwiseEnergy(near, compat=self.gaussian_weight)
        if self.bilateral_weight:
            near = _scaled(places, self.bilateral_spatial_sigma)[::-1]
            alike = np.concatenate([near, _scaled(image, self.bilateral_color_sigma)])
            field.addPairwiseEnergy(alike, compat=self.bilateral_weight)
        return np.array(field.inference(self.iterations), np.float32).reshape(probabilities.shape)


class DenseCRFd(MapTransform):
    """`DenseCRF` of a prediction, before it becomes classes, and on the grid on which the network saw the image.

    Args:
        keys: probabilities (K, *S), K >= 2.
        crf: the field; None: `DenseCRF()`.
        image_key: the image (C, *S), with intensities as the network sees them.
        axis: each slice across this axis of a volume is a field of its own; None: the whole volume is one, for which
            sigmas in voxels should say how far these are apart.

    Raises:
        ImportError: pydensecrf2 is not installed.
        ValueError: for other shapes.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        crf: DenseCRF | None = None,
        image_key: str = IMAGE,
        axis: int | None = -1,
    ) -> None:
        super().__init__(keys)
        self.crf, self.image_key, self.axis = crf or DenseCRF(), image_key, axis

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        image = convert_to_numpy(sample[self.image_key])
        for key in self.keys:
            source = torch.as_tensor(sample[key])
            refined = self._refined(convert_to_numpy(source), image)
            sample[key], *_ = convert_to_dst_type(refined, dst=source, dtype=source.dtype)
        return sample

    def _refined(self, probabilities: np.ndarray, image: np.ndarray) -> np.ndarray:
        if self.axis is None or probabilities.ndim < 4 or probabilities.shape[1:] != image.shape[1:]:
            return self.crf(probabilities, image)  # which refuses shapes that differ
        place = self.axis if self.axis < 0 else self.axis + 1
        cut = (np.moveaxis(array, place, 0) for array in (probabilities, image))
        return np.stack([self.crf(one, seen) for one, seen in zip(*cut)], axis=place)


def _scaled(values: np.ndarray, sigma: float | Sequence[float]) -> np.ndarray:
    """(n, voxels): the rows of (n, *S) in units of the sigma, or each in its own."""
    scaled = values.reshape(len(values), -1).T / np.asarray(sigma, np.float32)
    return np.ascontiguousarray(scaled.T, np.float32)
