"""Weights with a learned step or a scale per channel: against float64 NumPy, and layers on them against int64."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import oracle
import oracle_ranges
from bitorch import LowBitConfig, quantize_
from bitorch.layers import QConv1d, QConv2d, QConv3d, QLinear
from bitorch.quantizations import (
    InputCalibrated,
    InputLSQ,
    InputPACT,
    Quantization,
    RangeQuantization,
    WeightDoReFa,
    WeightLSQ,
)

BITS = range(1, 9)
INF, NAN = float("inf"), float("nan")
CHANNELS = 5
CONVS: dict[int, type[QConv1d | QConv2d | QConv3d]] = {1: QConv1d, 2: QConv2d, 3: QConv3d}
FUNCTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def with_step(bits: int, step: Tensor, dtype: torch.dtype = torch.float32) -> WeightLSQ:
    """A quantizer with that step: 0-dim, or [channels]."""
    quantizer = WeightLSQ(bits, None if step.dim() == 0 else len(step)).to(dtype)
    quantizer.load_state_dict({"step": step, "step_bits": torch.tensor(bits, dtype=torch.uint8)})
    return quantizer


def steps(per_channel: bool) -> Tensor:
    """Steps that float32 has."""
    return torch.tensor([0.71, 0.125, 1.3, 0.05, 2.0] if per_channel else 0.37).double()


def shaped(step: Tensor, dims: int = 4) -> oracle.Floats:
    """Steps as they broadcast against a weight."""
    values: oracle.Floats = step.double().numpy()
    return values.reshape(-1, *[1] * (dims - 1)) if step.dim() else values


def weights(bits: int, step: Tensor, shape: tuple[int, ...] = (CHANNELS, 4, 3, 3)) -> Tensor:
    """Weights inside the bounds and beyond, none where float32 may take the other of two levels; float64."""
    rng = np.random.default_rng(bits)
    low, high = oracle_ranges.weight_bounds(bits)
    y = rng.uniform(1.4 * low - 0.3, 1.4 * high + 0.3, 4000)
    doubtful = np.minimum(np.abs(y - low), np.abs(y - high)) < 1e-3
    doubtful |= oracle.distance_to_tie(y) < 1e-3
    y = y[~doubtful][: math.prod(shape)].reshape(shape)
    return torch.from_numpy((y * shaped(step, len(shape))).astype(np.float32).astype(np.float64))


def run(quantizer: nn.Module, w: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the value, the gradient of the weight and that of the step."""
    quantizer.zero_grad()
    leaf = w.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    value = quantizer(leaf)
    value.backward(g)
    assert leaf.grad is not None
    return value.detach(), leaf.grad, quantizer.step.grad if isinstance(quantizer, WeightLSQ) else None


