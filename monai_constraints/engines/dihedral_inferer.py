"""Test-time augmentation with quarter turns and mirrors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

__all__ = ["DihedralInferer"]


class DihedralInferer(Inferer):
    r"""log 1/8 sum_g g^-1 softmax(f(g x)), over the four quarter turns g of the image x and of its mirror image.

    For networks that were trained with these views (`BatchSimilarity(dihedral=True)`, `RandDihedrald`): they do not
    err alike in all of them, so the mean errs less often, and turns with the image. It takes eight times as long.
    MONAI's TestTimeAugmentation draws random views of one item, outside of an engine; this one has all eight, for
    batches, wherever an inferer goes.

    Args:
        inferer: of one view, such as `AutocastInferer` for slices or MONAI's `SliceInferer` for volumes.
        enabled: off is `inferer` alone: its logits as they are.
        axes: the two axes that are turned, of equal length.

    Shapes: image (B, C, *S); result (B, K, *S), K >= 2: the logarithm of probabilities, whose softmax these are.

    Raises:
        ValueError: for an image whose axes differ in length, or an output of a single channel.

    Example:
        >>> DihedralInferer(SimpleInferer())(image, network).softmax(1)
    """

    def __init__(
        self, inferer: Callable[..., Tensor], *, enabled: bool = True, axes: tuple[int, int] = (2, 3)
    ) -> None:
        super().__init__()
        self.inferer, self.enabled, self.axes = inferer, enabled, tuple(axes)

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        if not self.enabled:
            return self.inferer(inputs, network, *args, **kwargs)
        second = self.axes[1]
        self._check(inputs.shape)
        total: Tensor | float = 0.0
        for mirror in (False, True):
            mirrored = inputs.flip(second) if mirror else inputs
            for turns in range(4):
                output = self.inferer(torch.rot90(mirrored, turns, self.axes), network, *args, **kwargs)
                if output.shape[1] < 2:
                    raise ValueError(f"DihedralInferer: output {tuple(output.shape)}; expected two channels or more")
                p = torch.rot90(output.softmax(1), -turns, self.axes)
                total = total + (p.flip(second) if mirror else p)
        return torch.log(torch.as_tensor(total / 8).clamp_min(torch.finfo(torch.float32).tiny))

    def check_size(self, spatial_size: Sequence[int]) -> None:
        """Say it before a training starts, not at its first validation.

        Args:
            spatial_size: (*S) of the images to come.

        Raises:
            ValueError: the axes differ in length, and it is enabled.
        """
        if self.enabled:
            self._check((0, 0, *spatial_size))

    def _check(self, shape: Sequence[int]) -> None:
        if shape[self.axes[0]] != shape[self.axes[1]]:
            raise ValueError(
                f"DihedralInferer: images of {list(shape[2:])}; quarter turns need a square. Choose another "
                "spatial_size, or leave out the eight views (test_time_augmentation)"
            )
