"""Transposed convolutions: forward bit for bit against int64, backward against PyTorch's own in float64."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

import oracle
from bitorch import LowBitConfig, float_, quantize_
from bitorch.deployment.can_deploy import can_deploy
from bitorch.layers import QConvTranspose1d, QConvTranspose2d, QConvTranspose3d
from bitorch.layers.exact_transposed import swap_channels, taps_per_output
from bitorch.quantizations import (
    GradientDoReFa,
    Identity,
    InputDoReFa,
    InputLSQ,
    Quantization,
    Sign,
    WeightDoReFa,
    WeightLSQ,
)

LAYERS: dict[int, Any] = {1: QConvTranspose1d, 2: QConvTranspose2d, 3: QConvTranspose3d}
FLOAT_LAYERS: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
FUNCTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


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


def output_channel_first(weight: NDArray[Any], groups: int) -> NDArray[Any]:
    """PyTorch's [C_in, C_out/groups, …] as [C_out, C_in/groups, …], number by number."""
    inputs, outputs = weight.shape[0] // groups, weight.shape[1]
    turned = np.empty((outputs * groups, inputs, *weight.shape[2:]), weight.dtype)
    for group, i, o in itertools.product(range(groups), range(inputs), range(outputs)):
        turned[group * outputs + o, i] = weight[group * inputs + i, o]
    return turned


def accumulator(layer: Any, x: Tensor, output_padding: tuple[int, ...] | None = None) -> oracle.Integers:
    """D = Σ c·q in int64, for batched x."""
    q = layer.input_quantization.codes(x).detach().numpy().astype(np.int64)
    c = layer.weight_codes().numpy().astype(np.int64)
    extra = layer.output_padding if output_padding is None else output_padding
    return oracle.convolve_transposed(q, c, layer.stride, layer.padding, extra, layer.dilation, layer.groups)


def expected_output(layer: Any, x: Tensor, output_padding: tuple[int, ...] | None = None) -> Tensor:
    """float32(D)·(s_x·s_w) + b: one rounding for each of the four operations."""
    scale = layer.input_quantization.scale(x).detach().numpy() * layer.weight_scale().detach().numpy()
    if scale.ndim:
        scale = scale.reshape(-1, *[1] * len(layer.kernel_size))  # of each output channel
    y = accumulator(layer, x, output_padding).astype(np.float32) * scale
    if layer.bias is not None:
        y = y + layer.bias.detach().numpy().reshape(-1, *[1] * len(layer.kernel_size))
    return torch.from_numpy(y)


def assert_bit_for_bit(layer: Any, x: Tensor) -> None:
    expected = expected_output(layer, x)
    output = layer(x)
    assert output.dtype == expected.dtype == torch.float32
    assert torch.equal(output.detach(), expected)
    with torch.no_grad():
        assert torch.equal(layer(x), expected)


