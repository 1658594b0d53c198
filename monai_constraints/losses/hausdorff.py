"""MONAI's Hausdorff loss on the fast distance transform."""

from __future__ import annotations

import edt
import numpy as np
import torch
from monai.losses import HausdorffDTLoss
from torch import Tensor

from ..constraints.network_output import check_output

__all__ = ["HausdorffMapLoss"]


class HausdorffMapLoss(HausdorffDTLoss):
    r"""sum (g - s)^2 (D_G^beta + D_S^beta), averaged (thesis 4.3.2), beta being MONAI's `alpha`, 2 by default.

    `monai.losses.HausdorffDTLoss`, arguments and numbers included, whose distances come from one pass of the edt
    package where MONAI makes two of SciPy's. D_S changes with the prediction, so it is measured at every step. Give it
    `to_onehot_y=True` to fit a `Term` of `WeightedSum`. (One difference: with one channel and labels of integers,
    MONAI's D_G is cut to integers; this one is not.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        check_output(input, target, owner="HausdorffMapLoss")
        return super().forward(input, target)

    @torch.no_grad()
    def distance_field(self, img: Tensor) -> Tensor:
        """Distance of each voxel of (B, 1, *S) to the nearest on the other side of the boundary; 0 without one."""
        masks = (img > 0.5).cpu().numpy()
        fields = [edt.edt(mask[0].view(np.uint8) + np.uint8(1)) for mask in masks]
        field = torch.from_numpy(np.stack(fields))[:, None]
        return torch.where(field.isfinite(), field, 0.0).to(img.device, torch.float32)
