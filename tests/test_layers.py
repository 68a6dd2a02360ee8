"""Quantized layers: forward bit for bit against int64, backward against float64, and all that a PyTorch layer does."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import oracle
from bitorch.layers import (
    AbsorbedReLU,
    QActivation,
    QConv1d,
    QConv1d_NoAct,
    QConv1dBase,
    QConv2d,
    QConv2d_NoAct,
    QConv2dBase,
    QConv3d,
    QConv3d_NoAct,
    QConv3dBase,
    QLinear,
    QLinearBase,
)
from bitorch.layers.config import config
from bitorch.quantizations import (
    ApproxSign,
    GradientDoReFa,
    Identity,
    InputDoReFa,
    ProgressiveSign,
    Quantization,
    Sign,
    SteHeaviside,
    SwishSign,
    WeightDoReFa,
)

QConv = QConv1d | QConv2d | QConv3d
CONVS: dict[int, type[QConv]] = {1: QConv1d, 2: QConv2d, 3: QConv3d}
FLOAT_CONVS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NO_ACT = {1: QConv1d_NoAct, 2: QConv2d_NoAct, 3: QConv3d_NoAct}
FUNCTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
SIGNS: tuple[type[Quantization], ...] = (Sign, ApproxSign, SwishSign, SteHeaviside)


def paper(weight_bits: int, activation_bits: int, gradient_bits: int | None = None) -> dict[str, Any]:
    """Arguments of a layer as the paper has it."""
    return {
        "weight_quantization": WeightDoReFa(weight_bits, variant="paper"),
        "input_quantization": InputDoReFa(activation_bits, variant="paper"),
        "gradient_quantization": None if gradient_bits is None else GradientDoReFa(gradient_bits, noise=False),
        "gradient_cancellation_threshold": 0.0,
    }


def activations(*shape: int, seed: int = 0) -> Tensor:
    """Numbers on both sides of [0, 1]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 0.5


def with_random_bias(layer: Any) -> Any:
    """Return the layer; convolutions start with a bias of zeros, which would hide it."""
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer


def integers(codes: Tensor) -> oracle.Integers:
    """Codes as int64; they have to be integers."""
    assert torch.equal(codes, codes.round())
    return codes.detach().numpy().astype(np.int64)


def product_of_scales(layer: Any) -> np.float32:
    """s_x·s_w, both rounded to float32 first, and so their product."""
    weight, activation = layer.weight_quantization, layer.input_quantization
    if isinstance(weight, WeightDoReFa) and weight.variant == "paper" and weight.bit_width == 1:
        weight_scale = layer.weight_scale().numpy()[()]  # the order of a mean's sum is free
        expected = oracle.weight_scale(layer.weight.detach().double().numpy(), 1)
        assert weight_scale == pytest.approx(expected, rel=1e-6)
    else:
        weight_scale = np.float32(1 / weight.max_code)
    product: np.float32 = np.float32(1 / activation.max_code) * weight_scale
    return product


def borders_of(layer: Any) -> oracle.Borders:
    if layer.padding == "valid":
        return [(0, 0)] * len(layer.kernel_size)
    if layer.padding == "same":
        return oracle.same_borders(layer.kernel_size, layer.dilation)
    return [(p, p) for p in layer.padding]


def accumulator(layer: Any, x: Tensor) -> oracle.Integers:
    """D = Σ c·q in int64, for batched x."""
    q, c = integers(layer.input_quantization.codes(x)), layer.weight_codes().numpy().astype(np.int64)
    if isinstance(layer, QLinear):
        return oracle.linear(q, c)
    pad_code = round(layer.pad_value * layer.input_quantization.max_code)
    q = oracle.pad(q, borders_of(layer), pad_code, layer.padding_mode)
    return oracle.convolve(q, c, layer.stride, layer.dilation, layer.groups)


def expected_output(layer: Any, x: Tensor) -> Tensor:
    """float32(D)·(s_x·s_w) + b: one rounding for each of the four operations."""
    y = accumulator(layer, x).astype(np.float32) * product_of_scales(layer)
    if layer.bias is not None:
        bias = layer.bias.detach().numpy()
        y = y + (bias if isinstance(layer, QLinear) else bias.reshape(-1, *[1] * len(layer.kernel_size)))
    return torch.from_numpy(y)


def assert_bit_for_bit(layer: Any, x: Tensor) -> None:
    """The layer's output equals the int64 reference in every bit, with and without autograd."""
    expected = expected_output(layer, x)
    assert expected.dtype == torch.float32
    output = layer(x)
    assert output.dtype == torch.float32
    assert torch.equal(output.detach(), expected)
    with torch.no_grad():
        assert torch.equal(layer(x), expected)