# WeightLSQ


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_values_codes_and_all_gradients(bits: int, per_channel: bool, dtype: torch.dtype) -> None:
    step = steps(per_channel).to(dtype)
    quantizer, w = with_step(bits, step, dtype), weights(bits, step).to(dtype)
    g = torch.randn(w.shape, generator=torch.Generator().manual_seed(bits), dtype=dtype)
    value, of_weight, of_step = run(quantizer, w, g)
    w64, g64, s64 = w.double().numpy(), g.double().numpy(), shaped(step)
    codes = oracle_ranges.weight_codes(w64, s64, bits)
    assert np.array_equal(quantizer.codes(w).detach().numpy(), codes)
    double = dtype == torch.float64
    np.testing.assert_allclose(value.numpy(), codes * s64, rtol=1e-15 if double else 1e-7)
    assert np.array_equal(of_weight.numpy(), oracle_ranges.weight_gradient(w64, s64, bits, g64))
    assert of_step is not None
    assert of_step.dtype == dtype
    assert of_step.shape == step.shape
    expected = oracle_ranges.weight_step_gradient(w64, s64, bits, g64).reshape(step.shape)
    np.testing.assert_allclose(
        of_step.numpy(), expected, rtol=1e-11 if double else 2e-4, atol=1e-12 if double else 1e-5
    )


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bits", BITS)
def test_levels_ties_and_the_grid(bits: int, per_channel: bool) -> None:
    step = torch.ones(CHANNELS if per_channel else ())
    quantizer = with_step(bits, step)
    low, high = oracle_ranges.weight_bounds(bits)
    dense = torch.linspace(low - 2, high + 2, 4001).expand(CHANNELS, -1)
    levels = [-1, 1] if bits == 1 else list(range(low, high + 1))
    assert len(levels) == 2**bits
    assert quantizer.codes(dense).unique().tolist() == levels
    assert quantizer.max_code == -low
    assert quantizer.grid == ("odd" if bits == 1 else "signed")
    ties = (torch.arange(low, high) + 0.5).expand(CHANNELS, -1)
    expected = ties.sign() if bits == 1 else 2 * (ties / 2).round()
    if bits == 1:
        expected = torch.where(ties >= 0, 1.0, -1.0)
    assert torch.equal(quantizer.codes(ties), expected)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_degenerate_weights(bits: int, per_channel: bool) -> None:
    quantizer = with_step(bits, steps(per_channel).float())
    low, high = oracle_ranges.weight_bounds(bits)
    at_zero = 1 if bits == 1 else 0
    smallest = 2.0**-149
    row = torch.tensor([0.0, -0.0, INF, -INF, 1e30, -1e30, smallest, -smallest, 1e-30])
    expected = [at_zero, at_zero, high, low, high, low, at_zero, -at_zero, at_zero]
    w = row.expand(CHANNELS, -1)
    value, of_weight, of_step = run(quantizer, w, torch.ones(CHANNELS, len(row)))
    assert quantizer.codes(w).tolist() == [expected] * CHANNELS
    assert value.isfinite().all()
    assert of_weight.tolist() == [[1, 1, 0, 0, 0, 0, 1, 1, 1]] * CHANNELS
    assert of_step is not None
    shared = len(row) * (1 if per_channel else CHANNELS)
    sums = (2 * (high + low) + 3 * at_zero + at_zero - at_zero) * (1 if per_channel else CHANNELS)
    np.testing.assert_allclose(of_step.numpy(), np.full(of_step.shape, sums / math.sqrt(shared * high)), rtol=1e-5)
    nan = quantizer(torch.tensor([[0.3, NAN, -0.3]]).expand(CHANNELS, -1))
    assert nan[0].isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_where_the_step_starts(bits: int, per_channel: bool) -> None:
    w = torch.randn(CHANNELS, 4, 3, 3)
    w[2] = 0
    quantizer = WeightLSQ(bits, CHANNELS if per_channel else None)
    with pytest.raises(RuntimeError, match=r"WeightLSQ has no step yet; call initialize_\(weight\)"):
        quantizer(w)
    quantizer.initialize_(w)
    w64 = w.double().numpy()
    parts = [w64[i : i + 1] for i in range(CHANNELS)] if per_channel else [w64]
    expected = np.array([oracle_ranges.weight_start(part, bits) for part in parts])
    if per_channel and bits == 1:
        expected[2] = 2.0**-60  # ±s has no 0, so nothing is nearest
    np.testing.assert_allclose(quantizer.step.detach().numpy().reshape(-1), expected, rtol=1e-6)
    assert torch.equal(quantizer.scale(w).flatten(), quantizer.step.detach().flatten())
    assert quantizer.scale(w).shape == ((CHANNELS, 1, 1, 1) if per_channel else ())


@pytest.mark.parametrize("bits", BITS)
def test_all_zeros_can_leave_zero(bits: int) -> None:
    w = torch.zeros(3, 16)
    quantizer = WeightLSQ(bits)
    quantizer.initialize_(w)
    value, of_weight, of_step = run(quantizer, w, torch.randn(3, 16))
    assert value.abs().max() <= 2.0**-60
    assert (of_weight != 0).all()
    assert of_step is not None
    assert of_step.isfinite().all()
    assert (value.abs() > 0).all() == (bits == 1)


