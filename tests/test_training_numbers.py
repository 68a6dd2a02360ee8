"""Numbers of a training step of low-bit layers, bit for bit: what they do not share with the quantizers' formulas."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

import oracle_gradients
from bitorch.layers import QConv1d, QConv2d, QConv3d, QConvTranspose2d, QLinear
from bitorch.layers.exact_transposed import swap_channels
from bitorch.quantizations import (
    GradientDoReFa,
    GradientSigned,
    InputDoReFa,
    InputLSQ,
    WeightDoReFa,
    WeightLSQ,
)
from bitorch.quantizations.base import codes_of
from oracle_gradients import Singles

Layer = QLinear | QConv1d | QConv2d | QConv3d | QConvTranspose2d


def paper(weight_bits: int, activation_bits: int, **more: Any) -> dict[str, Any]:
    """Arguments of a layer as the paper has it."""
    return {
        "weight_quantization": WeightDoReFa(weight_bits, variant="paper"),
        "input_quantization": InputDoReFa(activation_bits, variant="paper"),
        "gradient_cancellation_threshold": 0.0,
        **more,
    }


def per_channel(**more: Any) -> dict[str, Any]:
    return paper(1, 2, **more) | {"weight_quantization": WeightDoReFa(1, variant="paper", per_channel=True)}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def product(layer: Layer, x: Tensor, w: Tensor) -> Tensor:
    """The layer's product on tensors of any kind, without bias."""
    if isinstance(layer, QLinear):
        return F.linear(x, w)
    if isinstance(layer, QConvTranspose2d):
        assert isinstance(layer.padding, tuple)
        weight = swap_channels(w, layer.groups)
        return F.conv_transpose2d(
            x, weight, None, layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation
        )
    convolve: Any = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(layer.kernel_size)]
    result: Tensor = convolve(x, w, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return result


def plain_gradients(layer: Layer, x: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the codes of input and weight, and of the bias: PyTorch's own, of values c·s_w and codes q."""
    q = layer.input_quantization.codes(x).detach().requires_grad_()
    c, weight_scale = layer.weight_codes().to(q.dtype), layer.weight_scale()
    values = (c * weight_scale).requires_grad_()
    input_scale = layer.input_quantization.scale(x)
    of_input, of_weight = torch.autograd.grad(product(layer, q, values), (q, values), g)
    axes = [axis for axis in range(g.dim()) if axis != (g.dim() - 1 if isinstance(layer, QLinear) else 1)]
    return of_input, of_weight * input_scale, g.sum(axes)


def layer_gradients(layer: Layer, x: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """Gradients of input and weight where all quantizers pass them straight through, and of the bias."""
    layer.zero_grad()
    leaf = x.clone().requires_grad_()
    layer(leaf).backward(g)
    assert leaf.grad is not None
    assert layer.weight.grad is not None
    assert layer.bias is not None
    assert layer.bias.grad is not None
    return leaf.grad, _seen(layer, layer.weight.grad), layer.bias.grad


def _seen(layer: Layer, of_weight: Tensor) -> Tensor:
    return swap_channels(of_weight, layer.groups) if isinstance(layer, QConvTranspose2d) else of_weight


def forward_numbers(layer: Layer, x: Tensor) -> Tensor:
    """D·(s_x·s_w) + b, of 64-bit integers."""
    q, c = layer.input_quantization.codes(x).long(), layer.weight_codes().long()
    scale = layer.input_quantization.scale(x) * layer.weight_scale()
    channels = (-1,) if isinstance(layer, QLinear) else (-1, *[1] * (x.dim() - 2))
    d = product(layer, q, c).to(scale.dtype)
    y = d * (scale if scale.dim() == 0 else scale.reshape(channels))
    assert layer.bias is not None
    return y + layer.bias.detach().view(channels)


#: Straight-through quantizers everywhere (activations inside their range, 1-bit weights), so that the layer's gradients
#: are those of its product.
LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda **q: QLinear(12, 5, **q), (7, 12)),
    "tokens": (lambda **q: QLinear(12, 5, **q), (3, 4, 12)),
    "conv1d": (lambda **q: QConv1d(4, 6, 3, padding=1, bias=True, **q), (3, 4, 9)),
    "conv2d": (lambda **q: QConv2d(4, 6, 3, padding=1, stride=2, bias=True, **q), (3, 4, 8, 7)),
    "grouped": (lambda **q: QConv2d(4, 6, 3, groups=2, dilation=2, bias=True, **q), (3, 4, 8, 7)),
    "depthwise": (lambda **q: QConv2d(4, 4, 3, groups=4, padding=1, bias=True, **q), (3, 4, 8, 7)),
    "conv3d": (lambda **q: QConv3d(2, 3, 2, bias=True, **q), (2, 2, 4, 5, 4)),
    "transposed": (lambda **q: QConvTranspose2d(4, 6, 3, stride=2, padding=1, bias=True, **q), (3, 4, 5, 4)),
}
FLOAT_GRADIENTS = {"None": None, "32 bits": GradientDoReFa(32)}


def example(kind: str, arguments: dict[str, Any], *, channels_last: bool = False) -> tuple[Layer, Tensor, Tensor]:
    """Return a layer, an input in [0, 1], and a gradient of its output."""
    torch.manual_seed(1)
    make, shape = LAYERS[kind]
    layer = make(**arguments)
    torch.nn.init.normal_(layer.bias)
    x = torch.rand(shape, generator=seeded(2))
    if channels_last and len(shape) == 4:
        layer, x = layer.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        g = torch.empty_like(layer(x)).normal_(generator=seeded(3))
    return layer, x, g


@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("gradients", FLOAT_GRADIENTS)
@pytest.mark.parametrize("scales", [paper(1, 2), per_channel()], ids=["one scale", "per channel"])
@pytest.mark.parametrize("kind", LAYERS)
def test_float_gradients_are_those_of_the_values(
    kind: str, scales: dict[str, Any], gradients: str, channels_last: bool
) -> None:
    arguments = scales | {"gradient_quantization": FLOAT_GRADIENTS[gradients]}
    layer, x, g = example(kind, arguments, channels_last=channels_last)
    for ours, expected in zip(layer_gradients(layer, x, g), plain_gradients(layer, x, g), strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("gradient_bits", [None, 6], ids=["float gradients", "G6"])
@pytest.mark.parametrize("bits", [(1, 2), (8, 8)], ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_the_forward_pass_does_not_ask_for_gradients(
    kind: str, bits: tuple[int, int], gradient_bits: int | None
) -> None:
    gradients = None if gradient_bits is None else GradientDoReFa(gradient_bits)
    layer, x, _ = example(kind, paper(*bits, gradient_quantization=gradients))
    for mode in (torch.enable_grad(), torch.no_grad()):
        with mode:
            assert torch.equal(layer(x), forward_numbers(layer, x))


def test_learned_steps_with_float_gradients() -> None:
    """Their gradients are functions of that of the codes, and so stay what they are as well."""
    torch.manual_seed(4)
    layer = QConv2d(4, 6, 3, bias=True, weight_quantization=WeightLSQ(3), input_quantization=InputLSQ(3))
    x = torch.rand(2, 4, 6, 6)
    layer.input_quantization.fit_(x)  # type: ignore[operator]
    layer(x).square().sum().backward()
    gradients = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
    layer.zero_grad()
    y = layer.activation(x)
    values = layer.weight_quantization(layer.weight)
    q, c = layer.input_quantization.codes(x).detach(), layer.weight_codes().float()
    d = F.conv2d(q, c) * (layer.input_quantization.scale(x) * layer.weight_scale())
    g = 2 * (d + layer.bias.detach().view(-1, 1, 1))  # type: ignore[union-attr]
    F.conv2d(y, values, layer.bias).backward(g)
    for ours, parameter in zip(gradients, layer.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-5, atol=1e-5)


# Gradients in codes


def codes_of_gradient(layer: Layer, g: Tensor, seed: int) -> tuple[NDArray[np.int64], Singles]:
    """The integers behind g [B, …] and what one is worth in each sample, by the oracle's noise."""
    quantizer = layer.gradient_quantization
    assert isinstance(quantizer, GradientDoReFa | GradientSigned)
    (drawn,) = torch.randint(-(2**63), 2**63 - 1, (1,), generator=seeded(seed)).tolist()
    channels = g.dim() - 1 if isinstance(layer, QLinear) else 1
    noise = oracle_gradients.noise(tuple(g.shape), channels, oracle_gradients.key_of(drawn))
    signed = isinstance(quantizer, GradientSigned)
    codes = (oracle_gradients.signed_codes if signed else oracle_gradients.dorefa_codes)(
        g.numpy(), quantizer.bit_width, noise
    )
    n = 2 ** (quantizer.bit_width - 1) - 1 if signed else 2**quantizer.bit_width - 1
    return codes, oracle_gradients.maxima(g.numpy()) / np.float32(n)


def sums_for_input(layer: Layer, q: Tensor, c: Tensor, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """D', in float64, which holds the integers."""
    leaf = q.double().requires_grad_()
    (d,) = torch.autograd.grad(product(layer, leaf, c.double()), leaf, torch.from_numpy(codes).double())
    return d.numpy().astype(np.int64)


def sums_for_weight(layer: Layer, q: Tensor, c: Tensor, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """D_s for each sample, [B, C_out, …], likewise."""
    leaf = c.double().requires_grad_()
    sums = []
    for one, of_one in zip(q.double().split(1), torch.from_numpy(codes).double().split(1), strict=True):
        (d,) = torch.autograd.grad(product(layer, one, leaf), leaf, of_one)
        sums.append(d.numpy().astype(np.int64))
    return np.stack(sums)


def assert_on_codes(layer: Layer, x: Tensor, g: Tensor) -> None:
    """Gradients of input, weight and bias against integers: the first to the bit, the others within their bound."""
    quantizer: Any = layer.gradient_quantization
    quantizer.generator = seeded(11)
    of_input, of_weight, of_bias = layer_gradients(layer, x, g)
    codes, sigma = codes_of_gradient(layer, g, 11)
    q, c = layer.input_quantization.codes(x).detach(), layer.weight_codes()
    scale = np.float32(layer.weight_scale().item())
    expected = oracle_gradients.input_gradient(sums_for_input(layer, q, c, codes), sigma, scale)
    assert np.array_equal(of_input.numpy(), expected)
    scale = np.float32(layer.input_quantization.scale(x).item())
    expected = oracle_gradients.weight_gradient(sums_for_weight(layer, q, c, codes), sigma, scale)
    bound = oracle_gradients.largest_difference(sums_for_weight(layer, q.abs(), c, np.abs(codes)), sigma, scale)
    assert (np.abs(of_weight.double().numpy() - expected) <= bound).all()
    channels_first = np.moveaxis(codes, -1, 1) if isinstance(layer, QLinear) else codes
    magnitudes = np.abs(channels_first).reshape(*channels_first.shape[:2], -1).sum(-1)
    bound = oracle_gradients.largest_difference(magnitudes, sigma, np.float32(1))
    expected = oracle_gradients.bias_gradient(channels_first, sigma)
    assert (np.abs(of_bias.double().numpy() - expected) <= bound).all()


@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("gradients", [GradientDoReFa(6), GradientDoReFa(1), GradientSigned(4)], ids=repr)
@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_in_codes(kind: str, gradients: Any, channels_last: bool) -> None:
    arguments = paper(1, 2, gradient_quantization=copy.copy(gradients))
    assert_on_codes(*example(kind, arguments, channels_last=channels_last))


@pytest.mark.parametrize("gradient_bits", [2, 3, 4, 5, 7, 8])
@pytest.mark.parametrize("weight_bits", [1, 8])
def test_every_number_of_bits(weight_bits: int, gradient_bits: int) -> None:
    """The input's gradient is exact whatever the bits are; 8-bit weights take digits on the way back, too."""
    weight = WeightDoReFa(weight_bits)  # its gradient passes
    arguments = paper(1, 8, gradient_quantization=GradientDoReFa(gradient_bits)) | {"weight_quantization": weight}
    torch.manual_seed(5)
    layer = QConv2d(3, 40, 3, bias=True, **arguments)
    x = torch.rand(2, 3, 5, 6, generator=seeded(6))
    assert_on_codes(layer, x, torch.randn(2, 40, 3, 4, generator=seeded(7)))


def test_sums_beyond_float32() -> None:
    """All codes at an end of their grid, and of one sign in the products: sums up to 23 times what float32 holds."""
    layer = QLinear(2, 6000, **paper(1, 1, gradient_quantization=GradientDoReFa(8)) | {"weight_quantization": Ends()})
    x = torch.rand(3, 2, generator=seeded(8))
    g = torch.randn(3, 6000, generator=seeded(9)).sign_()
    g[0] = layer.weight[:, 0].detach().sign()
    assert_on_codes(layer, x, g)


@pytest.mark.parametrize("exponent", [-121, -119, -117, -90, 110, 125])
def test_tiny_and_huge_gradients(exponent: int) -> None:
    """Products that are subnormal, or nearly infinite, are rounded as they stand; what is below 2^-120 is zero."""
    layer = QLinear(3, 4, **paper(1, 2, gradient_quantization=GradientDoReFa(8)))
    x = torch.rand(4, 3, generator=seeded(12))
    g = torch.randn(4, 4, generator=seeded(13)).clamp_(-1, 1) * 2.0**exponent
    assert_on_codes(layer, x, g)


class Ends(WeightDoReFa):
    """8-bit weights at both ends of the grid, with the gradient passed on."""

    name = "ends"

    def __init__(self) -> None:
        super().__init__(8)

    def codes(self, x: Tensor) -> Tensor:
        return codes_of(x, torch.where(x.detach() > 0, 255.0, -253.0))
