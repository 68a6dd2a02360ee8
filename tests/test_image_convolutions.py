"""A float convolution of images, by kernels for few channels, gives the numbers of nn.Conv2d to rounding."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch import fuse_training_, unfuse_training_
from bitorch.layers import QLinear
from bitorch.layers.few_channels import FewChannelsConv2d, few_channels_obstacle
from bitorch.quantizations import InputDoReFa, WeightDoReFa

pytest.importorskip("bitorch_runtime")


@pytest.fixture(autouse=True)
def _any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The portable kernels give the same bits as the fast ones."""
    monkeypatch.setattr("bitorch.layers.few_channels.machine_obstacle", lambda: None)


def convolution(*arguments: Any, **more: Any) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(*arguments, **more)


def taken(conv: nn.Conv2d) -> nn.Conv2d:
    other = copy.deepcopy(conv)
    other.__class__ = FewChannelsConv2d
    return other


def images(*shape: int, channels_last: bool = False) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


def step(conv: nn.Conv2d, x: Tensor) -> dict[str, Tensor]:
    conv.zero_grad()
    y = conv(x)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(2)))
    return {"y": y.detach(), **{name: p.grad for name, p in conv.named_parameters() if p.grad is not None}}


def computes(conv: nn.Conv2d, x: Tensor) -> str:
    """The name of what made y."""
    return str(conv(x).grad_fn.name())


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("conv", "shape"),
    [
        (convolution(3, 48, 5), (3, 3, 12, 10)),
        (convolution(1, 20, 3, padding=1, bias=False), (2, 1, 7, 9)),
        (convolution(3, 64, 7, stride=2, padding=3), (1, 3, 17, 16)),
        (convolution(4, 33, (3, 2), stride=(2, 1), padding=(0, 2)), (2, 4, 9, 5)),
        (convolution(2, 16, 6), (2, 2, 6, 6)),
    ],
)
def test_a_step(conv: nn.Conv2d, shape: tuple[int, ...], channels_last: bool) -> None:
    x = images(*shape, channels_last=channels_last)
    other = taken(conv)
    assert computes(other, x) == "_ConvolutionBackward"
    found, expected = step(other, x), step(conv, x)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=2e-5, msg=name)
    assert found["y"].is_contiguous(memory_format=torch.channels_last) == channels_last or 1 in (
        shape[1],
        found["y"].shape[2],
    )
    torch.set_num_threads(2)
    try:
        again = step(other, x)
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(again[name], found[name]) for name in found)


def test_what_pytorch_computes() -> None:
    conv = convolution(3, 16, 3, padding=1)
    other, x = taken(conv), images(2, 3, 8, 8)
    assert computes(other, x.clone().requires_grad_()) != "_ConvolutionBackward"
    assert torch.equal(other.eval()(x), conv(x))
    other.train()
    with torch.autocast("cpu"):
        assert torch.equal(other(x), conv(x))
    assert torch.equal(other(x[0]), conv(x[0]))
    assert other(x[:0]).shape == (0, 16, 8, 8)
    for wrong in (images(2, 4, 8, 8), images(2, 3, 8)):
        with pytest.raises(RuntimeError, match="input"):
            other(wrong)
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        taken(convolution(3, 16, 5))(images(1, 3, 4, 9))
    with torch.no_grad():
        assert other(x).grad_fn is None
    assert torch.equal(other.double()(x.double()), conv.double()(x.double()))
    torch.testing.assert_close(
        torch.compile(taken(convolution(3, 16, 3)), backend="eager")(x), convolution(3, 16, 3)(x)
    )


def test_frozen_weights_and_second_gradients() -> None:
    conv, x = taken(convolution(3, 16, 3)), images(2, 3, 8, 8)
    conv.weight.requires_grad_(False)
    conv(x).sum().backward()
    assert conv.weight.grad is None
    assert conv.bias is not None
    torch.testing.assert_close(conv.bias.grad, torch.full([16], 72.0))
    conv.weight.requires_grad_(True)
    (gradient,) = torch.autograd.grad(conv(x).square().sum(), conv.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_which_convolutions_it_is_for() -> None:
    for conv, why in [
        (nn.Conv2d(5, 16, 3), "it has more than 4 input channels"),
        (nn.Conv2d(3, 15, 3), "it has fewer than 16 output channels"),
        (nn.Conv2d(4, 16, 3, groups=2), "it has groups or a dilation"),
        (nn.Conv2d(3, 16, 3, dilation=2), "it has groups or a dilation"),
        (nn.Conv2d(3, 16, 3, padding="same"), "its padding is 'same'"),
        (nn.Conv2d(3, 16, 3, padding=1, padding_mode="reflect"), "its padding is 'reflect'"),
        (nn.Conv2d(3, 16, 3, padding=1), None),
    ]:
        assert few_channels_obstacle(conv) == why


def test_fuse_training_takes_and_gives_back() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.Flatten())
    other = copy.deepcopy(model)
    table = fuse_training_(other)
    assert table.few_channels == ("0",)
    assert "0: a float convolution of images, by kernels for few channels" in str(table)
    assert [type(m).__name__ for m in other][::2] == ["FewChannelsConv2d", "Conv2d"]
    assert fuse_training_(other).few_channels == ("0",)  # again
    x = images(2, 3, 8, 8)
    torch.testing.assert_close(copy.deepcopy(other)(x), model(x))
    layer = QLinear(16 * 36, 3, input_quantization=InputDoReFa(2), weight_quantization=WeightDoReFa(1))
    packed = bitorch.deploy(other.append(layer).eval(), x)
    torch.testing.assert_close(packed(x), other(x), rtol=1e-5, atol=1e-5)
    unfuse_training_(other)
    assert [type(m) for m in other][:-1] == [type(m) for m in model]


def test_the_operators_and_their_fakes() -> None:
    x, weight, bias = images(2, 3, 8, 8, channels_last=True), images(16, 3, 3, 3), torch.rand(16)
    call = (x, weight, bias, [2, 1], [1, 0])
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.bitorch.few_channels.default, call, test_utils=checks)
    y = torch.ops.bitorch.few_channels(*call)
    torch.testing.assert_close(y, F.conv2d(x, weight, bias, (2, 1), (1, 0)))
    for has_bias in (True, False):
        back = (torch.rand(y.shape), x, [3, 3], has_bias, [2, 1], [1, 0])
        torch.library.opcheck(torch.ops.bitorch.few_channels_backward.default, back, test_utils=checks)


def test_memory_of_parameters_can_still_be_taken_back() -> None:
    """As FSDP does it after each call; PyTorch fixes the size of what NumPy has seen."""
    for conv in (taken(convolution(3, 16, 3)), taken(convolution(1, 16, 1))):
        step(conv, images(2, conv.in_channels, 8, 8))
        assert all(p.untyped_storage().resizable() for p in conv.parameters())