@pytest.mark.parametrize("step", [0.0, -1.0, 1e-30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_step_at_zero_or_below_counts_as_the_smallest(step: float, dtype: torch.dtype) -> None:
    quantizer = with_step(3, torch.ones(())).to(dtype)
    with torch.no_grad():
        quantizer.step.fill_(step)
    w = torch.tensor([[0.0, 1.0, -1.0, 6e4]], dtype=dtype)
    value, of_weight, of_step = run(quantizer, w, torch.ones_like(w))
    assert quantizer.scale(w).item() == 2.0**-60
    assert quantizer.codes(w).tolist() == [[0, 3, -4, 3]]
    assert of_step is not None
    assert all(t.isfinite().all() for t in (value, of_weight, of_step))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision_is_computed_in_single(per_channel: bool, dtype: torch.dtype) -> None:
    for bits in (1, 3, 8):
        quantizer = with_step(bits, steps(per_channel)).to(dtype)
        single = copy.deepcopy(quantizer).float()
        w = weights(bits, steps(per_channel)).to(dtype)
        g = torch.randn(w.shape).to(dtype)
        value, of_weight, of_step = run(quantizer, w, g)
        expected = run(single, w.float(), g.float())
        for ours, theirs in zip((value, of_weight, of_step), expected, strict=True):
            assert ours is not None
            assert theirs is not None
            assert ours.dtype == dtype
            assert torch.equal(ours, theirs.to(dtype))
        assert quantizer.codes(w).dtype == quantizer.scale(w).dtype == torch.float32


def test_any_memory_order_and_empty_weights() -> None:
    quantizer = with_step(3, steps(True).float())
    w = weights(3, steps(True)).float()
    g = torch.randn(w.shape)
    value, of_weight, of_step = run(quantizer, w, g)
    laid = run(quantizer, w.contiguous(memory_format=torch.channels_last), g)
    assert torch.equal(laid[0], value)
    assert torch.equal(laid[1], of_weight)
    torch.testing.assert_close(laid[2], of_step)
    empty = torch.empty(CHANNELS, 0, 3)
    value, of_weight, of_step = run(quantizer, empty, empty)
    assert value.shape == of_weight.shape == empty.shape
    assert of_step is not None
    assert of_step.tolist() == [0] * CHANNELS


def test_bad_arguments() -> None:
    for bits, error in ((0, ValueError), (9, ValueError), (2.0, TypeError)):
        with pytest.raises(error):
            WeightLSQ(bits)  # type: ignore[arg-type]  # the error
    with pytest.raises(ValueError, match="channels must be at least 1, or None for one step per layer, got 0"):
        WeightLSQ(2, 0)
    quantizer = WeightLSQ(2, 4)
    with pytest.raises(ValueError, match=r"4 channels, but the weight \[3, 5\] has 3 in dim 0"):
        quantizer.initialize_(torch.randn(3, 5))
    quantizer.initialize_(torch.randn(4, 5))
    for call in (quantizer, quantizer.codes):
        with pytest.raises(ValueError, match="3 in dim 0"):
            call(torch.randn(3, 5))
    with pytest.raises(TypeError, match="floating-point"):
        quantizer(torch.ones(4, 5, dtype=torch.int32))


def test_32_bits_change_nothing() -> None:
    w, quantizer = torch.randn(3, 4), WeightLSQ(32)
    assert torch.equal(quantizer(w), w)
    assert quantizer.max_code is None
    for call in (quantizer.codes, quantizer.scale):
        with pytest.raises(TypeError, match="has no fixed grid"):
            call(w)


@pytest.mark.parametrize("channels", [None, 3])
def test_other_bits_keep_the_parameter_and_what_was_learned(channels: int | None) -> None:
    w, quantizer = torch.randn(3, 40), WeightLSQ(8, channels)
    quantizer.initialize_(w)
    with torch.no_grad():
        quantizer.step.mul_(1.25)
    step = quantizer.step
    for bits in (8, 4, 2, 32, 2, 1, 8):
        quantizer.set_bits_(bits)
        assert quantizer.step is step
        assert step.requires_grad
        assert quantizer.bit_width == bits
        if bits < 32:
            fresh = WeightLSQ(bits, channels)
            fresh.initialize_(w)
            torch.testing.assert_close(step, 1.25 * fresh.step)
    with pytest.raises(ValueError, match="9"):
        quantizer.set_bits_(9)
    assert quantizer.bit_width == 8


@pytest.mark.parametrize("channels", [None, 3])
def test_steps_survive_state_dict_deepcopy_and_pickle(channels: int | None) -> None:
    w, quantizer = torch.randn(3, 40), WeightLSQ(4, channels)
    quantizer.initialize_(w)
    loaded, other_bits = WeightLSQ(4, channels), WeightLSQ(2, channels)
    loaded.load_state_dict(quantizer.state_dict())
    other_bits.load_state_dict(quantizer.state_dict())
    for other in (loaded, copy.deepcopy(quantizer), pickle.loads(pickle.dumps(quantizer))):
        assert torch.equal(other(w), quantizer(w))
    quantizer.set_bits_(2)
    assert torch.equal(other_bits(w), quantizer(w))


# WeightDoReFa per channel


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_dorefa_per_channel_is_the_paper_for_each_channel(bits: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(bits)
    w = torch.randn(4, 6, 3, 3, generator=generator, dtype=dtype) * torch.tensor([0.01, 1, 3, 1e-6], dtype=dtype).view(
        -1, 1, 1, 1
    )
    w = torch.cat([w, torch.zeros(1, 6, 3, 3, dtype=dtype), torch.full((1, 6, 3, 3), -0.5, dtype=dtype)])
    g = torch.randn(w.shape, generator=generator, dtype=dtype)
    quantizer = WeightDoReFa(bits, variant="paper", per_channel=True)
    value, gradient, _ = run(quantizer, w, g)
    double = dtype == torch.float64
    for channel in range(len(w)):
        w64, g64 = w[channel].double().numpy(), g[channel].double().numpy()
        expected = oracle.weight_value(w64, bits)
        sure = np.ones(w64.shape, dtype=bool)
        if bits > 1 and not double:
            sure = oracle.distance_to_tie(oracle.weight_position(w64, bits)) > 2**bits * 2.0**-20
        if channel == 4 and bits > 1:
            sure[:] = True  # zeros are a tie on purpose, and go to +1
        np.testing.assert_allclose(value[channel].numpy()[sure], expected[sure], rtol=1e-12 if double else 2e-6)
        np.testing.assert_allclose(
            gradient[channel].numpy(),
            oracle.weight_gradient(w64, bits, g64),
            rtol=1e-9 if double else 2e-3,
            atol=1e-9 if double else 2e-3 * np.abs(g64).max() / max(1e-6, np.abs(w64).max()),
        )
    scale = quantizer.scale(w)
    if bits == 1:
        means = [oracle.weight_scale(channel.double().numpy(), 1) for channel in w]
        np.testing.assert_allclose(scale.numpy(), np.reshape(means, (-1, 1, 1, 1)), rtol=1e-6)
    else:
        assert scale.dim() == 0
    assert torch.equal(value, quantizer.codes(w) * scale if bits == 1 else quantizer.codes(w) / (2**bits - 1))


def test_dorefa_per_channel_is_only_of_the_paper() -> None:
    with pytest.raises(ValueError, match=r'per_channel=True needs variant="paper"'):
        WeightDoReFa(1, per_channel=True)


# Layers, forward against int64


@st.composite
def input_quantizers(draw: st.DrawFn) -> RangeQuantization:
    """A quantizer with a range, unsigned, signed or with a zero point."""
    bits = draw(st.integers(1, 8))
    n = 2**bits - 1
    kind = draw(st.sampled_from(["calibrated", "pact", "lsq", "lsq+"]))
    state: dict[str, Tensor] = {"range_bits": torch.tensor(bits, dtype=torch.uint8)}
    width = draw(st.floats(0.25, 3, width=32))
    quantizer: RangeQuantization
    if kind == "calibrated":
        quantizer = InputCalibrated(bits)
        state |= {"range_width": torch.tensor(width), "range_zero": torch.tensor(float(draw(st.integers(0, n))))}
    elif kind == "pact":
        quantizer = InputPACT(bits)
        state |= {"alpha": torch.tensor(width)}
    else:
        quantizer = InputLSQ(bits, offset=kind == "lsq+")
        zero = draw(st.sampled_from([0, (n + 1) // 2] if bits > 1 else [0]) if kind == "lsq" else st.integers(0, n))
        state |= {"step": torch.tensor(width / n)}
        state |= (
            {"range_zero": torch.tensor(float(zero))} if kind == "lsq" else {"offset": torch.tensor(-zero * width / n)}
        )
    quantizer.load_state_dict(state)
    return quantizer


def weight_quantizer(draw: st.DrawFn, channels: int) -> Quantization:
    bits = draw(st.integers(1, 8))
    if draw(st.integers(0, 2)) == 0:
        return WeightDoReFa(bits, variant="paper", per_channel=draw(st.booleans()))
    return WeightLSQ(bits, draw(st.sampled_from([None, channels])))


def disturb(layer: Any) -> Any:
    """Steps and biases as training leaves them."""
    with torch.no_grad():
        if isinstance(layer.weight_quantization, WeightLSQ):
            step = layer.weight_quantization.step
            step.mul_(torch.rand(step.shape) + 0.5)
        if layer.bias is not None:
            nn.init.normal_(layer.bias)
    return layer


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Any, Tensor]:
    """A convolution of any geometry with a learned or calibrated range, and a batch that fits."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    dims, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    channels, outputs = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    kernel, dilation = each(1, 3), each(1, 2)
    padding: Any = draw(st.sampled_from(["same", each(0, 2)]))
    stride: Any = (1,) * dims if padding == "same" else each(1, 3)
    mode: Any = draw(st.sampled_from(["zeros", "zeros", "replicate"]))
    sizes = [d * (k - 1) + 1 + draw(st.integers(0, 3)) for k, d in zip(kernel, dilation, strict=True)]
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
        weight_quantization=weight_quantizer(draw, outputs),
        input_quantization=draw(input_quantizers()),
    )
    x = torch.randn(draw(st.sampled_from([1, 3])), channels, *sizes) * 2
    if dims == 2 and draw(st.booleans()):
        x = x.contiguous(memory_format=torch.channels_last)
    return disturb(layer), x


def expected_output(layer: Any, x: Tensor) -> Tensor:
    """float32(D)·(s_x·s_w) + b, D in int64 with zeros for the border, s_w a number or one for each channel."""
    q = layer.input_quantization.codes(x).detach().numpy().astype(np.int64)
    c = layer.weight_codes().numpy().astype(np.int64)
    over = [1] * (len(layer.kernel_size) if not isinstance(layer, QLinear) else 0)
    if isinstance(layer, QLinear):
        d = oracle.linear(q, c)
    else:
        borders = (
            oracle.same_borders(layer.kernel_size, layer.dilation)
            if layer.padding == "same"
            else [(p, p) for p in layer.padding]
        )
        q = oracle.pad(q, borders, 0, layer.padding_mode)
        d = oracle.convolve(q, c, layer.stride, layer.dilation, layer.groups)
    input_scale = layer.input_quantization.scale(x).numpy()
    weight_scale = layer.weight_scale().detach().numpy()
    scale = input_scale * (weight_scale.reshape(-1, *over) if weight_scale.ndim else weight_scale)
    assert scale.dtype == np.float32
    y = d.astype(np.float32) * scale
    if layer.bias is not None:
        y = y + layer.bias.detach().numpy().reshape(-1, *over)
    return torch.from_numpy(y)


def check(layer: Any, x: Tensor) -> None:
    expected = expected_output(layer, x)
    assert torch.equal(layer(x).detach(), expected)
    with torch.no_grad():
        assert torch.equal(layer(x), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x).detach(), expected)


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_convolutions(case: tuple[Any, Tensor]) -> None:
    check(*case)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(convolutions())
def test_many_convolutions(case: tuple[Any, Tensor]) -> None:
    check(*case)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 40), st.integers(1, 5), st.sampled_from([(), (0,), (3,), (2, 3)]), st.booleans())
def test_linear_layers(data: Any, inputs: int, outputs: int, batch: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(data.draw(st.integers(0, 2**31)))
    layer = QLinear(
        inputs,
        outputs,
        bias,
        weight_quantization=weight_quantizer(data.draw, outputs),
        input_quantization=data.draw(input_quantizers()),
    )
    check(disturb(layer), torch.randn(*batch, inputs) * 2)


def ranged(kind: str, bits: int = 4) -> RangeQuantization:
    """A quantizer with a range for numbers about −1 … 2."""
    kinds: dict[str, RangeQuantization] = {
        "calibrated": InputCalibrated(bits),
        "pact": InputPACT(bits),
        "lsq": InputLSQ(bits),
        "lsq+": InputLSQ(bits, offset=True),
    }
    kinds[kind].fit_(torch.linspace(-1, 2, 100))
    return kinds[kind]


# Gradients of layers


@pytest.mark.parametrize("kind", ["calibrated", "pact", "lsq", "lsq+"])
@pytest.mark.parametrize("weight", ["lsq", "lsq-channel", "dorefa-channel"])
@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_gradients_of_a_layer_are_those_of_the_float_computation(kind: str, weight: str, dims: int) -> None:
    """F.linear or F.conv on quantized values, whose own gradients are held to the papers'."""
    torch.manual_seed(dims)
    for bits in (1, 3):
        quantizer: Quantization = (
            WeightDoReFa(bits, variant="paper", per_channel=True)
            if weight == "dorefa-channel"
            else WeightLSQ(bits, 4 if weight == "lsq-channel" else None)
        )
        both: dict[str, Any] = {
            "input_quantization": ranged(kind),
            "weight_quantization": quantizer,
            "gradient_cancellation_threshold": 0.0,
        }
        layer: Any
        if dims == 0:
            layer, x = QLinear(6, 4, **both), 3 * torch.randn(5, 6)
        else:
            layer = CONVS[dims](4, 4, 3, 2, 1, groups=2, bias=True, **both)
            x = 3 * torch.randn(2, 4, *[5] * dims)
        layer, x = disturb(layer).double(), x.double()
        results = []
        for exact in (True, False):
            layer.zero_grad()
            leaf = x.clone().requires_grad_()
            if exact:
                y = layer(leaf)
            else:
                values = layer.input_quantization(leaf), layer.weight_quantization(layer.weight), layer.bias
                y = F.linear(*values) if dims == 0 else FUNCTIONS[dims](*values, 2, 1, 1, 2)
            y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype))
            results.append([y.detach(), leaf.grad, *(p.grad.clone() for p in layer.parameters())])
        for ours, expected in zip(*results, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-10)
        for name, parameter in layer.named_parameters():
            assert parameter.grad is not None
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("range", "learned_by", "method", "scale"),
    [
        *itertools.product(["learned"], ["lsq", "lsq+", "pact"], ["dorefa", "lsq"], ["layer", "channel"]),
        *itertools.product(["calibrated"], ["lsq"], ["dorefa", "lsq"], ["layer", "channel"]),
    ],
)
def test_a_converted_net_trains_all_its_steps(range: Any, learned_by: Any, method: Any, scale: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    quantize_(
        net,
        LowBitConfig(2, 3, range=range, learned_by=learned_by, weights=method, weight_scale=scale, last="same"),
    )
    for module in net.modules():
        if isinstance(module, RangeQuantization):
            module.fit_(0.02 * torch.randn(500))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    F.cross_entropy(net(torch.randn(8, 3, 8, 8)), torch.arange(8) % 3).backward()
    optimizer.step()
    for name, parameter in net.named_parameters():
        assert parameter.isfinite().all()
        if name != "0.bias":  # in front of a BatchNorm
            assert not torch.equal(parameter.detach(), before[name]), name


# State of layers


def learned(layer: QLinear) -> tuple[WeightLSQ, RangeQuantization]:
    """The quantizers of weight and input."""
    weight, activation = layer.weight_quantization, layer.input_quantization
    assert isinstance(weight, WeightLSQ)
    assert isinstance(activation, RangeQuantization)
    return weight, activation


def float_and_low_bit() -> tuple[nn.Linear, QLinear]:
    torch.manual_seed(3)
    low = QLinear(6, 4, weight_quantization=WeightLSQ(3, 4), input_quantization=ranged("lsq+"))
    return nn.Linear(6, 4), low


def test_a_float_state_dict_loads_strictly_and_starts_the_steps() -> None:
    other, layer = float_and_low_bit()
    weight, activation = learned(layer)
    limits, step = activation.limits(), weight.step
    layer.load_state_dict(other.state_dict(), strict=True)
    fresh = WeightLSQ(3, 4)
    fresh.initialize_(other.weight)
    assert weight.step is step
    assert torch.equal(step, fresh.step)
    assert activation.limits() == limits


def test_a_state_dict_without_the_layer_leaves_its_steps() -> None:
    _, layer = float_and_low_bit()
    net = nn.Sequential(layer, nn.Linear(4, 2))
    with torch.no_grad():
        learned(layer)[0].step.mul_(3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict({"1.weight": torch.zeros(2, 4)}, strict=False)
    net.load_state_dict({"0.bias": before["0.bias"]}, strict=False)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) or name == "1.weight"


def test_a_layer_round_trips_and_changes_bits() -> None:
    _, layer = float_and_low_bit()
    disturb(layer)
    x = torch.randn(5, 6)
    fresh = QLinear(6, 4, weight_quantization=WeightLSQ(3, 4), input_quantization=InputLSQ(4, offset=True))
    with pytest.raises(RuntimeError, match="the range of InputLSQ is not set"):
        fresh(x)
    fresh.load_state_dict(layer.state_dict())
    other = QLinear(6, 4, weight_quantization=WeightLSQ(2, 4), input_quantization=InputLSQ(2, offset=True))
    other.load_state_dict(layer.state_dict())
    for same in (fresh, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(same(x), layer(x))
    parameters = {name: id(p) for name, p in layer.named_parameters()}
    for bits in (8, 4, 2, 32, 2):
        layer.weight_quantization.set_bits_(bits)
        layer.input_quantization.set_bits_(bits)
        assert {name: id(p) for name, p in layer.named_parameters()} == parameters
        assert layer(x).isfinite().all()
    assert layer.weight_codes().abs().max() <= 2
    assert other.weight_codes().abs().max() <= 2
    assert learned(other)[1].limits() == pytest.approx(learned(layer)[1].limits(), abs=1)