# The oracle, and the layout of the weight


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_integer_convolution_of_the_oracle(dims: int, groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randint(-9, 9, (2, 4, *[4, 5, 3][:dims]), generator=generator)
    weight = torch.randint(-9, 9, (4, 6 // groups, *[3, 2, 2][:dims]), generator=generator)
    c = output_channel_first(weight.numpy(), groups)
    geometry = [2, 3, 1][:dims], [1, 3, 0][:dims], [1, 2, 0][:dims], [2, 1, 2][:dims]
    stride, padding, extra, dilation = geometry
    expected = FUNCTIONS[dims](q.double(), weight.double(), None, stride, padding, extra, groups, dilation)
    assert np.array_equal(oracle.convolve_transposed(q.numpy(), c, *geometry, groups), expected.numpy())


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_quantizer_sees_the_output_channel_first(groups: int) -> None:
    layer = QConvTranspose2d(4, 8, (3, 2), groups=groups, **paper(3, 2))
    seen: list[Tensor] = []
    layer.weight_quantization.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    layer.exact = False
    layer(activations(1, 4, 3, 3))
    expected = output_channel_first(layer.weight.detach().numpy(), groups)
    assert np.array_equal(seen[0].detach().numpy(), expected)
    assert layer.weight_codes().shape == (8, 4 // groups, 3, 2)
    assert layer.weight_codes().dtype == torch.int16
    values = oracle.weight_value(expected.astype(np.float64), 3)
    np.testing.assert_allclose(layer.weight_codes().numpy() * layer.weight_scale().numpy(), values, rtol=1e-6)
    assert torch.equal(swap_channels(swap_channels(layer.weight, groups), groups), layer.weight)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 7), st.integers(1, 6), st.integers(1, 6))
def test_taps_per_output(kernel: int, stride: int, dilation: int) -> None:
    """A count of all products, in a net that is long enough for the middle to have them all."""
    one = torch.ones(1, 1, 40)
    counts = F.conv_transpose1d(one, torch.ones(1, 1, kernel), stride=stride, dilation=dilation)
    assert counts.max() == taps_per_output(kernel, stride, dilation)


# Forward, bit for bit

BITS = st.integers(1, 8)
VARIANTS: st.SearchStrategy[Literal["bitorch", "paper"]] = st.sampled_from(["bitorch", "paper"])


@st.composite
def quantizers(draw: st.DrawFn) -> tuple[Quantization, Quantization]:
    """Of input and weight."""
    weight = WeightDoReFa(draw(BITS), variant=draw(VARIANTS)) if draw(st.integers(0, 3)) else Sign()
    return (InputDoReFa(draw(BITS), variant=draw(VARIANTS)) if draw(st.integers(0, 3)) else Sign()), weight


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Any, Tensor]:
    """A transposed convolution of any geometry, and a batch that fits."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    dims, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    channels, outputs = groups * draw(st.integers(1, 3 if dims < 3 else 2)), groups * draw(st.integers(1, 2))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    kernel, dilation, stride, padding = each(1, 3), each(1, 3), each(1, 3), each(0, 2)
    extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    axes = zip(kernel, dilation, stride, padding, strict=True)
    smallest = [max(1, (2 * p - d * (k - 1) + s - 1) // s + 1) for k, d, s, p in axes]
    sizes = [size + draw(st.integers(0, 3)) for size in smallest]
    input_quantization, weight_quantization = draw(quantizers())
    layer = LAYERS[dims](
        channels,
        outputs,
        kernel,
        stride,
        padding,
        extra,
        groups,
        draw(st.booleans()),
        dilation,
        input_quantization=input_quantization,
        weight_quantization=weight_quantization,
    )
    x = torch.rand(draw(st.sampled_from([0, 1, 3])), channels, *sizes) * 2 - 0.5
    if dims > 1 and draw(st.booleans()):
        x = x.contiguous(memory_format=torch.channels_last if dims == 2 else torch.channels_last_3d)
    return layer, x


def check_convolution(case: tuple[Any, Tensor]) -> None:
    layer, x = case
    assert_bit_for_bit(layer, x)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            assert torch.equal(layer(x), expected_output(layer, x))
    if len(x):
        assert torch.equal(layer(x[0]), expected_output(layer, x[:1])[0])


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_convolutions(case: tuple[Any, Tensor]) -> None:
    check_convolution(case)


@pytest.mark.slow
@settings(max_examples=2500, deadline=None)
@given(convolutions())
def test_many_convolutions(case: tuple[Any, Tensor]) -> None:
    check_convolution(case)


@pytest.mark.parametrize("weight_bits", range(1, 9))
@pytest.mark.parametrize("activation_bits", range(1, 9))
def test_all_bits(weight_bits: int, activation_bits: int) -> None:
    torch.manual_seed(0)
    bits = paper(weight_bits, activation_bits)
    assert_bit_for_bit(QConvTranspose2d(6, 4, 3, 2, 1, 1, groups=2, **bits), activations(2, 6, 4, 4))
    assert_bit_for_bit(QConvTranspose1d(70, 3, 4, **bits), activations(2, 70, 5))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("method", ["dorefa", "lsq"])
def test_a_scale_of_each_output_channel(groups: int, dims: int, method: str) -> None:
    torch.manual_seed(5)
    weight = WeightDoReFa(1, variant="paper", per_channel=True) if method == "dorefa" else WeightLSQ(3, channels=8)
    activation = InputLSQ(3, offset=True)
    layer = LAYERS[dims](4, 8, 3, 2, groups=groups, weight_quantization=weight, input_quantization=activation)
    with torch.no_grad():
        layer.weight[:, 0].mul_(9)  # so that the channels differ
    weight.initialize_(layer._quantizer_weight())
    x = activations(2, 4, *[4, 3, 3][:dims])
    activation.fit_(x)
    assert layer.weight_scale().shape == (8, *[1] * (dims + 1))
    assert layer.weight_scale().unique().numel() == 8
    assert_bit_for_bit(layer, x)
    value_layer = copy.deepcopy(layer)
    value_layer.exact = False
    g = torch.randn(layer(x).shape)
    for one in (layer, value_layer):
        one(x).backward(g)
    for p, like in zip(layer.parameters(), value_layer.parameters(), strict=True):
        torch.testing.assert_close(p.grad, like.grad, rtol=1e-4, atol=1e-5)
    float_state = FLOAT_LAYERS[dims](4, 8, 3, 2, groups=groups).state_dict()
    layer.load_state_dict(float_state, strict=True)
    assert_bit_for_bit(layer, x)


def test_a_wide_convolution_is_rounded_once() -> None:
    torch.manual_seed(1)
    layer = QConvTranspose2d(130, 2, 3, **paper(8, 8))
    with torch.no_grad():
        layer.weight.uniform_(0.2, 1.0)
    x = torch.rand(2, 130, 4, 4) / 2 + 0.5
    d = accumulator(layer, x)
    assert (d.astype(np.float32).astype(np.int64) != d).any()  # so the rounding is put to the test
    assert_bit_for_bit(layer, x)


def test_widest_layers() -> None:
    """With stride 2 a kernel of 4 has 2 taps in each output, and so half as many inputs as with stride 1."""
    QConvTranspose1d(16_512, 1, 4, 2, device="meta", **paper(8, 8))
    with pytest.raises(ValueError, match=r"33026 inputs per output is too wide.*allow at most 33025 inputs"):
        QConvTranspose1d(16_513, 1, 4, 2, device="meta", **paper(8, 8))
    with pytest.raises(ValueError, match="66048 inputs per output"):
        QConvTranspose1d(16_512, 1, 4, 1, device="meta", **paper(8, 8))
    QConvTranspose1d(16_513, 1, 4, 2, device="meta", exact=False, **paper(8, 8))


def test_the_widest_sum_of_codes_is_exact() -> None:
    layer = QConvTranspose1d(16_512, 1, 4, 2, bias=False, **paper(8, 8))
    nn.init.ones_(layer.weight)
    x = torch.ones(1, 16_512, 3)
    assert accumulator(layer, x).max() == 2 * 16_512 * 255 * 255
    assert_bit_for_bit(layer, x)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_output_size(dims: int) -> None:
    layer, like = LAYERS[dims](3, 2, 3, 2, 1, **paper(2, 2)), FLOAT_LAYERS[dims](3, 2, 3, 2, 1)
    x = activations(2, 3, *[4, 5, 3][:dims])
    for extra in (0, 1):
        size = [2 * n - 1 + extra for n in x.shape[2:]]
        for form in (size, torch.Size([2, 2, *size])):
            assert layer(x, form).shape == like(x, form).shape
            assert torch.equal(layer(x, output_size=form), expected_output(layer, x, (extra,) * dims))
        assert torch.equal(layer(x[0], size), expected_output(layer, x, (extra,) * dims)[0])
    with pytest.raises(ValueError, match="valid sizes range"):
        layer(x, [99] * dims)


def test_outputs_that_no_input_reaches_are_the_bias() -> None:
    layer = QConvTranspose1d(2, 1, 1, 3, 0, 2, **paper(1, 1))
    y = layer(torch.ones(1, 2, 2))
    assert layer.bias is not None
    assert y.shape == (1, 1, 6)
    assert torch.equal(y[0, 0, [1, 2, 4, 5]], layer.bias.expand(4))


@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")  # of the switch itself
def test_exact_without_onednn() -> None:
    layer, x = QConvTranspose2d(64, 64, 3, padding=1, **paper(1, 2)), torch.rand(16, 64, 12, 12)
    expected = layer(x)
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(layer(x), expected)


@pytest.mark.parametrize(
    ("weight", "activation", "exact"),
    [(WeightDoReFa(32), InputDoReFa(2), True), (WeightDoReFa(2), Identity(), True), (Sign(), InputDoReFa(2), False)],
    ids=repr,
)
def test_on_values(weight: Quantization, activation: Quantization, exact: bool) -> None:
    layer = QConvTranspose2d(
        4, 6, 3, 2, groups=2, weight_quantization=weight, input_quantization=activation, exact=exact
    )
    x = activations(2, 4, 3, 3)
    expected = F.conv_transpose2d(activation(x), weight(layer.weight), layer.bias, 2, groups=2)
    torch.testing.assert_close(layer(x), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    layer, x = QConvTranspose2d(4, 3, 3, **paper(3, 3)).to(dtype), activations(2, 4, 5, 5).to(dtype)
    y = layer(x)
    assert y.dtype == dtype
    single = copy.deepcopy(layer).float()
    torch.testing.assert_close(y, expected_output(single, x.float()).to(dtype), rtol=1e-6, atol=1e-6)
    y.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == dtype


# Backward


def reference_gradients(layer: Any, x: Tensor, g: Tensor, gradient_bits: int | None) -> list[oracle.Floats | None]:
    """Gradients of x, weight and bias in float64: eq. 12 on g, PyTorch's convolution, then each quantizer's own."""
    weight_bits, activation_bits = layer.weight_quantization.bit_width, layer.input_quantization.bit_width
    x64, w64, g64 = (t.detach().double().numpy() for t in (x, layer.weight, g))
    x_q = torch.from_numpy(oracle.input_value(x64, activation_bits)).requires_grad_()
    w_q = torch.from_numpy(oracle.weight_value(w64, weight_bits)).requires_grad_()
    bias = None if layer.bias is None else layer.bias.detach().double().requires_grad_()
    geometry = layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation
    y = FUNCTIONS[len(layer.kernel_size)](x_q, w_q, bias, *geometry)
    y.backward(torch.from_numpy(g64 if gradient_bits is None else oracle.gradient_value(g64, gradient_bits)))
    assert x_q.grad is not None
    assert w_q.grad is not None
    return [
        oracle.input_gradient(x64, x_q.grad.numpy()),
        oracle.weight_gradient(w64, weight_bits, w_q.grad.numpy()),
        None if bias is None or bias.grad is None else bias.grad.numpy(),
    ]


def assert_gradients(layer: Any, x: Tensor, g: Tensor, gradient_bits: int | None = None) -> None:
    layer.zero_grad()
    leaf = x.detach().requires_grad_()
    layer(leaf).backward(g)
    gradients = [leaf.grad, layer.weight.grad, None if layer.bias is None else layer.bias.grad]
    for gradient, reference in zip(gradients, reference_gradients(layer, x, g, gradient_bits), strict=True):
        if reference is not None:
            assert gradient is not None
            size = max(np.max(np.abs(reference), initial=0.0), 1e-30)
            np.testing.assert_allclose(gradient.numpy(), reference, rtol=1e-4, atol=1e-5 * size)


GEOMETRIES: dict[str, dict[str, Any]] = {
    "plain": {"bias": False},
    "strided": {"stride": 2, "padding": 1, "output_padding": 1},
    "dilated": {"dilation": 2, "padding": 2},
    "grouped": {"groups": 2, "stride": 2},
    "depthwise": {"groups": 4, "padding": 1},
}


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(("weight_bits", "activation_bits", "gradient_bits"), [(1, 2, 4), (3, 2, None), (8, 8, 6)])
def test_gradients(geometry: str, dims: int, weight_bits: int, activation_bits: int, gradient_bits: int | None) -> None:
    torch.manual_seed(7)
    layer = LAYERS[dims](4, 8, 3, **GEOMETRIES[geometry], **paper(weight_bits, activation_bits, gradient_bits))
    x = activations(3, 4, *[4, 5, 3][:dims])
    shape = layer(x).shape
    assert_gradients(layer, x, torch.randn(shape), gradient_bits)
    assert_gradients(layer, x, torch.ones(()).expand(shape), gradient_bits)


def test_gradients_and_layout_channels_last() -> None:
    torch.manual_seed(8)
    layer, channels_last = QConvTranspose2d(4, 6, 3, 2, **paper(2, 2, 4)), torch.channels_last
    x, g = activations(2, 4, 5, 6), torch.randn(2, 6, 11, 13)
    assert_gradients(layer, x.contiguous(memory_format=channels_last), g.contiguous(memory_format=channels_last), 4)
    layer.to(memory_format=channels_last)  # type: ignore[call-overload]  # missing in PyTorch's stubs
    leaf = x.contiguous(memory_format=channels_last).requires_grad_()
    y = layer(leaf)
    assert y.is_contiguous(memory_format=channels_last)
    y.square().sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.is_contiguous(memory_format=channels_last)
    assert torch.equal(y.detach(), expected_output(layer, leaf.detach()))


def test_unbatched_input_is_one_sample_of_the_gradient_quantizer() -> None:
    torch.manual_seed(10)
    layer, x, g = QConvTranspose2d(2, 3, 3, **paper(2, 2, 2)), activations(2, 5, 5), torch.randn(3, 7, 7)
    gradients = []
    for batched in (True, False):
        layer.zero_grad()
        layer(x[None] if batched else x).backward(g[None] if batched else g)
        assert layer.weight.grad is not None
        gradients.append(layer.weight.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("frozen", ["weight", "input"])
def test_frozen_parts_get_no_gradient(frozen: str) -> None:
    layer, x = QConvTranspose2d(2, 3, 3, **paper(2, 2, 4)), activations(3, 2, 5, 5)
    layer.weight.requires_grad_(frozen == "input")
    x.requires_grad_(frozen == "weight")
    layer(x).sum().backward()
    assert (layer.weight.grad is not None) == (frozen == "input")
    assert (x.grad is not None) == (frozen == "weight")


def test_backward_inside_autocast_stays_in_float32() -> None:
    layer, x = QConvTranspose2d(3, 4, 3, **paper(2, 2)), activations(2, 3, 6, 6)
    gradients = []
    for enabled in (False, True):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            layer(x).square().sum().backward()
        assert layer.weight.grad is not None
        gradients.append(layer.weight.grad)
    assert torch.equal(*gradients)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled() -> None:
    torch.manual_seed(2)
    layer, x = QConvTranspose2d(4, 6, 3, 2, groups=2, **paper(2, 2, 6)), activations(2, 4, 5, 5)
    torch._dynamo.reset()
    results = []
    for call in (layer, torch.compile(layer, fullgraph=True, backend="aot_eager")):
        layer.zero_grad()
        y = call(x)
        y.square().sum().backward()
        assert layer.weight.grad is not None
        results.append((y.detach(), layer.weight.grad))
    torch._dynamo.reset()
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-6, atol=1e-7)


# A layer of PyTorch


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_drop_in(dims: int) -> None:
    torch.manual_seed(3)
    like = FLOAT_LAYERS[dims](4, 6, 3, 2, 1, 1, 2)
    torch.manual_seed(3)
    layer = LAYERS[dims](4, 6, 3, 2, 1, 1, 2, **paper(2, 2, 4))
    assert isinstance(layer, FLOAT_LAYERS[dims])
    assert torch.equal(layer.weight, like.weight)
    assert torch.equal(layer.bias, like.bias)
    layer.load_state_dict(like.state_dict(), strict=True)
    like.load_state_dict(layer.state_dict(), strict=True)
    x = activations(2, 4, *[3] * dims)
    assert layer(x).shape == like(x).shape
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False)):
        assert torch.equal(other(x), layer(x))
        assert repr(other) == repr(layer)
    assert layer.weight.grad is None


def test_meta_device() -> None:
    layer = QConvTranspose2d(3, 4, 3, device="meta", **paper(1, 2))
    assert layer(torch.rand(2, 3, 5, 5, device="meta")).shape == (2, 4, 7, 7)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="zeros"):
        QConvTranspose2d(1, 1, 3, padding_mode="reflect")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="gradient_quantization must be None or"):
        QConvTranspose2d(1, 1, 3, gradient_quantization=6)  # type: ignore[arg-type]


# In a model


def autoencoder() -> nn.Sequential:
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 4, 2, 2),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 1, 3, padding=1),
    )


def test_quantize_converts_them() -> None:
    model = autoencoder()
    weight, keys = model[2].weight, list(model.state_dict())
    rows = quantize_(model, LowBitConfig(1, 2, 6)).layers
    assert [(row.name, row.became) for row in rows][1] == ("2", "QConvTranspose2d")
    assert type(model[2]) is QConvTranspose2d
    assert model[2].weight is weight
    assert list(model.state_dict()) == keys
    model(torch.rand(2, 1, 8, 8)).sum().backward()
    assert weight.grad is not None
    float_(model)
    assert type(model[2]) is nn.ConvTranspose2d
    assert model[2].weight is weight
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(model(x), autoencoder()(x))


def test_an_autoencoder_can_be_deployed() -> None:
    model = autoencoder()
    quantize_(model, LowBitConfig(1, 2))
    assert can_deploy(model.eval(), torch.rand(1, 1, 8, 8))


def test_partial_deployment_leaves_them() -> None:
    pytest.importorskip("bitorch_runtime")
    from bitorch.deployment.partial.pack_layers import pack_layers

    model = autoencoder()
    quantize_(model, LowBitConfig(1, 2))
    packed = pack_layers(model.eval())
    row = packed.rows[1]
    assert (row.became, row.bits) == ("as it was", "W1A2")
    assert "a transposed convolution is packed in a model that is deployed whole" in row.reason
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(packed.model(x), model(x))