# The oracle, against PyTorch in float64, which is exact on small integers


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_integer_convolution_of_the_oracle(dims: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randint(-9, 9, (2, 4, *[7, 8, 6][:dims]), generator=generator)
    c = torch.randint(-9, 9, (6, 2, *[3, 2, 2][:dims]), generator=generator)
    stride, dilation = [2, 1, 3][:dims], [1, 2, 2][:dims]
    expected = FUNCTIONS[dims](q.double(), c.double(), None, stride, 0, dilation, 2)
    assert np.array_equal(oracle.convolve(q.numpy(), c.numpy(), stride, dilation, 2), expected.numpy())


# Forward, bit for bit

BITS = st.integers(1, 8)


@st.composite
def weight_quantizers(draw: st.DrawFn) -> Quantization:
    if draw(st.integers(0, 3)):
        return WeightDoReFa(draw(BITS), variant=draw(st.sampled_from(["paper", "bitorch"])))
    return draw(st.sampled_from(SIGNS))()


@st.composite
def input_quantizers(draw: st.DrawFn) -> tuple[Quantization, float | None]:
    """A quantizer and a pad_value on its grid."""
    if draw(st.integers(0, 3)):
        bits = draw(BITS)
        n = 2**bits - 1
        quantizer = InputDoReFa(bits, variant=draw(st.sampled_from(["paper", "bitorch"])))
        return quantizer, draw(st.none() | st.integers(-n, 2 * n).map(lambda code: code / n))
    return draw(st.sampled_from(SIGNS))(), draw(st.sampled_from([None, -1.0, 0.0, 1.0]))


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[QConv, Tensor]:
    """A convolution of any geometry, and a batch that fits."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    dims, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    channels = groups * draw(st.integers(1, 3 if dims < 3 else 2))
    outputs = groups * draw(st.integers(1, 2))
    if draw(st.booleans()):
        groups, outputs = channels, channels * draw(st.integers(1, 2))  # depthwise

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    kernel, dilation = each(1, 3), each(1, 2)
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding: Any = draw(st.sampled_from(["same", "valid", "int", "tuple"]))
    stride: Any = (1,) * dims if padding == "same" else each(1, 3)
    if padding == "int":
        padding = draw(st.integers(0, 2))
    elif padding == "tuple":
        padding = each(0, 2)
    sizes = [span + draw(st.integers(0, 4)) for span in spans]
    mode: Any = draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]))
    if mode in ("reflect", "circular"):
        sizes = [max(size, span, 3) for size, span in zip(sizes, spans, strict=True)]  # borders narrower than the image
    batch = draw(st.sampled_from([0, 1, 3] if mode == "zeros" else [1, 3]))
    quantizer, pad_value = draw(input_quantizers())
    layer = CONVS[dims](
        channels,
        outputs,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        bias=draw(st.booleans()),
        padding_mode=mode,
        weight_quantization=draw(weight_quantizers()),
        input_quantization=quantizer,
        pad_value=pad_value,
    )
    x = torch.rand(batch, channels, *sizes) * 2 - 0.5
    if dims > 1 and draw(st.booleans()):
        x = x.contiguous(memory_format=torch.channels_last if dims == 2 else torch.channels_last_3d)
    return with_random_bias(layer), x


def check_convolution(case: tuple[QConv, Tensor]) -> None:
    layer, x = case
    assert_bit_for_bit(layer, x)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            assert torch.equal(layer(x), expected_output(layer, x))
    if len(x):
        assert torch.equal(layer(x[0]), expected_output(layer, x[:1])[0])


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_convolutions(case: tuple[QConv, Tensor]) -> None:
    check_convolution(case)


@pytest.mark.slow
@settings(max_examples=2500, deadline=None)
@given(convolutions())
def test_many_convolutions(case: tuple[QConv, Tensor]) -> None:
    check_convolution(case)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from([(), (0,), (1,), (3,), (2, 3), (2, 1, 3)]),
    st.booleans(),
    weight_quantizers(),
    input_quantizers(),
    st.integers(0, 2**31),
)
def test_linear_layers(
    inputs: int,
    outputs: int,
    batch: tuple[int, ...],
    bias: bool,
    weight: Quantization,
    activation: tuple[Quantization, float | None],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    layer = QLinear(inputs, outputs, bias, weight_quantization=weight, input_quantization=activation[0])
    x = torch.rand(*batch, inputs) * 2 - 0.5
    assert_bit_for_bit(layer, x)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            assert torch.equal(layer(x), expected_output(layer, x))


@pytest.mark.parametrize("weight_bits", range(1, 9))
@pytest.mark.parametrize("activation_bits", range(1, 9))
def test_all_bits(weight_bits: int, activation_bits: int) -> None:
    torch.manual_seed(0)
    bits = paper(weight_bits, activation_bits)
    assert_bit_for_bit(QLinear(50, 4, **bits), activations(3, 50))
    assert_bit_for_bit(with_random_bias(QConv2d(5, 4, 3, 2, 1, bias=True, **bits)), activations(2, 5, 7, 7))


# One width for each base of the digits (none, 16, 8, 4, 2); the last is the widest that is allowed.
@pytest.mark.parametrize("inputs", [258, 259, 300, 8225, 17_000, 32_900, 33_025])
def test_wide_layers_are_rounded_once(inputs: int) -> None:
    torch.manual_seed(inputs)
    layer = QLinear(inputs, 30, **paper(8, 8))
    with torch.no_grad():
        layer.weight[0] = 1.0  # the largest sum
        layer.weight[1:25].uniform_(0.2, 1.0)  # large sums with low bits set
    x = torch.cat([torch.ones(1, inputs), activations(2, inputs), torch.rand(8, inputs) / 2 + 0.5])
    d = accumulator(layer, x)
    assert d[0, 0] == inputs * 255 * 255
    assert_bit_for_bit(layer, x)
    assert (d[0, 0] < 2**24) == (inputs == 258)
    if inputs > 300:
        assert (d.astype(np.float32).astype(np.int64) != d).any()  # so the rounding is put to the test


def test_a_wide_convolution_is_rounded_once() -> None:
    torch.manual_seed(1)
    layer = with_random_bias(QConv2d(130, 2, 3, padding=1, bias=True, **paper(8, 8)))
    with torch.no_grad():
        layer.weight.uniform_(0.2, 1.0)
    assert_bit_for_bit(layer, torch.rand(2, 130, 4, 4) / 2 + 0.5)


@pytest.mark.parametrize(
    ("weight_bits", "activation_bits", "widest"),
    [(8, 8, 33_025), (1, 8, 65_793), (8, 1, 8_421_504), (1, 1, 2**24 - 1), (2, 2, (2**24 - 1) // 3)],
)
def test_widest_layers(weight_bits: int, activation_bits: int, widest: int) -> None:
    """The limit of int32 sums, and of float32 sums for the smallest digits."""
    bits = paper(weight_bits, activation_bits)
    QLinear(widest, 1, device="meta", **bits)
    with pytest.raises(ValueError, match=rf"{widest + 1} inputs per output is too wide.*allow at most {widest} inputs"):
        QLinear(widest + 1, 1, device="meta", **bits)
    QLinear(widest + 1, 1, device="meta", exact=False, **bits)
    QConv1d(widest, 1, 1, device="meta", **bits)
    with pytest.raises(ValueError, match=f"allow at most {widest} inputs"):
        QConv1d(widest + 1, 1, 1, device="meta", **bits)
    QConv1d(2 * widest, 2, 1, groups=2, device="meta", **bits)


def test_too_wide_counts_the_kernel_and_the_border() -> None:
    with pytest.raises(ValueError, match=r"72000 inputs per output.*Use fewer bits, or more groups, or exact=False"):
        QConv2d(8000, 1, 3, device="meta", **paper(8, 8))
    with pytest.raises(ValueError, match="activation codes up to 510 allow at most 16512 inputs"):
        QConv1d(16_513, 1, 1, device="meta", pad_value=2.0, **paper(8, 8))


@pytest.mark.parametrize("weight_bits", [1, 2, 8])
def test_the_widest_sum_of_codes_is_exact(weight_bits: int) -> None:
    """All codes at their extreme, and one input off it, so that a sum that is off by one shows."""
    n = 2**weight_bits - 1
    inputs = {1: 65_793, 2: 43_862 // 2, 8: 33_025}[weight_bits]
    layer = QLinear(inputs, 2, bias=False, **paper(weight_bits, 8))
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.weight[1] = -1.0
    x = torch.ones(2, inputs)
    x[1, 7] = 0.0
    d = accumulator(layer, x)
    assert d.tolist() == [[inputs * 255 * n, -inputs * 255 * n], [(inputs - 1) * 255 * n, -(inputs - 1) * 255 * n]]
    assert_bit_for_bit(layer, x)


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    layer, x = QConv2d(16, 8, 3, padding=1, **paper(3, 3)), activations(4, 16, 12, 12)
    threads = torch.get_num_threads()
    try:
        results = []
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            results.append(layer(x))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_input(dtype: torch.dtype) -> None:
    """Half-precision activations, as autocast's other layers make them, are quantized in float32."""
    layer, x = QConv2d(3, 4, 3, padding=1, **paper(2, 4)), activations(2, 3, 6, 6).to(dtype)
    with torch.autocast("cpu", dtype=dtype):
        output = layer(x)
    assert torch.equal(output, expected_output(layer, x.float()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bits", [1, 3])
def test_low_precision_parameters(dtype: torch.dtype, bits: int) -> None:
    torch.manual_seed(3)
    for layer, x in (
        (QLinear(20, 4, **paper(bits, 3)).to(dtype), activations(5, 20).to(dtype)),
        (QConv2d(4, 3, 3, bias=True, **paper(bits, 3)).to(dtype), activations(2, 4, 5, 5).to(dtype)),
    ):
        single = copy.deepcopy(layer).float()
        output = layer(x)
        assert output.dtype == dtype
        assert torch.equal(output, expected_output(single, x.float()).to(dtype))
        output.sum().backward()
        assert layer.weight.grad is not None
        assert layer.weight.grad.dtype == dtype
        assert layer.weight.grad.isfinite().all()


@pytest.mark.parametrize("bits", [1, 3])
def test_double_precision(bits: int) -> None:
    layer, x = QLinear(20, 4, **paper(bits, 3)).double(), activations(5, 20).double()
    codes = oracle.weight_codes(layer.weight.detach().numpy(), bits)
    d = oracle.input_codes(x.numpy(), 3) @ codes.T
    expected = d * (oracle.weight_scale(layer.weight.detach().numpy(), bits) / 7) + layer.bias.detach().numpy()
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-13)


def test_exact_false_takes_the_precision_of_autocast() -> None:
    for layer, x in (
        (QLinear(20, 4, exact=False, **paper(2, 3)), activations(5, 20)),
        (QConv2d(4, 3, 3, padding=1, bias=True, exact=False, **paper(2, 3)), activations(2, 4, 5, 5)),
    ):
        torch.testing.assert_close(layer(x).detach(), expected_output(layer, x))
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", dtype=dtype):
                output = layer(x)
            assert output.dtype == dtype
            torch.testing.assert_close(output.float(), expected_output(layer, x), rtol=0.02, atol=0.02)
            output.float().sum().backward()


@pytest.mark.parametrize(
    ("weight", "activation"),
    [
        (WeightDoReFa(32), InputDoReFa(32)),
        (WeightDoReFa(32), InputDoReFa(2)),
        (WeightDoReFa(2, variant="paper"), InputDoReFa(32)),
        (Identity(), Identity()),
        (Sign(), ProgressiveSign()),
    ],
    ids=repr,
)
def test_without_a_grid_the_layer_computes_on_values(weight: Quantization, activation: Quantization) -> None:
    linear = QLinear(20, 4, weight_quantization=weight, input_quantization=activation)
    x = activations(5, 20)
    torch.testing.assert_close(linear(x), F.linear(activation(x), weight(linear.weight), linear.bias))
    conv = QConv1d(4, 3, 3, padding=2, weight_quantization=weight, input_quantization=activation, pad_value=0.25)
    x = activations(2, 4, 9)
    torch.testing.assert_close(conv(x), F.conv1d(F.pad(activation(x), (2, 2), value=0.25), weight(conv.weight)))


def test_progressive_sign_becomes_exact_in_eval_mode() -> None:
    layer = QLinear(10, 3, input_quantization=ProgressiveSign(), weight_quantization=WeightDoReFa(2))
    x = torch.randn(4, 10)
    torch.testing.assert_close(layer(x), F.linear(F.hardtanh(x), layer.weight_quantization(layer.weight), layer.bias))
    assert_bit_for_bit(layer.eval(), x)


# Padding


@pytest.mark.parametrize("cls", SIGNS)
@pytest.mark.parametrize("pad_value", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_padding_of_signs(cls: type[Quantization], pad_value: float, dims: int) -> None:
    torch.manual_seed(4)
    layer = CONVS[dims](2, 3, 2, padding=1, weight_quantization=cls(), input_quantization=cls(), pad_value=pad_value)
    assert layer.pad_value == layer._pad_value == pad_value
    assert_bit_for_bit(layer, activations(2, 2, *[4] * dims))


def test_default_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero is a level of unsigned grids, and code 0; signs have BITorch's −1."""
    assert QConv2d(1, 1, 3, input_quantization=InputDoReFa(2)).pad_value == 0
    assert QConv2d(1, 1, 3, input_quantization=Sign()).pad_value == -1
    assert QConv2d_NoAct(1, 1, 3).pad_value == -1
    assert QConv2d_NoAct(1, 1, 3, pad_value=0).pad_value == 0
    monkeypatch.setattr(config, "padding_value", 1.0)
    assert QConv2d(1, 1, 3, input_quantization=InputDoReFa(2)).pad_value == 0
    assert QConv2d(1, 1, 3, input_quantization=Sign()).pad_value == 1
    assert QConv2d_NoAct(1, 1, 3).pad_value == 1


@pytest.mark.parametrize(
    ("bits", "pad_value", "nearest"), [(2, 0.5, r"0\.666667"), (1, 0.25, "0"), (3, -0.5, r"-0\.571429")]
)
def test_pad_value_off_the_grid(bits: int, pad_value: float, nearest: str) -> None:
    with pytest.raises(ValueError, match=rf"pad_value={pad_value} is no multiple of 1/{2**bits - 1}.*is {nearest}$"):
        QConv2d(1, 1, 3, padding=1, pad_value=pad_value, **paper(2, bits))
    with pytest.raises(ValueError, match=r"pad_value=0\.3 is no"):
        QConv2d(1, 1, 3, padding=1, pad_value=0.3, input_quantization=Sign())


def test_pad_value_off_the_grid_is_fine_without_codes() -> None:
    assert QConv2d(1, 1, 3, padding=1, pad_value=0.3, exact=False, **paper(2, 2)).pad_value == 0.3


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_padding_modes(mode: Any, dims: int) -> None:
    torch.manual_seed(5)
    sizes = [6, 5, 7][:dims]
    layer = CONVS[dims](2, 2, 3, padding=2, padding_mode=mode, **paper(2, 2))
    assert_bit_for_bit(layer, activations(2, 2, *sizes))
    # and the same as PyTorch's own layer on the quantized values
    float_layer = FLOAT_CONVS[dims](2, 2, 3, padding=2, padding_mode=mode, bias=False)
    float_layer.weight = nn.Parameter(layer.weight_quantization(layer.weight).detach())
    x = activations(2, 2, *sizes)
    torch.testing.assert_close(layer(x), float_layer(layer.activation(x)))


# Backward


def reference_gradients(
    layer: Any, x: Tensor, g: Tensor, gradient_bits: int | None
) -> tuple[oracle.Floats, oracle.Floats, oracle.Floats | None]:
    """Gradients of x, weight and bias in float64: eq. 12 on g, PyTorch's product, then each quantizer's own."""
    weight_bits, activation_bits = layer.weight_quantization.bit_width, layer.input_quantization.bit_width
    x64, w64, g64 = (t.detach().double().numpy() for t in (x, layer.weight, g))
    x_q = torch.from_numpy(oracle.input_value(x64, activation_bits)).requires_grad_()
    w_q = torch.from_numpy(oracle.weight_value(w64, weight_bits)).requires_grad_()
    bias = None if layer.bias is None else layer.bias.detach().double().requires_grad_()
    if isinstance(layer, QLinear):
        y = F.linear(x_q, w_q, bias)
    else:
        widths = [width for border in reversed(borders_of(layer)) for width in border]
        padded = F.pad(x_q, widths, value=layer.pad_value)
        y = FUNCTIONS[len(layer.kernel_size)](padded, w_q, bias, layer.stride, 0, layer.dilation, layer.groups)
    y.backward(torch.from_numpy(g64 if gradient_bits is None else oracle.gradient_value(g64, gradient_bits)))
    assert x_q.grad is not None
    assert w_q.grad is not None
    return (
        oracle.input_gradient(x64, x_q.grad.numpy()),
        oracle.weight_gradient(w64, weight_bits, w_q.grad.numpy()),
        None if bias is None or bias.grad is None else bias.grad.numpy(),
    )


def assert_gradients(layer: Any, x: Tensor, g: Tensor | None = None, gradient_bits: int | None = None) -> None:
    """The layer's gradients equal the reference's; without g, those of y.sum(), whose gradient is an expanded one."""
    layer.zero_grad()
    leaf = x.detach().requires_grad_()
    y = layer(leaf)
    if g is None:
        y.sum().backward()
        g = torch.ones_like(y)
    else:
        y.backward(g)
    expected = reference_gradients(layer, x, g, gradient_bits)
    bias_gradient = None if layer.bias is None else layer.bias.grad
    for gradient, reference in zip((leaf.grad, layer.weight.grad, bias_gradient), expected, strict=True):
        if reference is not None:
            assert gradient is not None
            size = max(np.max(np.abs(reference), initial=0.0), 1e-30)
            np.testing.assert_allclose(gradient.numpy(), reference, rtol=1e-4, atol=1e-5 * size)


@pytest.mark.parametrize(("weight_bits", "activation_bits"), [(1, 1), (1, 2), (2, 3), (4, 4), (8, 8)])
@pytest.mark.parametrize("gradient_bits", [None, 2, 6])
@pytest.mark.parametrize("batch", [(), (6,), (2, 3)], ids=str)
def test_gradients_of_linear_layers(
    weight_bits: int, activation_bits: int, gradient_bits: int | None, batch: tuple[int, ...]
) -> None:
    torch.manual_seed(6)
    layer = QLinear(12, 5, **paper(weight_bits, activation_bits, gradient_bits))
    x, g = activations(*batch, 12), torch.randn(*batch, 5)
    if not batch:  # one sample, whose maximum is over all of it
        if gradient_bits is not None:
            g = torch.from_numpy(oracle.gradient_value(g[None].double().numpy(), gradient_bits)[0]).float()
            gradient_bits = None
        layer.gradient_quantization = None
    assert_gradients(layer, x, g, gradient_bits)
    assert_gradients(layer, x, None, gradient_bits)


GEOMETRIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "bias": {"bias": True},
    "strided": {"stride": 2, "padding": 1},
    "dilated": {"dilation": 2, "padding": 2},
    "same": {"padding": "same", "bias": True},
    "grouped": {"groups": 2, "padding": 1, "bias": True},
    "depthwise": {"groups": 4, "padding": 1},
    "pad of one": {"padding": 1, "pad_value": 1.0},
}


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(("weight_bits", "activation_bits", "gradient_bits"), [(1, 2, 4), (3, 2, None), (8, 8, 6)])
def test_gradients_of_convolutions(
    geometry: str, dims: int, weight_bits: int, activation_bits: int, gradient_bits: int | None
) -> None:
    torch.manual_seed(7)
    layer = with_random_bias(
        CONVS[dims](4, 4, 3, **GEOMETRIES[geometry], **paper(weight_bits, activation_bits, gradient_bits))
    )
    x = activations(3, 4, *[7, 6, 5][:dims])
    assert_gradients(layer, x, torch.randn(layer(x).shape), gradient_bits)
    assert_gradients(layer, x, None, gradient_bits)


@pytest.mark.parametrize("gradient_bits", [None, 4])
def test_gradients_in_any_memory_order(gradient_bits: int | None) -> None:
    torch.manual_seed(8)
    layer = QConv2d(4, 6, 3, padding=1, bias=True, **paper(2, 2, gradient_bits))
    x, g = activations(2, 4, 5, 6), torch.randn(2, 6, 5, 6)
    channels_last = torch.channels_last
    assert_gradients(layer, x.contiguous(memory_format=channels_last), g, gradient_bits)
    assert_gradients(layer, x, g.contiguous(memory_format=channels_last), gradient_bits)
    assert_gradients(layer, x, torch.randn(2, 6, 6, 5).transpose(2, 3), gradient_bits)
    assert_gradients(layer, x, torch.randn(2, 6, 1, 1).expand(2, 6, 5, 6), gradient_bits)
    assert_gradients(layer, activations(2, 4, 6, 5).transpose(2, 3), g, gradient_bits)
    linear = QLinear(8, 4, **paper(2, 2, gradient_bits))
    assert_gradients(linear, activations(8, 5).t(), torch.randn(4, 5).t(), gradient_bits)
    assert_gradients(linear, activations(5, 8), torch.randn(5, 1).expand(5, 4), gradient_bits)
    assert_gradients(linear, activations(3, 2, 8).transpose(0, 1), torch.randn(3, 2, 4).transpose(0, 1), gradient_bits)


def test_channels_last_weights_and_layout() -> None:
    layer: Any = QConv2d(4, 8, 3, padding=1, **paper(2, 2))
    layer.to(memory_format=torch.channels_last)
    x = activations(2, 4, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = layer(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    y.square().sum().backward()
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(y.detach(), expected_output(layer, x.detach()))


def test_gradients_of_a_wide_layer() -> None:
    torch.manual_seed(9)
    assert_gradients(QLinear(400, 3, **paper(8, 8)), activations(4, 400), torch.randn(4, 3))


def test_the_gradient_quantizer_sits_on_the_output() -> None:
    """All gradients, the bias's too, see the quantized gradient; one bit makes that obvious."""
    layer = QLinear(3, 2, **paper(1, 2, 1))
    x = activations(4, 3)
    g = torch.tensor([[1.0, -0.2], [0.5, 0.1], [-2.0, 2.0], [0.0, 0.0]])
    layer(x).backward(g)
    quantized = torch.tensor([[1.0, -1.0], [0.5, 0.5], [-2.0, 2.0], [0.0, 0.0]])
    assert layer.bias.grad is not None
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.bias.grad, quantized.sum(0))
    torch.testing.assert_close(layer.weight.grad, quantized.t() @ layer.activation(x))


def test_unbatched_input_is_one_sample_of_the_gradient_quantizer() -> None:
    torch.manual_seed(10)
    for layer, x, g in (
        (QLinear(6, 4, **paper(2, 2, 2)), activations(6), torch.randn(4)),
        (QConv2d(2, 3, 3, **paper(2, 2, 2)), activations(2, 5, 5), torch.randn(3, 3, 3)),
        (QConv1d(2, 3, 3, **paper(2, 2, 2)), activations(2, 5), torch.randn(3, 3)),
    ):
        gradients = []
        for batched in (True, False):
            layer.zero_grad()
            y = layer(x[None] if batched else x)
            y.backward(g[None] if batched else g)
            assert layer.weight.grad is not None
            gradients.append(layer.weight.grad)
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("weight_bits", [1, 2, 8])
def test_all_zero_weights_learn(weight_bits: int) -> None:
    for layer, x in (
        (QLinear(6, 4, bias=False, **paper(weight_bits, 2)), torch.ones(3, 6)),
        (QConv2d(2, 3, 3, **paper(weight_bits, 2)), torch.ones(2, 2, 5, 5)),
    ):
        nn.init.zeros_(layer.weight)
        leaf = x.requires_grad_()
        y = layer(leaf)
        assert y.isfinite().all()
        y.sum().backward()
        assert layer.weight.grad is not None
        assert (layer.weight.grad > 0).all()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("frozen", ["weight", "input", "both"])
def test_frozen_parts_get_no_gradient(frozen: str) -> None:
    for layer, x in (
        (QLinear(6, 4, **paper(2, 2, 4)), activations(3, 6)),
        (QConv2d(2, 3, 3, bias=True, **paper(2, 2, 4)), activations(3, 2, 5, 5)),
    ):
        layer.weight.requires_grad_(frozen == "input")
        x.requires_grad_(frozen == "weight")
        layer(x).sum().backward()
        assert (layer.weight.grad is not None) == (frozen == "input")
        assert (x.grad is not None) == (frozen == "weight")
        assert layer.bias is not None
        assert layer.bias.grad is not None


def test_backward_under_autocast_equals_backward_without() -> None:
    layer, x = QConv2d(3, 4, 3, **paper(2, 2)), activations(2, 3, 6, 6)
    layer(x).square().sum().backward()
    assert layer.weight.grad is not None
    expected = layer.weight.grad.clone()
    layer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    y.square().sum().backward()
    assert torch.equal(layer.weight.grad, expected)


def test_training_reduces_the_loss() -> None:
    torch.manual_seed(11)
    net = nn.Sequential(
        nn.Linear(8, 32), nn.BatchNorm1d(32), QLinear(32, 32, **paper(1, 2, 6)), nn.BatchNorm1d(32), nn.Linear(32, 1)
    )
    x = torch.randn(256, 8)
    y = x[:, :1] * x[:, 1:2]
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = F.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


# BITorch's vectors


def test_convolution_vector() -> None:
    layer = QConv2d(
        1,
        1,
        3,
        padding=1,
        input_quantization=InputDoReFa(2),
        weight_quantization=WeightDoReFa(2),
        gradient_cancellation_threshold=1.0,
        pad_value=-1.0,
    )
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[[-0.4, -0.3, -0.2], [-0.1, 0.05, 0.1], [0.2, 0.3, 0.4]]]]))
    x = torch.tensor([[[[0.1, 0.5], [0.9, 1.4]]]], requires_grad=True)
    third = 1 / 3
    torch.testing.assert_close(
        layer.weight_quantization(layer.weight).flatten(),
        torch.tensor([-1, -1, -third, -third, third, third, third, 1, 1]),
    )
    y = layer(x)
    y.sum().backward()
    torch.testing.assert_close(y.flatten(), torch.tensor([4.55556, 2.55556, -0.55556, -3]), atol=1e-5, rtol=0)
    assert x.grad is not None
    assert layer.weight.grad is not None
    torch.testing.assert_close(x.grad.flatten(), torch.tensor([-2, -0.66667, 1.33333, 0]), atol=1e-5, rtol=0)
    expected = torch.tensor([-3, -1.33333, -2.33333, -1, 2.66667, -0.33333, -2, 0, -2])
    torch.testing.assert_close(layer.weight.grad.flatten(), expected, atol=1e-5, rtol=0)


