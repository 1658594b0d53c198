"""ENet, the small network of the thesis's experiments."""

from __future__ import annotations

import torch
from monai.networks.blocks import Convolution
from torch import nn

__all__ = ["ENet"]

# Stages 2 and 3 are this sequence of (kernel size, dilation), once each (Paszke et al. 2016, Table 1).
_CONTEXT = ((3, 1), (3, 2), (5, 1), (3, 4), (3, 1), (3, 8), (5, 1), (3, 16))


class ENet(nn.Module):
    """Light 2D encoder-decoder of Paszke et al. 2016, the network of thesis 2.4, 3.4, 5.4 and 6.4.

    Twenty-seven residual bottlenecks at 1/4, 1/8 and 1/2 of the resolution, 0.36 M parameters. Only the last
    convolution has a bias: batch normalisation follows all the others.

    Transposed convolutions find striped regions that satisfy global constraints such as a size or a
    centroid, so the default replaces them, and the max-unpooling, by bilinear interpolation followed by a
    convolution.

    Args:
        spatial_dims: 2; there is no 3D ENet.
        in_channels: channels of the image, fewer than `features`.
        out_channels: number of classes.
        features: channels after the initial block, a multiple of 4; stages have 4 and 8 times as many.
        upsample: "interpolated", or "transposed" as published.
        dropout: probability of dropping a channel, in the bottlenecks of stage 1 and in all later ones.

    Raises:
        ValueError: from the constructor, for an option outside these ranges; from `forward`, when H or W is
            not a multiple of 8.

    Source: arXiv 1606.02147, with the 2 x 2 last convolution of the authors' code.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        features: int = 16,
        upsample: str = "interpolated",
        dropout: tuple[float, float] = (0.01, 0.1),
    ) -> None:
        super().__init__()
        if spatial_dims != 2:
            raise ValueError(f"ENet: spatial_dims={spatial_dims}, expected 2; use a MONAI UNet in 3D.")
        if features % 4 or not 0 < in_channels < features:
            raise ValueError(
                f"ENet: in_channels={in_channels}, features={features}; "
                "make features a multiple of 4 above in_channels."
            )
        if upsample not in ("interpolated", "transposed"):
            raise ValueError(f'ENet: upsample={upsample!r}; choose "interpolated" or "transposed".')

        small, middle, large = features, 4 * features, 8 * features
        early, late = dropout
        transposed = upsample == "transposed"
        self.initial = _Initial(in_channels, small)
        self.down1 = _Down(small, middle, early)
        self.stage1 = nn.Sequential(*(_Bottleneck(middle, early) for _ in range(4)))
        self.down2 = _Down(middle, large, late)
        self.stage2 = nn.Sequential(*(_Bottleneck(large, late, *kernel) for kernel in _CONTEXT))
        self.stage3 = nn.Sequential(*(_Bottleneck(large, late, *kernel) for kernel in _CONTEXT))
        self.up4 = _Up(large, middle, late, transposed)
        self.stage4 = nn.Sequential(*(_Bottleneck(middle, late) for _ in range(2)))
        self.up5 = _Up(middle, small, late, transposed)
        self.stage5 = _Bottleneck(small, late)
        self.final: nn.Module
        if transposed:
            self.final = nn.ConvTranspose2d(small, out_channels, kernel_size=2, stride=2)
        else:
            self.final = nn.Sequential(_bilinear(), nn.Conv2d(small, out_channels, kernel_size=3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, out_channels, H, W) of an image (B, in_channels, H, W)."""
        height, width = x.shape[-2], x.shape[-1]
        if height % 8 != 0 or width % 8 != 0:
            raise ValueError(
                f"ENet: H and W must be multiples of 8, got {height} x {width}; pad with DivisiblePad(k=8)."
            )
        x, places1 = self.down1(self.initial(x))
        x, places2 = self.down2(self.stage1(x))
        x = self.stage3(self.stage2(x))
        x = self.stage4(self.up4(x, places2))
        x = self.stage5(self.up5(x, places1))
        return self.final(x)


class _Initial(nn.Module):
    """A strided convolution beside the pooled image."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels - in_channels, 3, stride=2, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.PReLU(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(torch.cat((self.conv(x), self.pool(x)), dim=1)))


class _Bottleneck(nn.Module):
    """A residual block at one resolution; size 5 is factorised into 5 x 1 and 1 x 5."""

    def __init__(self, channels: int, dropout: float, size: int = 3, dilation: int = 1) -> None:
        super().__init__()
        inner = channels // 4
        kernels: list[int | tuple[int, int]] = [3] if size == 3 else [(size, 1), (1, size)]
        self.residual = nn.Sequential(
            _conv(channels, inner),
            *(_conv(inner, inner, kernel, dilation=dilation) for kernel in kernels),
            _conv(inner, channels, act=False),
            nn.Dropout2d(dropout),
        )
        self.act = nn.PReLU(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x + self.residual(x))


class _Down(nn.Module):
    """Halves the resolution; the main branch is max-pooled and its missing channels are zero."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        inner = out_channels // 4
        self.extra = out_channels - in_channels
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.residual = nn.Sequential(
            _conv(in_channels, inner, 2, stride=2),
            _conv(inner, inner, 3),
            _conv(inner, out_channels, act=False),
            nn.Dropout2d(dropout),
        )
        self.act = nn.PReLU(out_channels)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        main, places = self.pool(x)
        main = nn.functional.pad(main, [0, 0, 0, 0, 0, self.extra])
        return self.act(main + self.residual(x)), places


class _Up(nn.Module):
    """Doubles the resolution; `places` are the maxima of the matching `_Down`, not used by interpolation."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float, transposed: bool) -> None:
        super().__init__()
        inner = out_channels // 4
        double: tuple[nn.Module, ...]
        self.transposed = transposed
        if transposed:
            self.main = nn.Sequential(_conv(in_channels, out_channels, act=False))
            double = (_conv(inner, inner, 3, stride=2, transposed=True),)
        else:
            self.main = nn.Sequential(_bilinear(), _conv(in_channels, out_channels, act=False))
            double = (_bilinear(), _conv(inner, inner, 3))
        self.residual = nn.Sequential(
            _conv(in_channels, inner), *double, _conv(inner, out_channels, act=False), nn.Dropout2d(dropout)
        )
        self.act = nn.PReLU(out_channels)

    def forward(self, x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        main = self.main(x)
        if self.transposed:
            main = _unpool(main, places)
        return self.act(main + self.residual(x))


def _unpool(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Max-unpooling by 2, which torch.jit.script can't compile from torch.nn (2.13)."""
    batch, channels, height, width = x.shape
    full = x.new_zeros(batch, channels, 4 * height * width)
    full = full.scatter(2, places.flatten(2), x.flatten(2))  # no place comes twice: windows don't overlap
    return full.view(batch, channels, 2 * height, 2 * width)


def _conv(
    in_channels: int,
    out_channels: int,
    size: int | tuple[int, int] = 1,
    *,
    stride: int = 1,
    dilation: int = 1,
    transposed: bool = False,
    act: bool = True,
) -> Convolution:
    """Convolution, batch normalisation and, with `act`, a PReLU with one slope a channel."""
    return Convolution(
        2,
        in_channels,
        out_channels,
        strides=stride,
        kernel_size=size,
        adn_ordering="NA" if act else "N",
        act=("prelu", {"num_parameters": out_channels}),
        norm="batch",
        dilation=dilation,
        bias=False,
        padding=0 if size == 2 else None,  # None keeps the shape, which only odd kernels can do
        is_transposed=transposed,
    )


def _bilinear() -> nn.Upsample:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
