"""Sums over voxels that float32 can bear."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["block_sums"]

BLOCK = 512  # voxels that a matrix product may add one by one


def block_sums(region: Tensor, features: Tensor) -> Tensor:
    """sum_p s_p phi(p), (B, K, F).

    One matrix product over all voxels would add float32 terms one by one and lose half a per cent of a soft volume of
    10^7 voxels: multiply block by block, then add the blocks pairwise, which `sum` does.

    Args:
        region: s, (B, K, *S) float32.
        features: phi, (F, P); (B, F, P) where samples differ; (B, K, F, P) where classes differ too.
    """
    batch, classes = region.shape[:2]
    if features.ndim == 2:
        rows = _blocks(region.reshape(batch * classes, -1))
        return torch.bmm(rows.transpose(0, 1), _blocks(features).permute(1, 2, 0)).sum(0).view(batch, classes, -1)
    features = features if features.ndim == 4 else features[:, None]
    return torch.einsum("bknp,bkfnp->bkfn", _blocks(region.flatten(2)), _blocks(features)).sum(-1)


def _blocks(x: Tensor) -> Tensor:
    """(..., P) to (..., n, BLOCK), padded with zeros."""
    missing = -x.shape[-1] % BLOCK
    x = torch.nn.functional.pad(x, (0, missing)) if missing else x
    return x.view(*x.shape[:-1], -1, BLOCK)