def test_linear_vector() -> None:
    layer = QLinear(3, 2, input_quantization=InputDoReFa(2), weight_quantization=WeightDoReFa(2))
    assert layer.gradient_cancellation_threshold == 1.0
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -0.25, 0.1], [-0.05, 0.3, -0.45]]))
        layer.bias.copy_(torch.tensor([0.1, -0.1]))
    x = torch.tensor([[0.2, 0.6, 1.2]], requires_grad=True)
    y = layer(x)
    y.sum().backward()
    third = 1 / 3
    weight = torch.tensor([[1, -third, third], [-third, third, -1]])
    torch.testing.assert_close(layer.weight_quantization(layer.weight), weight)
    torch.testing.assert_close(y, torch.tensor([[0.54444, -0.98889]]), atol=1e-5, rtol=0)
    assert x.grad is not None
    assert layer.weight.grad is not None
    assert layer.bias.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([[0.66667, 0, 0]]), atol=1e-5, rtol=0)
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[third, 2 * third, 1]] * 2))
    torch.testing.assert_close(layer.bias.grad, torch.ones(2))


# QActivation


def test_activation_vector() -> None:
    x = torch.tensor([-2, -1, -0.6, -0.25, 0, 0.1, 0.25, 0.5, 0.75, 1, 3], requires_grad=True)
    y = QActivation("inputdorefa", 0.5)(x)
    y.sum().backward()
    assert y.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1]
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("threshold", [2.0**-60, 0.25, 1.0, 1.25, 1.5, 3.0, 2.0**15])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_cancellation_includes_the_threshold(threshold: float, dtype: torch.dtype) -> None:
    at = torch.tensor(threshold, dtype=dtype)
    above = torch.nextafter(at, 2 * at)
    x = torch.stack([at, -at, above, -above, 2 * at, at / 2, torch.zeros_like(at)]).requires_grad_()
    QActivation(Sign(), threshold)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 1, 0, 0, 0, 1, 1]


