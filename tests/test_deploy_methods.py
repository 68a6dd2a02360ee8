"""Deployment of RSign, RPReLU and ternary weights: bit for bit, or refused with the reason."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bitorch import can_deploy, deploy, verify
from bitorch.layers import QActivation, QConv1d, QConv2d, QLinear, RPReLU
from bitorch.quantizations import (
    GradientLUQ,
    GradientSigned,
    InputDoReFa,
    InputLSQ,
    Quantization,
    RSign,
    Sign,
    WeightDoReFa,
    WeightLSQ,
    WeightTTQ,
    WeightTWN,
)


def shaken(net: nn.Module, seed: int) -> nn.Module:
    """Give every shift, slope and norm numbers of both signs."""
    torch.manual_seed(seed)
    for module in net.modules():
        if isinstance(module, (RSign, RPReLU, nn.BatchNorm1d, nn.BatchNorm2d)):
            for parameter in module.parameters():
                nn.init.normal_(parameter, 0.1, 0.5)
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.momentum = None
    return net


def binary(rsign: Quantization, weight: Quantization | None = None) -> dict[str, object]:
    return {
        "input_quantization": rsign,
        "weight_quantization": WeightDoReFa(1, variant="paper") if weight is None else weight,
        "gradient_cancellation_threshold": 0.0,
    }


class ReActBlock(nn.Module):
    """RSign, binary convolution, norm, shortcut, RPReLU."""

    def __init__(self, channels: int, bias: bool) -> None:
        super().__init__()
        self.conv = QConv2d(channels, channels, 3, padding=1, bias=bias, **binary(RSign(channels, 2)))  # type: ignore[arg-type]
        self.norm = nn.BatchNorm2d(channels)
        self.act = RPReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.norm(self.conv(x)) + x)
        return y


def image_net(bias: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), RPReLU(8), ReActBlock(8, bias), ReActBlock(8, bias),
        nn.MaxPool2d(2), QActivation(RSign(8, 2), 0.0), nn.AvgPool2d(2), nn.Flatten(),
        QLinear(32, 16, bias=bias, **binary(RSign(32, 0))), nn.BatchNorm1d(16), RPReLU(16), nn.Linear(16, 4),  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("seed", range(4))
def test_a_reactnet_is_equal_in_every_tensor(seed: int, bias: bool) -> None:
    net = shaken(image_net(bias), seed)
    with torch.no_grad():
        net.train()(torch.randn(8, 3, 8, 8))
    net.eval()
    packed = deploy(net, torch.rand(2, 3, 8, 8), pixels=True)
    verification = verify(net, packed, torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8))
    assert verification, str(verification)
    kinds = [comparison.operation for comparison in verification.comparisons]
    assert "conv2d" in kinds
    assert "linear" in kinds


def test_signals_and_numbers_at_the_shift() -> None:
    """Inputs that are equal to the shift, of both zeros too, are +1 in the program as in PyTorch."""
    net = nn.Sequential(QConv1d(3, 4, 3, padding=1, **binary(RSign(3, 1))), nn.BatchNorm1d(4)).eval()  # type: ignore[arg-type]
    rsign = net.get_submodule("0.activation.activation_function")
    assert isinstance(rsign, RSign)
    rsign.shift.data.copy_(torch.tensor([[0.0], [-0.0], [0.3]]))
    x = torch.tensor([0.0, -0.0, 0.3, 0.3 - 2**-26, 1e-45, -1e-45, -1.0, 1.0]).repeat(2, 3, 1)
    packed = deploy(net, x)
    assert verify(net, packed, x)


def test_partial_deployment_takes_rsign() -> None:
    net = shaken(image_net(True), 5).eval()
    x = torch.randn(3, 3, 8, 8)
    packed = deploy(net, x, partial=True)
    assert [row.became for row in packed.rows if row.bits] == ["PackedConv2d", "PackedConv2d", "PackedLinear"]
    assert torch.equal(packed.model(x), net(x))
    assert not [row.name for row in packed.rows if row.layer == "RSign"]


def test_a_shift_stays_in_single_precision_as_scales_do() -> None:
    net = shaken(nn.Sequential(QLinear(6, 3, **binary(RSign(6, 0)))), 6).eval()  # type: ignore[arg-type]
    x = torch.randn(50, 6)
    packed = deploy(net, x, partial=True).model
    expected = packed(x)
    assert not any(parameter.requires_grad for parameter in packed.parameters())
    assert torch.equal(packed.to(torch.bfloat16)(x), expected.to(torch.bfloat16))


def test_rsign_of_another_axis() -> None:
    """Alone it shifts what it shifts in PyTorch; in front of a convolution it has to be for the channels."""
    net = nn.Sequential(QActivation(RSign(6, 0), 0.0), QConv2d(2, 3, 3, **binary(Sign()))).eval()  # type: ignore[arg-type]
    x = torch.randn(2, 2, 5, 6)
    assert verify(shaken(net, 8).eval(), deploy(net, x), x)
    layer = nn.Sequential(QConv2d(6, 3, 3, **binary(RSign(6, 0)))).eval()  # type: ignore[arg-type]
    found = can_deploy(layer, torch.randn(1, 6, 5, 6))
    assert "shifts axis -1 of ['batch', 6, 5, 6], not the channels. Make it with dimensions=2" in str(found)


class Same(RSign):
    """A subclass with the same codes."""


class Mirrored(RSign):
    """A subclass with other codes."""

    def codes(self, x: Tensor) -> Tensor:
        return super().codes(-x)


@pytest.mark.parametrize("kind", [Same, Mirrored])
def test_a_subclass_of_rsign_is_what_its_codes_are(kind: type[RSign]) -> None:
    net = shaken(nn.Sequential(QConv2d(2, 3, 3, **binary(kind(2, 2)))), 7).eval()  # type: ignore[arg-type]
    x = torch.randn(2, 2, 6, 6)
    if kind is Same:
        assert verify(net, deploy(net, x), x)
    else:
        assert "computes neither what its arithmetic() says" in str(can_deploy(net, x))
    assert torch.equal(deploy(net, x, partial=True)(x), net(x))


@pytest.mark.parametrize("per_channel", [False, True], ids=["layer", "channel"])
@pytest.mark.parametrize("seed", range(3))
def test_ternary_weights_are_equal_in_every_tensor(per_channel: bool, seed: int) -> None:
    def ternary(bits: int) -> dict[str, object]:
        return binary(InputDoReFa(bits, variant="paper"), WeightTWN(per_channel))

    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8),
        QConv2d(8, 8, 3, padding=1, bias=True, **ternary(2)), nn.BatchNorm2d(8),  # type: ignore[arg-type]
        QConv2d(8, 8, 3, groups=2, **binary(RSign(8, 2), WeightTWN(per_channel))), nn.BatchNorm2d(8),  # type: ignore[arg-type]
        nn.Flatten(), QLinear(288, 5, **ternary(4)),  # type: ignore[arg-type]
    )  # fmt: skip
    shaken(net, seed)
    net.get_parameter("2.weight").data[1] = 0  # a channel without a weight over its threshold
    with torch.no_grad():
        net.train()(torch.randn(8, 3, 8, 8))
    x = torch.randn(3, 3, 8, 8)
    packed = deploy(net.eval(), x)
    verification = verify(net, packed, torch.randn(3, 3, 8, 8))
    assert verification, str(verification)


def test_two_scales_are_refused_with_the_reason() -> None:
    net = nn.Sequential(
        QConv2d(3, 4, 3, **binary(InputDoReFa(2, variant="paper"), WeightTTQ())),  # type: ignore[arg-type]
    ).eval()
    found = str(can_deploy(net, torch.rand(1, 3, 6, 6)))
    assert (
        "its weight quantizer WeightTTQ(bits=2, threshold=0.05) has two scales, W_p and W_n, so there are no codes"
        in (found)
    )
    with pytest.raises(ValueError, match=r"its weight quantizer WeightTTQ.* has two scales, W_p and W_n"):
        deploy(net, torch.rand(1, 3, 6, 6), partial=True)


@pytest.mark.parametrize("gradient", [GradientSigned(4), GradientLUQ(4)], ids=lambda q: type(q).__name__)
def test_gradient_quantizers_are_left_behind(gradient: Quantization) -> None:
    net = nn.Sequential(
        QConv2d(3, 4, 3, gradient_quantization=gradient, **binary(InputDoReFa(2, variant="paper"))),  # type: ignore[arg-type]
        gradient,
        nn.ReLU(),
    ).eval()
    x = torch.rand(2, 3, 6, 6)
    packed = deploy(net, x)
    assert verify(net, packed, x)
    assert torch.equal(deploy(net, x, partial=True).model(x), net(x))


class Doubled(InputLSQ):
    """Other codes than its range has."""

    def codes(self, x: Tensor) -> Tensor:
        return super().codes(2 * x)


class Renamed(InputLSQ):
    """The same codes."""


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("kind", [Doubled, Renamed])
def test_a_subclass_with_a_range_is_what_its_codes_are(kind: type[InputLSQ], offset: bool) -> None:
    quantizer = kind(3, offset=offset)
    net = nn.Sequential(
        QLinear(6, 4, input_quantization=quantizer, weight_quantization=WeightLSQ(3), gradient_cancellation_threshold=0)
    ).eval()
    x = torch.randn(20, 6)
    quantizer.fit_(x)
    found = can_deploy(net, x)
    assert bool(found) == (kind is Renamed)
    if found:
        assert verify(net, deploy(net, x), x)
    else:
        assert "computes neither what its arithmetic() says" in str(found)
