"""The boundary loss, on a signed distance map that was made beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from .activation import Activation

__all__ = ["BoundaryMapLoss"]


class BoundaryMapLoss(nn.Module):
    r"""sum_q phi_G(q) s(q), averaged over voxels, classes and batch (thesis 4.5).

    phi_G is negative inside the class, so the loss is lowest, and negative, where the prediction is the class itself.
    It is linear in s: patches, slices of a map measured in 3D, and several classes need nothing special.

    On a binary task it needs a regional loss beside it: alone it collapses to an empty prediction (4.2). `WeightedSum`
    warns of that.

    Args:
        classes: the input's channels that the map's K channels belong to; all by default. With a single channel, its
            class.
        softmax, sigmoid, temperature: what turns the input into probabilities; nothing by default.
        reduction: "mean"; "sum"; "none" for (B, K, *S).
        offset: sum_q phi_G(q) (s(q) - g(q)) instead, with g the mask: the same gradient, never negative, 0 at the
            mask itself. Easier to read in a log.

    Shapes: input (B, C, *S); distance (B, K, *S) float, from `SignedDistanceMapd`; voxels: a number, or one a sample.

    Raises:
        ValueError: for a map of integers, or of another shape than the chosen channels.

    Example:
        >>> loss = BoundaryMapLoss(classes=[1], softmax=True)
        >>> loss(logits, batch["distance"])
    """

    collapses_alone = True

    def __init__(
        self,
        *,
        classes: Sequence[int] | None = None,
        softmax: bool = False,
        sigmoid: bool = False,
        temperature: float = 1.0,
        reduction: Literal["mean", "sum", "none"] = "mean",
        offset: bool = False,
    ) -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"BoundaryMapLoss: reduction={reduction!r}; choose mean, sum or none")
        if classes is not None and (len(classes) == 0 or len(set(classes)) != len(classes) or min(classes) < 0):
            raise ValueError(f"BoundaryMapLoss: classes={list(classes)} must be distinct channels >= 0")
        self.classes = None if classes is None else tuple(classes)
        self.activation = Activation("BoundaryMapLoss", softmax=softmax, sigmoid=sigmoid, temperature=temperature)
        self.reduction, self.offset = reduction, offset

    def forward(self, input: Tensor, distance: Tensor, *, voxels: Tensor | int | None = None) -> Tensor:
        """The loss.

        Args:
            voxels: of the whole volume that each patch of the batch was cut from, with `reduction="sum"`: each sample
                is divided by K * voxels. Added over all patches of a volume, that is the volume's mean.
        """
        distance = distance.as_subclass(Tensor) if type(distance) is not Tensor else distance
        if not distance.is_floating_point():
            raise ValueError(
                f"BoundaryMapLoss: the map is {distance.dtype}, expected floating point; make it with "
                "SignedDistanceMapd, which keeps its fractions"
            )
        if voxels is not None and self.reduction != "sum":
            raise ValueError(f"BoundaryMapLoss: voxels goes with reduction='sum', not {self.reduction!r}")
        with torch.autocast(input.device.type, enabled=False):
            p = self._select(self.activation(input))
            if p.shape != distance.shape:
                raise ValueError(
                    f"BoundaryMapLoss: the map is {tuple(distance.shape)}, the chosen probabilities {tuple(p.shape)} "
                    f"of an input {tuple(input.shape)}; give the loss and SignedDistanceMapd the same classes=[...], "
                    "and crop image, label and map together"
                )
            distance = distance.float()
            loss = p * distance
            if self.offset:
                # phi * g: where phi is 0 the mask does not matter.
                loss = loss - distance.clamp_max(0)
            if self.reduction == "none":
                return loss
            if self.reduction == "mean":
                return loss.mean()
            if voxels is None:
                return loss.sum()
            whole = torch.as_tensor(voxels, dtype=torch.float32, device=loss.device) * loss.shape[1]
            return (loss.flatten(1).sum(1) / whole).sum()

    def _select(self, p: Tensor) -> Tensor:
        if self.classes is None or self.classes == tuple(range(p.shape[1])):
            return p
        if p.shape[1] == 1 and len(self.classes) == 1:
            return p
        if max(self.classes) >= p.shape[1]:
            raise ValueError(
                f"BoundaryMapLoss: classes={list(self.classes)}, but the input has {p.shape[1]} channels; choose "
                "classes among the network's outputs"
            )
        return p[:, list(self.classes)]