def test_activation_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.tensor([-2.0, 0.5, 5.0], requires_grad=True)
    activation = QActivation()
    assert isinstance(activation.activation_function, Sign)
    assert activation.gradient_cancellation_threshold == 1.0
    activation(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 0]
    x.grad.zero_()
    activation.gradient_cancellation_threshold = 0.0
    activation(x).sum().backward()
    assert x.grad.tolist() == [1, 1, 1]
    assert QActivation(Sign(), 0.0).gradient_cancellation_threshold == 0  # zero is a value, and means off
    with pytest.raises(ValueError, match=r"must be finite and at least 0 .* got -1"):
        QActivation(Sign(), -1)
    monkeypatch.setattr(config, "gradient_cancellation_threshold", 0.25)
    monkeypatch.setattr(config, "input_quantization", "steheaviside")
    later = QActivation()
    assert later.gradient_cancellation_threshold == 0.25
    assert isinstance(later.activation_function, SteHeaviside)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_activation_dtype(dtype: torch.dtype) -> None:
    x = torch.randn(5, dtype=dtype, requires_grad=True)
    y = QActivation("sign")(x)
    y.sum().backward()
    assert y.dtype == dtype
    assert x.grad is not None
    assert x.grad.dtype == dtype
    with pytest.raises(TypeError, match=r"floating-point tensor, got torch\.int64"):
        QActivation("sign")(torch.ones(2, dtype=torch.int64))


