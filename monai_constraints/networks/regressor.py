"""Networks that predict values of statistics: with a pooled head, or with the statistic of a region as the head."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from monai_constraints.constraints import Statistic

__all__ = ["PooledEncoder", "SegmentedRegion", "SoftRegion", "Standardised"]


class PooledEncoder(nn.Module):
    """The encoder of MONAI's BasicUNet, the mean over its last map, and one linear layer.

    Half a per cent of the parameters of the ResNeXt-101 of thesis 5.4, so that five patients can train it.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the image.
        out_channels: numbers to predict.
        features: channels of the five levels, each at half the resolution of the one before.
        norm: as in BasicUNet.
        dropout: of the pooled features.

    Shapes: image (B, in_channels, *S), S multiples of 16; result (B, out_channels).

    Raises:
        ValueError: for other than five levels.
    """

    def __init__(
        self,
        *,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        features: Sequence[int] = (16, 32, 64, 64, 64),
        norm: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(features) != 5:
            raise ValueError(f"PooledEncoder: features={list(features)}; give the channels of five levels")
        unet = BasicUNet(spatial_dims, in_channels, 1, features=(*features, features[0]), norm=norm)
        self.encoder = nn.Sequential(unet.conv_0, unet.down_1, unet.down_2, unet.down_3, unet.down_4)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(features[-1], out_channels)

    def forward(self, image: Tensor) -> Tensor:
        pooled: Tensor = self.encoder(image).flatten(2).mean(2)
        found: Tensor = self.head(self.dropout(pooled))
        return found


class SoftRegion(nn.Module):
    """f(sigmoid(network(x) - offset)): the statistic is the head, of a region that nobody outlined.

    A pooled head has to learn what a size is; here it is a sum over pixels from the start, and only which pixels count
    is learned. A region has a size, a place and a spread at once, so any `Statistic` can be the target.

    Args:
        network: (B, C, *S) to one channel a class (B, K, *S), such as a U-Net, on the image's grid.
        statistic: f; all channels count, in the order of its classes.
        offset: the larger, the smaller the regions before anything is learned.

    Shapes: image (B, C, *S); result (B, K, M) in voxels of that grid.
    """

    def __init__(self, network: nn.Module, statistic: Statistic, *, offset: float = 2.0) -> None:
        super().__init__()
        self.network, self.offset = network, offset
        self.statistic = copy.copy(statistic)
        self.statistic.classes = None

    def forward(self, image: Tensor) -> Tensor:
        region = torch.sigmoid(self.network(image).float() - self.offset)
        return self.statistic(region, image=image if self.statistic.needs_image else None)


class SegmentedRegion(nn.Module):
    """f(softmax(network(x))): the statistic of a segmentation, which outlines of the annotated patients train as well.

    Whoever has sizes of a few patients has their masks, and each pixel of a mask teaches more than the sum of them all.
    So this errs less than a head that learns numbers alone, and least where only five patients are annotated.

    Args:
        network: (B, C, *S) to background and one channel a class (B, 1 + K, *S), on the image's grid.
        statistic: f; the K classes count, in their order.

    Attributes:
        logits: of the latest call in training, for a loss on outlines (`ValueTrainer`); None in evaluation.

    Shapes: image (B, C, *S); result (B, K, M) in voxels of that grid.
    """

    def __init__(self, network: nn.Module, statistic: Statistic) -> None:
        super().__init__()
        self.network = network
        self.statistic = copy.copy(statistic)
        self.statistic.classes = None
        self.logits: Tensor | None = None

    def forward(self, image: Tensor) -> Tensor:
        logits = self.network(image).float()
        self.logits = logits if self.training else None
        region = logits.softmax(1)[:, 1:]
        return self.statistic(region, image=image if self.statistic.needs_image else None)


class Standardised(nn.Module):
    """R(x) = mean + deviation * network(x), for K classes with M values each: the network learns numbers near 1.

    Mean and deviation are those of the training's targets and travel with the weights. Until `fit` they are 0 and 1,
    the raw values that the thesis's regressor learns.

    Args:
        network: (B, C, *S) to K * M numbers a sample.
        classes, values: K and M.

    Shapes: result (B, K, M).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, *, classes: int = 1, values: int = 1) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.zeros(classes, values))
        self.register_buffer("deviation", torch.ones(classes, values))

    def fit(self, targets: Tensor) -> None:
        """Mean and deviation of targets (N, K, M); NaN is not known, and a value that never varies keeps 1.

        Raises:
            ValueError: a class or value that is known nowhere.
        """
        known = ~targets.isnan()
        count = known.sum(0)
        if not bool(count.all()):
            k, m = (count == 0).nonzero()[0].tolist()
            raise ValueError(
                f"Standardised: value {m} of class number {k} is known in no slice; annotate patients who have it"
            )
        mean = targets.nan_to_num(0.0).sum(0) / count
        variance = torch.where(known, (targets - mean).square(), 0.0).sum(0) / count
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(variance > 0, variance.sqrt(), 1.0))

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.network(image)
        if found.numel() != len(image) * self.mean.numel():
            raise ValueError(
                f"Standardised: the network gives {tuple(found.shape)}, expected {self.mean.numel()} numbers a sample, "
                f"K = {self.mean.shape[0]} classes of M = {self.mean.shape[1]} values; correct its output channels"
            )
        return self.mean + self.deviation * found.float().reshape(len(image), *self.mean.shape)
