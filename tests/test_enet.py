from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_constraints.networks import ENet
from monai_constraints.networks.enet import _unpool

BOTH = pytest.mark.parametrize("upsample", ["interpolated", "transposed"])


@BOTH
@pytest.mark.parametrize("batch, channels, classes, height, width", [(1, 1, 4, 24, 56), (2, 3, 5, 64, 16)])
def test_one_logit_a_class_and_pixel(
    upsample: str, batch: int, channels: int, classes: int, height: int, width: int
) -> None:
    network = ENet(2, channels, classes, upsample=upsample).train()
    assert network(torch.rand(batch, channels, height, width)).shape == (batch, classes, height, width)


@BOTH
def test_resolutions_are_those_of_the_paper(upsample: str) -> None:
    network = ENet(2, 3, 5, upsample=upsample)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in network.named_children():
        module.register_forward_hook(
            lambda _, __, out, name=name: shapes.update(
                {name: tuple((out[0] if isinstance(out, tuple) else out).shape[1:])}
            )
        )
    network(torch.rand(1, 3, 64, 96))
    assert shapes == {
        "initial": (16, 32, 48),
        "down1": (64, 16, 24),
        "stage1": (64, 16, 24),
        "down2": (128, 8, 12),
        "stage2": (128, 8, 12),
        "stage3": (128, 8, 12),
        "up4": (64, 16, 24),
        "stage4": (64, 16, 24),
        "up5": (16, 32, 48),
        "stage5": (16, 32, 48),
        "final": (5, 64, 96),
    }


@BOTH
def test_parameters_are_as_many_as_published(upsample: str) -> None:
    # Table 3 of the paper: 0.37 M with the 3 channels and 19 classes of Cityscapes
    network = ENet(2, 3, 19, upsample=upsample)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(0.365e6, rel=0.02)


def test_context_stages_are_dilated_and_asymmetric_as_published() -> None:
    network = ENet()
    for stage in (network.stage2, network.stage3):
        convolutions = [m for m in stage.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
        assert [(m.kernel_size, m.dilation[0]) for m in convolutions] == [
            ((3, 3), 1),
            ((3, 3), 2),
            ((5, 1), 1),
            ((1, 5), 1),
            ((3, 3), 4),
            ((3, 3), 1),
            ((3, 3), 8),
            ((5, 1), 1),
            ((1, 5), 1),
            ((3, 3), 16),
        ]


def test_dropout_is_weak_in_stage_1_only() -> None:
    network = ENet(dropout=(0.2, 0.3))
    chances = {name: m.p for name, m in network.named_modules() if isinstance(m, nn.Dropout2d)}
    assert len(chances) == 5 + 9 + 8 + 3 + 2  # the paper's bottlenecks 1.0 to 5.1
    assert {name for name, p in chances.items() if p == 0.2} == {
        name for name in chances if name.startswith(("down1", "stage1"))
    }


@BOTH
def test_gradient_reaches_every_parameter(upsample: str) -> None:
    network = ENet(2, 2, 3, upsample=upsample).train()
    network(torch.randn(1, 2, 32, 40)).square().mean().backward()  # batch of one image
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@BOTH
def test_scripted_network_agrees(upsample: str) -> None:
    network = ENet(2, 2, 3, upsample=upsample).eval()
    scripted = torch.jit.script(network)
    image = torch.rand(1, 2, 32, 40)
    assert torch.allclose(scripted(image), network(image), atol=1e-6)
    with pytest.raises(Exception, match="multiples of 8"):
        scripted(torch.rand(1, 2, 32, 42))


def test_interpolated_has_nothing_transposed() -> None:
    transposing = (nn.ConvTranspose2d, nn.MaxUnpool2d)
    assert not [m for m in ENet().modules() if isinstance(m, transposing)]
    assert len([m for m in ENet(upsample="transposed").modules() if isinstance(m, transposing)]) == 3


@BOTH
def test_only_transposed_uses_the_places_of_the_maxima(upsample: str) -> None:
    up = ENet(upsample=upsample).up4.eval()
    x, corners = torch.rand(2, 128, 3, 5), torch.arange(60).view(6, 10)
    first = up(x, corners[::2, ::2].expand(2, 64, 3, 5))
    other = up(x, corners[1::2, ::2].expand(2, 64, 3, 5))
    assert torch.equal(first, other) == (upsample == "interpolated")


def test_unpooling_puts_the_maxima_back() -> None:
    pooled, places = nn.functional.max_pool2d(torch.randn(2, 3, 8, 10), 2, return_indices=True)
    assert torch.equal(_unpool(pooled, places), nn.functional.max_unpool2d(pooled, places, [2, 2]))


def test_each_unpooling_gets_the_places_of_its_own_resolution() -> None:
    network = ENet(upsample="transposed")
    made: list[torch.Tensor] = []
    used: list[torch.Tensor] = []
    for down in (network.down1, network.down2):
        down.register_forward_hook(lambda _, __, out: made.append(out[1]))
    for up in (network.up5, network.up4):
        up.register_forward_hook(lambda _, inputs, __: used.append(inputs[1]))
    network(torch.rand(1, 1, 32, 40))
    assert all(torch.equal(m, u) for m, u in zip(made, reversed(used), strict=True))


@BOTH
def test_only_the_last_convolution_has_a_bias(upsample: str) -> None:
    convolutions = [
        m for m in ENet(upsample=upsample).modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))
    ]
    assert [m.bias is not None for m in convolutions] == [False] * (len(convolutions) - 1) + [True]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"spatial_dims": 3}, "spatial_dims=3"),
        ({"upsample": "deconv"}, "upsample='deconv'"),
        ({"in_channels": 16}, "in_channels=16, features=16"),
        ({"features": 18}, "features=18"),
    ],
)
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ENet(**options)


@pytest.mark.parametrize("shape", [(36, 40), (40, 36)])
def test_sides_must_be_multiples_of_8(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"multiples of 8, got {shape[0]} x {shape[1]}"):
        ENet()(torch.rand(1, 1, *shape))