# Convolutions without activation


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, "same", "valid"])
@pytest.mark.parametrize("bias", [True, False])
def test_no_act(dims: int, padding: Any, bias: bool) -> None:
    torch.manual_seed(12)
    layer = with_random_bias(NO_ACT[dims](2, 3, 3, padding=padding, bias=bias, weight_quantization="sign"))
    assert layer._weight_quantize is layer.weight_quantization
    x = torch.randn(2, 2, *[5] * dims)
    border = 1 if padding in (1, "same") else 0
    padded = F.pad(x, [border] * 2 * dims, value=-1.0)
    assert torch.equal(layer._apply_padding(x), padded)
    assert torch.equal(layer(x), FUNCTIONS[dims](padded, Sign()(layer.weight), layer.bias))
    layer(x).sum().backward()
    assert layer.weight.grad is not None


def test_no_act_with_geometry() -> None:
    layer = QConv2d_NoAct(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), 2, weight_quantization=WeightDoReFa(2), pad_value=0.5)
    x = torch.randn(2, 4, 6, 7)
    padded = F.pad(x, (0, 0, 1, 1), value=0.5)
    expected = F.conv2d(padded, WeightDoReFa(2)(layer.weight), None, (2, 1), 0, (1, 2), 2)
    assert torch.equal(layer(x), expected)
    torch.testing.assert_close(layer(x[0]), expected[0])
    assert torch.equal(
        layer.weight_codes() * layer.weight_scale() * 3, (WeightDoReFa(2)(layer.weight) * 3).round().detach()
    )


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_convolution_equals_activation_and_no_act(dims: int) -> None:
    """BITorch's definition: pad after the activation, with −1."""
    layer = CONVS[dims](2, 3, 3, padding=1)
    x = torch.randn(2, 2, *[5] * dims)
    expected = FUNCTIONS[dims](
        layer._apply_padding(layer.activation(x)), layer._weight_quantize(layer.weight), layer.bias, layer.stride, 0
    )
    assert torch.equal(layer(x), expected)
    linear = QLinear(4, 3)
    x = torch.randn(2, 4)
    assert torch.equal(
        linear(x), F.linear(linear.activation(x), linear.weight_quantization(linear.weight), linear.bias)
    )


# What a PyTorch layer has


def layers() -> list[tuple[Any, Tensor, Any]]:
    """Each kind of layer, an input, and its float counterpart."""
    bits = paper(2, 3, 4)
    return [
        (QLinear(6, 4, **bits), activations(3, 6), nn.Linear(6, 4)),
        (QLinear(6, 4, bias=False, **bits), activations(3, 6), nn.Linear(6, 4, bias=False)),
        (QConv1d(2, 4, 3, bias=True, **bits), activations(3, 2, 8), nn.Conv1d(2, 4, 3)),
        (QConv2d(2, 4, 3, padding=1, **bits), activations(3, 2, 8, 8), nn.Conv2d(2, 4, 3, padding=1, bias=False)),
        (QConv3d(2, 4, 3, bias=True, **bits), activations(3, 2, 4, 4, 4), nn.Conv3d(2, 4, 3)),
        (
            QConv2d_NoAct(2, 4, 3, weight_quantization="sign"),
            activations(3, 2, 8, 8),
            nn.Conv2d(2, 4, 3, bias=False),
        ),
    ]


def test_types_and_aliases() -> None:
    assert (QLinearBase, QConv1dBase, QConv2dBase, QConv3dBase) == (QLinear, QConv1d, QConv2d, QConv3d)
    for layer, _, float_layer in layers():
        assert isinstance(layer, type(float_layer))


def test_parameters_are_those_of_the_float_layer() -> None:
    for layer, x, float_layer in layers():
        assert list(layer.state_dict()) == list(float_layer.state_dict())
        layer.load_state_dict(float_layer.state_dict(), strict=True)
        float_layer.load_state_dict(layer.state_dict(), strict=True)
        assert torch.equal(layer.weight, float_layer.weight)
        assert layer(x).shape == float_layer(x).shape


def test_copies_compute_the_same() -> None:
    for layer, x, _ in layers():
        whole = io.BytesIO()
        torch.save(layer, whole)
        whole.seek(0)
        loaded = torch.load(whole, weights_only=False)
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), loaded):
            assert torch.equal(other(x), layer(x))
            other(x).sum().backward()
            assert other.weight.grad is not None
            assert layer.weight.grad is None
            assert repr(other) == repr(layer)


def test_state_dict_files() -> None:
    for layer, x, _ in layers():
        file = io.BytesIO()
        torch.save(layer.state_dict(), file)
        file.seek(0)
        expected = layer(x)
        nn.init.normal_(layer.weight)
        layer.load_state_dict(torch.load(file, weights_only=True), strict=True)
        assert torch.equal(layer(x), expected)


def test_moving_averages() -> None:
    net: Any = nn.Sequential(nn.Linear(6, 6), QLinear(6, 4, **paper(2, 3, 4)))
    average: Any = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5)
    )
    average.update_parameters(net)
    before = net[1].weight.detach().clone()
    with torch.no_grad():
        net[1].weight.add_(1.0)
    average.update_parameters(net)
    torch.testing.assert_close(average.module[1].weight, before + 0.5)
    assert_bit_for_bit(average.module[1], activations(3, 6))


def test_weight_codes_and_scale() -> None:
    for bits in range(1, 9):
        layer = QLinear(30, 20, **paper(bits, 2))
        codes, scale = layer.weight_codes(), layer.weight_scale()
        assert codes.dtype == torch.int16
        assert scale.dim() == 0
        assert not codes.requires_grad
        assert not scale.requires_grad
        torch.testing.assert_close(codes * scale, layer.weight_quantization(layer.weight).detach())


def test_settings_of_a_layer_can_be_read_and_set() -> None:
    layer: Any = QLinear(4, 3, **paper(2, 3))
    assert layer.input_quantization is layer.activation.activation_function
    assert layer.gradient_cancellation_threshold == layer.activation.gradient_cancellation_threshold == 0
    layer.gradient_cancellation_threshold = 1.0
    assert layer.gradient_cancellation_threshold == layer.activation.gradient_cancellation_threshold == 1
    with pytest.raises(ValueError, match="must be finite and at least 0"):
        layer.gradient_cancellation_threshold = -1.0
    conv: Any = QConv2d(1, 1, 3, padding=1)
    conv.pad_value = 1
    assert conv.pad_value == 1
    conv.weight.data.fill_(1)
    assert conv(torch.full((1, 1, 1, 1), -1.0)).item() == 7
    with pytest.raises(ValueError, match=r"pad_value=0\.3 is no multiple"):
        conv.pad_value = 0.3
    assert conv.pad_value == 1
    conv.pad_value = None  # as it goes with the quantizer
    assert conv.pad_value == -1


def test_quantizer_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = WeightDoReFa(3)
    layer = QLinear(4, 3, weight_quantization=shared, input_quantization="inputdorefa")
    assert layer.weight_quantization is shared
    assert isinstance(layer.input_quantization, InputDoReFa)
    default = QConv2d(1, 1, 3)
    assert isinstance(default.input_quantization, Sign)
    assert isinstance(default.weight_quantization, Sign)
    assert default.gradient_quantization is None
    assert default.bias is None
    assert QLinear(2, 2).bias is not None
    monkeypatch.setattr(config, "weight_quantization", "approxsign")
    monkeypatch.setattr(config, "input_quantization", "swishsign")
    later = QLinear(2, 2)
    assert isinstance(later.weight_quantization, ApproxSign)
    assert isinstance(later.input_quantization, SwishSign)


@pytest.mark.parametrize("argument", ["weight_quantization", "input_quantization"])
@pytest.mark.parametrize("cls", [QLinear, QConv2d])
def test_wrong_quantizers(argument: str, cls: Any) -> None:
    sizes = (2, 2) if cls is QLinear else (2, 2, 3)
    with pytest.raises(ValueError, match=f"{argument}: no quantization is named 'dorefa'; known names"):
        cls(*sizes, **{argument: "dorefa"})
    with pytest.raises(TypeError, match=rf"{argument} must be a Quantization.*did you mean Sign\(\)\?"):
        cls(*sizes, **{argument: Sign})
    with pytest.raises(TypeError, match=f"{argument} must be a Quantization.*got 2"):
        cls(*sizes, **{argument: 2})


@pytest.mark.parametrize("wrong", ["gradientdorefa", GradientDoReFa, 6])
def test_wrong_gradient_quantizer(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"gradient_quantization must be None or a Quantization instance such as"):
        QLinear(2, 2, gradient_quantization=wrong)


def test_integer_input_is_refused() -> None:
    with pytest.raises(TypeError, match=r"InputDoReFa: the input must be a floating-point tensor, got torch.uint8"):
        QConv2d(3, 4, 3, **paper(2, 2))(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_repr_shows_geometry_and_quantizers() -> None:
    text = repr(QConv2d(3, 4, 3, **paper(1, 2, 6)))
    for part in ("QConv2d(", "3, 4, kernel_size=(3, 3)", "WeightDoReFa(bits=1", "InputDoReFa(bits=2", "bits=6"):
        assert part in text


def test_initialisation() -> None:
    """Linear as PyTorch; convolutions xavier_normal as BITorch, with a bias of zeros."""
    torch.manual_seed(13)
    layer = QConv2d(32, 64, 3, bias=True)
    deviation = math.sqrt(2 / (9 * 32 + 9 * 64))
    assert layer.weight.std().item() == pytest.approx(deviation, rel=0.05)
    assert layer.bias is not None
    assert (layer.bias == 0).all()
    torch.manual_seed(14)
    linear = QLinear(30, 20)
    torch.manual_seed(14)
    assert torch.equal(linear.weight, nn.Linear(30, 20).weight)


def test_absorbed_relu_does_nothing() -> None:
    x = torch.randn(3)
    assert AbsorbedReLU()(x) is x
    assert not AbsorbedReLU().state_dict()


def test_in_place_activation_after_a_layer_with_gradient_quantizer() -> None:
    """As in nets without batch norm: convolution, then ReLU(inplace=True)."""
    layer = QConv2d(2, 3, 3, input_quantization=InputDoReFa(2), gradient_quantization=GradientDoReFa(6))
    y = nn.ReLU(inplace=True)(layer(torch.rand(2, 2, 5, 5)))
    y.sum().backward()
    assert layer.weight.grad is not None


def test_input_quantization_can_be_set_in_two_places() -> None:
    layer: Any = QLinear(2, 3)
    layer.input_quantization = InputDoReFa(3)
    assert layer.activation.activation_function is layer.input_quantization
    assert layer.input_quantization.bit_width == 3
    layer.activation.activation_function = InputDoReFa(2)
    assert layer.input_quantization.bit_width == 2


@pytest.mark.parametrize("pad_value", [float("nan"), float("inf")])
def test_pad_value_must_be_finite(pad_value: float) -> None:
    with pytest.raises(ValueError, match="pad_value must be finite"):
        QConv2d(1, 1, 3, pad_value=pad_value)


@pytest.mark.parametrize("threshold", [-1.0, float("nan"), float("inf")])
def test_gradient_cancellation_threshold_must_be_finite(threshold: float) -> None:
    with pytest.raises(ValueError, match="gradient_cancellation_threshold must be finite and at least 0"):
        QActivation(gradient_cancellation_threshold=threshold)


@pytest.mark.parametrize("threshold", [0.3, 0.6, 1.2, 3.61, 3.87, 1.0, 2.0])
def test_gradient_cancellation_is_exact_at_the_threshold(threshold: float) -> None:
    """A threshold that float32 cannot hold counts as the nearest one that it can."""
    bound = torch.tensor(threshold)
    above = torch.nextafter(bound, torch.tensor(9.0))
    x = torch.stack([bound, above, -bound, -above]).requires_grad_()
    QActivation("sign", threshold)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 0, 1, 0]


@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")  # of the switch itself
def test_exact_without_onednn() -> None:
    """PyTorch's other convolution, NNPACK's Winograd, is not exact; it is taken from batch 16 on."""
    layer = QConv2d(64, 64, 3, padding=1, input_quantization=InputDoReFa(2), weight_quantization=WeightDoReFa(1))
    x = torch.rand(16, 64, 12, 12)
    expected = layer(x)
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(layer(x), expected)


def test_backward_inside_autocast_stays_in_float32() -> None:
    layer = QLinear(64, 32, input_quantization=InputDoReFa(2), weight_quantization=WeightDoReFa(1))
    x = torch.rand(8, 64)
    layer(x).square().sum().backward()
    assert layer.weight.grad is not None
    expected = layer.weight.grad.clone()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).square().sum().backward()
    assert torch.equal(layer.weight.grad, expected)


def test_second_derivatives_are_refused() -> None:
    layer = QLinear(4, 3, input_quantization=InputDoReFa(2), weight_quantization=WeightDoReFa(1))
    x = torch.rand(2, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_meta_device() -> None:
    layer = QConv2d(3, 4, 3, device="meta", input_quantization=InputDoReFa(2), weight_quantization=WeightDoReFa(1))
    assert layer(torch.rand(2, 3, 5, 5, device="meta")).shape == (2, 4, 3, 3)
