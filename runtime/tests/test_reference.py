"""The reference against numbers worked out by hand and against torch in float64, which shares no code with it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bitorch_runtime import reference

Array = np.ndarray[Any, Any]


def nchw(x: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).double()


def nhwc(x: torch.Tensor) -> Array:
    array: Array = x.numpy().transpose(0, 2, 3, 1)
    return array


def f32(*values: float) -> Array:
    return np.array(values, np.float32)


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, Any]:
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    geometry: dict[str, Any] = {
        "kernel_size": [draw(st.integers(1, 4)), draw(st.integers(1, 4))],
        "stride": [draw(st.integers(1, 3)), draw(st.integers(1, 3))],
        "padding": [draw(st.integers(0, 5)) for _ in range(4)],
        "dilation": [draw(st.integers(1, 3)), draw(st.integers(1, 3))],
        "groups": groups,
        "in_channels": groups * draw(st.integers(1, 5)),
        "out_channels": groups * draw(st.integers(1, 5)),
        "batch": draw(st.integers(0, 3)),
    }
    for axis, side in enumerate(("height", "width")):
        reach = geometry["dilation"][axis] * (geometry["kernel_size"][axis] - 1) + 1
        least = max(1, reach - geometry["padding"][axis] - geometry["padding"][axis + 2])
        geometry[side] = least + draw(st.integers(0, 5))
    return geometry


def torch_convolution(x: Array, weight: Array, g: dict[str, Any]) -> Array:
    """weight [N, kh, kw, C/groups]."""
    top, left, bottom, right = g["padding"]
    padded = F.pad(nchw(x), (left, right, top, bottom))
    w = torch.from_numpy(np.ascontiguousarray(weight.transpose(0, 3, 1, 2))).double()
    return nhwc(F.conv2d(padded, w, None, g["stride"], 0, g["dilation"], g["groups"]))


@settings(max_examples=150, deadline=None)
@given(g=geometries(), seed=st.integers(0, 2**32 - 1), sign=st.booleans())
def test_convolution_of_codes_is_torchs(g: dict[str, Any], seed: int, sign: bool) -> None:
    rng = np.random.default_rng(seed)
    bits = 1 if sign else int(rng.integers(1, 9))
    codes = rng.integers(0, 2**bits, (g["batch"], g["height"], g["width"], g["in_channels"]))
    weight = 2 * rng.integers(0, 256, (g["out_channels"], *g["kernel_size"], g["in_channels"] // g["groups"])) - 255
    zero_point = 0 if sign else int(rng.integers(0, 2**bits))
    keys = {key: g[key] for key in ("stride", "padding", "dilation", "groups")}
    d = reference.conv2d_codes(codes, weight, **keys, sign_activations=sign, zero_point=zero_point)
    assert d.dtype == np.int64
    np.testing.assert_array_equal(d, torch_convolution(2 * codes - 1 if sign else codes - zero_point, weight, g))


@settings(max_examples=50, deadline=None)
@given(g=geometries(), seed=st.integers(0, 2**32 - 1))
def test_convolution_of_floats_is_torchs(g: dict[str, Any], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(g["batch"], g["height"], g["width"], g["in_channels"])).astype(np.float32)
    shape = (g["out_channels"], *g["kernel_size"], g["in_channels"] // g["groups"])
    weight = rng.normal(size=shape).astype(np.float32)
    y = reference.conv2d_float(x, weight, *(g[key] for key in ("stride", "padding", "dilation", "groups")))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, torch_convolution(x, weight, g), rtol=2e-7, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(g=geometries(), seed=st.integers(0, 2**32 - 1), floats=st.booleans())
def test_max_pool_is_torchs(g: dict[str, Any], seed: int, floats: bool) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (g["batch"], g["height"], g["width"], g["in_channels"]))
    values: Array = (x - 128).astype(np.float32) if floats else x
    padding = g["padding"]
    result = reference.max_pool(values, g["kernel_size"], g["stride"], padding, g["dilation"])
    top, left, bottom, right = padding
    padded = F.pad(nchw(values), (left, right, top, bottom), value=-np.inf if floats else 0)
    windows = F.max_pool2d(padded, g["kernel_size"], g["stride"], 0, g["dilation"])
    assert result.dtype == values.dtype
    np.testing.assert_array_equal(result, nhwc(windows))


@pytest.mark.parametrize("count_include_pad", [True, False])
def test_average_pool_is_torchs(count_include_pad: bool) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (2, 7, 9, 3))
    x = rng.normal(size=codes.shape).astype(np.float32)
    keys = ([3, 4], [2, 1], [1, 2, 1, 2], count_include_pad)
    for values, scale in ((codes, 1 / 3), (x, None)):
        expected = F.avg_pool2d(nchw(values), [3, 4], [2, 1], [1, 2], count_include_pad=count_include_pad)
        y = reference.avg_pool(values, *keys, scale=scale)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, nhwc(expected) * (scale or 1), rtol=1e-6, atol=1e-6)
    mean = codes.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(reference.global_avg_pool(codes, 0.25), mean * 0.25, rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 5, 16, 40])
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_average_of_floats_is_torchs_to_the_last_bit(channels: int, count_include_pad: bool) -> None:
    x = np.random.default_rng(channels).normal(0, 3, (2, 13, 11, channels)).astype(np.float32)
    y = reference.avg_pool(x, [3, 4], [2, 1], [1, 2, 1, 2], count_include_pad)
    image = torch.from_numpy(x).permute(0, 3, 1, 2)
    for memory in (torch.contiguous_format, torch.channels_last):
        expected = F.avg_pool2d(
            image.contiguous(memory_format=memory), [3, 4], [2, 1], [1, 2], False, count_include_pad
        )
        np.testing.assert_array_equal(y, nhwc(expected))


def test_average_of_codes_multiplies_then_divides() -> None:
    seven, nine, scale = np.float32(7), np.float32(9), np.float32(0.1)
    assert seven * scale / nine not in (seven / nine * scale, seven * (scale / nine))
    codes = np.array([1] * 7 + [0] * 2).reshape(1, 3, 3, 1)
    assert reference.global_avg_pool(codes, 0.1).item() == seven * scale / nine


def test_a_convolution_by_hand() -> None:
    codes = np.array([[[[1], [2]], [[3], [0]]]])  # one image of 2×2
    weight = np.array([[[[1], [-3]], [[3], [-1]]]])
    assert reference.conv2d_codes(codes, weight).ravel().tolist() == [1 * 1 - 3 * 2 + 3 * 3 - 1 * 0]
    d = reference.conv2d_codes(codes, weight, padding=(1, 0, 0, 1))
    assert d[0, :, :, 0].tolist() == [[3 * 1 - 1 * 2, 3 * 2], [4, 1 * 2]]


def test_borders_of_signs_contribute_nothing() -> None:
    d = reference.conv2d_codes(np.array([[[[0]]]]), np.ones((1, 3, 3, 1)), padding=(1, 1, 1, 1), sign_activations=True)
    assert d.tolist() == [[[[-1]]]]


def test_float_stage_rounds_after_each_step() -> None:
    # 3·(1 + 2^-23) needs a 25th bit: rounded it is 3 + 2^-21, fused with the offset −3 it would leave 3·2^-23.
    assert 3 * (1 + 2.0**-23) - 3 == 3 * 2.0**-23
    y = reference.float_stage(np.array([[[[3]]]]), f32(1 + 2.0**-23), f32(-3))
    assert y.item() == 2.0**-21
    # float32(D) itself rounds: 2^24 + 1 to 2^24.
    assert reference.float_stage(np.array([2**24 + 1]), f32(1), f32(0)).item() == 2**24
    y = reference.float_stage(np.array([5, -5, -5]), f32(1, 1, np.nan), f32(0, 0, 0), f32(0, 1, 0), rectify=True)
    np.testing.assert_array_equal(y, f32(5, 0, np.nan))


def rounded(value: Fraction) -> float:
    """The float32 nearest to a number, halves to even: from its distance to multiples of the last bit there."""
    if value == 0:
        return 0.0
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    last_bit = Fraction(2) ** max(exponent - 23, -149)
    nearest = round(magnitude / last_bit) * last_bit  # Python rounds halves to even
    result = float(nearest) if nearest < Fraction(2) ** 128 else np.inf
    return result if value > 0 else -result


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def beside_ties(draw: st.DrawFn) -> tuple[float, float, float]:
    """x·multiply is half of offset's last bit, or that and less than float64 can add to offset."""
    k, scale = draw(st.integers(-100, 100)) * 2.0**-23, 2.0 ** draw(st.integers(-148, 100))
    signs = [draw(st.sampled_from([-1.0, 1.0])) for _ in range(2)]
    offset = signs[1] * (2**24 + 2 * draw(st.integers(0, 2**22))) * scale
    return signs[0] * (1 + k), float(np.float32((1 - k) * scale)), float(np.float32(offset))


@settings(max_examples=1500, deadline=None)
@given(numbers=st.one_of(beside_ties(), st.tuples(FLOATS, FLOATS, FLOATS)))
@example(numbers=(1 + 2.0**-23, 1 - 2.0**-23, 2.0**24 + 2))  # float64 sees a tie, and takes the even side
@example(numbers=(2.0**-149, 0.5, 0.0))
@example(numbers=(2.0**-149, 0.5, 2.0**-149))
@example(numbers=(2.0**-149, 2.0**-149, 2.0**-126))
@example(numbers=(2.0**-149, 2.0**-149, -(2.0**127)))
@example(numbers=(float(np.finfo(np.float32).max), 2.0, -float(np.finfo(np.float32).max)))
@example(numbers=(1.0, 2.0**127, float(np.finfo(np.float32).max)))
def test_fused_multiply_add_rounds_once(numbers: tuple[float, float, float]) -> None:
    x, multiply, offset = numbers
    expected = rounded(Fraction(x) * Fraction(multiply) + Fraction(offset))
    with np.errstate(over="ignore", under="ignore"):
        y = reference.fused_multiply_add(f32(x), f32(multiply), f32(offset))
    assert y.dtype == np.float32
    assert y.item() == expected


def test_fused_multiply_add_of_special_values() -> None:
    inf, nan = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        y = reference.fused_multiply_add(
            f32(inf, inf, inf, 0, nan, 1, 1), f32(1, -1, 1, inf, 0, 1, 3e38), f32(-5, 0, -inf, 1, 1, nan, -inf)
        )
    np.testing.assert_array_equal(y, f32(inf, -inf, nan, nan, nan, nan, -inf))


def test_norm_is_one_step_of_the_float_stage() -> None:
    # 1 + 2^-12 squared is 1 + 2^-11 + 2^-24, of which float32 keeps the first two terms.
    x, norm = np.array([[[[1]]]]), (f32(1 + 2.0**-12), f32(-1))
    multiply, offset = f32(1 + 2.0**-12), f32(0)
    assert reference.float_stage(x, multiply, offset, norm=norm).item() == 2.0**-11 + 2.0**-24
    assert reference.float_stage(x, *norm).item() == 2.0**-12
    # Before it two roundings, after it one more, and then the maximum.
    residual = f32(-1)
    assert reference.float_stage(x, multiply, offset, residual, norm=norm).item() == np.float32(
        -1 + 2.0**-11 + 2.0**-24
    )
    assert reference.float_stage(x, multiply, offset, residual, rectify=True, norm=norm).item() == 0


def test_affine_divides_scales_norms_adds_and_clamps() -> None:
    arrays = {"d": f32(3), "m": f32(0.1), "o": f32(0.7), "nm": f32(1.3), "no": f32(-2.1)}
    x, residual = f32(5.5), f32(0.3)
    third: NDArray[np.float32] = np.divide(x, f32(3))
    scaled: NDArray[np.float32] = third * f32(0.1) + f32(0.7)
    normed = reference.fused_multiply_add(scaled, f32(1.3), f32(-2.1))
    keys = {"multiply": "m", "offset": "o"}, {"norm_multiply": "nm", "norm_offset": "no"}
    expected: list[tuple[dict[str, Any], Array]] = [
        ({"divide": "d"}, third),
        ({"divide": "d", **keys[0]}, scaled),
        ({"divide": "d", **keys[0], **keys[1]}, normed),
        (keys[1], reference.fused_multiply_add(x, f32(1.3), f32(-2.1))),
        ({"divide": "d", **keys[0], **keys[1], "residual": "r"}, normed + residual),
        ({**keys[0], "high": 0.5}, f32(0.5)),
        ({"low": 6}, f32(6)),
        ({"residual": "r"}, x + residual),
    ]
    tensors = {name: reference.Tensor(values.reshape(1, 1, 1, 1)) for name, values in (("x", x), ("r", residual))}
    for operation, y in expected:
        result = reference.apply({"op": "affine", "input": "x", "float32": "y", **operation}, tensors, arrays)
        np.testing.assert_array_equal(result["y"].values.ravel(), y)


def test_thresholds_count() -> None:
    x = np.array([-4, 2, 3, 9])[:, np.newaxis]
    thresholds = np.array([[2, 3, 3]])
    assert reference.apply_thresholds(x, thresholds).ravel().tolist() == [0, 1, 3, 3]
    assert reference.apply_thresholds(x, thresholds, np.array([True])).ravel().tolist() == [3, 3, 2, 0]
    nan = f32(np.nan)[:, np.newaxis]
    for falls in (True, False):
        assert reference.apply_thresholds(nan, f32(-np.inf)[:, np.newaxis], np.array([falls])).item() == 0


def test_unit_quantizer_rounds_half_to_even() -> None:
    y = f32(-1, 0, 0.5, 0.75, 1, np.inf, -np.inf, np.nan, -0.0)
    assert reference.unit_quantize(y, 1).tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert reference.unit_quantize(f32(1 / 6, 0.5, 5 / 6), 2).tolist() == [0, 2, 2]  # 0.5 (just below: 0), 1.5, 2.5


@pytest.mark.parametrize("bits", range(1, 9))
def test_quantize_is_dorefas(bits: int) -> None:
    n = 2**bits - 1
    x = torch.linspace(-0.5, 1.5, 4001, dtype=torch.float32)
    expected = torch.round(n * x.clamp(0, 1)).long().numpy()
    np.testing.assert_array_equal(reference.unit_quantize(x.numpy(), bits), expected)
    values = reference.dequantize(np.arange(n + 1), bits)
    np.testing.assert_array_equal(values, (torch.arange(n + 1).float() / torch.tensor(float(n))).numpy())


def test_values_of_signs() -> None:
    assert reference.dequantize(np.array([0, 1]), 1, sign=True).tolist() == [-1, 1]
    np.testing.assert_array_equal(
        reference.dequantize(np.array([0, 3]), 2, scale=0.1), f32(0, np.float32(3) * f32(0.1)[0])
    )


def test_lookup_by_channel() -> None:
    codes = np.array([[[[0, 1]]]])
    assert reference.lookup(codes, np.array([7, 5], np.uint8)).tolist() == [[[[7, 5]]]]
    assert reference.lookup(codes, np.array([[7, 5], [2, 4]], np.uint8)).tolist() == [[[[7, 4]]]]


def test_values_of_a_table() -> None:
    table = f32(-0.5, 0.25, 7, 0.1)
    assert reference.table_entries(np.array([3, 0, 2]), table).tolist() == f32(0.1, -0.5, 7).tolist()
    assert reference.table_entries(np.array([[[[0, 1]]]]), np.stack([table, table + 1])).tolist() == [[[[-0.5, 1.25]]]]


SPECIAL = f32(0, -0.0, 1, -1, 3, -3, 2.9999998, 6.5, 1e-30, -1e-45, 30, -30, 3e38, -3e38, np.inf, -np.inf, np.nan)


def activation_inputs() -> Array:
    x = np.random.default_rng(5).normal(0, 3, (2, 4, 5, 17)).astype(np.float32)
    x[0, 0, 0] = SPECIAL
    return x


def test_piecewise_activations_are_torchs_to_the_last_bit() -> None:
    x = activation_inputs()
    slope = np.random.default_rng(6).normal(0, 1, 17).astype(np.float32)
    image = torch.from_numpy(x).permute(0, 3, 1, 2)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(reference.hardswish(x), nhwc(F.hardswish(image)))
        np.testing.assert_array_equal(reference.hardsigmoid(x), nhwc(F.hardsigmoid(image)))
        np.testing.assert_array_equal(reference.leaky_relu(x, slope), nhwc(F.prelu(image, torch.from_numpy(slope))))


def units_apart(y: Array, true: Array) -> float:
    """The largest distance of float32 y from float64 numbers, in units in the last place of these.

    Infinite where NaN or infinity do not agree.
    """
    assert y.dtype == np.float32
    assert true.dtype == np.float64
    with np.errstate(all="ignore"):
        unit = np.exp2(np.maximum(np.frexp(true)[1] - 24, -149).astype(np.float64))
        units = np.abs(y - true) / unit
    same = (y == true) | (np.isnan(y) & np.isnan(true))
    return float(np.where(same, 0, np.where(np.isfinite(units), units, np.inf)).max())


#: In float64 of torch. The bounds are those of docs/runtime.md, and of ELU's slope, which rounds once more.
SMOOTH: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], float]] = {
    "sigmoid": (torch.sigmoid, 2.5),
    "tanh": (torch.tanh, 2.5),
    "silu": (F.silu, 2.5),
    "gelu": (lambda x: x * 0.5 * torch.special.erfc(-x * 0.5**0.5), 2.5),
    "gelu_tanh": (lambda x: x * torch.sigmoid((8 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)), 2.5),
}


@pytest.mark.parametrize("function", SMOOTH)
def test_smooth_activations_are_torchs(function: str) -> None:
    x = activation_inputs()
    true, most = SMOOTH[function]
    with np.errstate(all="ignore"):
        y = getattr(reference, function)(x)
    assert units_apart(y, true(torch.from_numpy(x).double()).numpy()) < most


def test_elu_is_torchs() -> None:
    x = activation_inputs()
    slope = np.random.default_rng(6).normal(0, 1, 17).astype(np.float32)
    wide = torch.from_numpy(x).double()
    expected = torch.where(wide > 0, wide, torch.expm1(wide) * torch.from_numpy(slope).double())
    with np.errstate(all="ignore"):
        y = reference.elu(x, slope)
    assert units_apart(y, expected.numpy()) < 3


@pytest.mark.parametrize("log", [False, True])
def test_softmax_is_torchs(log: bool) -> None:
    """In float32, some units in the last place apart."""
    x = activation_inputs()
    x[0, 0, 0] = 1
    expected = (F.log_softmax if log else F.softmax)(torch.from_numpy(x).double(), -1)
    assert units_apart(reference.softmax(x, log), expected.numpy()) < 3


#: Prints a digest of what the reference gives, and what NumPy has of the features named.
WORKER = """
import hashlib, sys, numpy as np
from bitorch_runtime import reference as r
from numpy._core._multiarray_umath import __cpu_features__ as features
np.seterr(all="ignore")
rng = np.random.default_rng(1)
patterns = rng.integers(0, 2**32, 100_003, dtype=np.uint32).view(np.float32)
x = np.concatenate([patterns, rng.normal(0, 5, 100_003).astype(np.float32)])
slope = rng.normal(0, 1, x.shape).astype(np.float32)
names = "sigmoid tanh silu gelu gelu_tanh hardswish hardsigmoid relu"
results = [getattr(r, name)(x) for name in names.split()]
results += [r.elu(x, slope), r.leaky_relu(x, slope), r.fused_multiply_add(x, slope, slope[::-1])]
results += [r.unit_quantize(x, bits).astype(np.float32) for bits in (1, 2, 8)]
image = x[: 2 * 20 * 20 * 100].reshape(2, 20, 20, 100)
results += [r.max_pool(image, [3, 3]), r.avg_pool(image, [3, 3]), r.global_avg_pool(image)]
print(hashlib.sha256(np.concatenate([np.nan_to_num(y).ravel() for y in results]).tobytes()).hexdigest())
print(*[name for name in sys.argv[1].split() if features.get(name)])
"""


def test_the_reference_is_the_same_on_every_cpu() -> None:
    """NumPy chooses its loops by the CPU; the reference has none of those whose last bits differ."""
    targets = sorted(importlib.import_module("numpy._core._multiarray_umath").__cpu_dispatch__)
    digests = set()
    for disabled in ("", " ".join(targets)):
        environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": disabled}
        command = [sys.executable, "-c", WORKER, " ".join(targets)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        digest, has = done.stdout.splitlines()
        assert not (disabled and has)
        digests.add(digest)
    assert len(digests) == 1


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad_is_torchs(mode: str) -> None:
    x = np.random.default_rng(7).normal(size=(2, 4, 5, 3)).astype(np.float32)
    padding, value = [3, 2, 1, 4], 0.5 if mode == "constant" else 0
    expected = F.pad(torch.from_numpy(x).permute(0, 3, 1, 2), (2, 4, 3, 1), mode, value)
    np.testing.assert_array_equal(reference.pad(x, padding, mode, value), nhwc(expected))
    codes = np.arange(4).reshape(1, 2, 2, 1)
    assert reference.pad(codes, [0, 1, 0, 0], mode, 2)[0, 0, :, 0].tolist() == [
        {"constant": 2, "reflect": 1, "replicate": 0, "circular": 1}[mode],
        0,
        1,
    ]


def test_pad_of_channels() -> None:
    x = f32(5, 6).reshape(1, 1, 1, 2)
    assert reference.pad(x, [0, 1, 0, 0], "constant", 9, [1, 2]).tolist() == [[[[9] * 5, [9, 5, 6, 9, 9]]]]


def test_flatten_orders() -> None:
    x = np.arange(8).reshape(1, 2, 2, 2)
    assert reference.flatten(x, "hwc").ravel().tolist() == list(range(8))
    assert reference.flatten(x, "chw").ravel().tolist() == torch.flatten(nchw(x), 1).ravel().tolist()


def network() -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """A float stem, a 2-bit convolution with a shortcut, and a linear head, in PyTorch's orders."""
    rng = np.random.default_rng(3)
    weight = 2 * rng.integers(0, 4, (6, 3, 3, 6)) - 3
    head = 2 * rng.integers(0, 2, (5, 6 * 4 * 4)) - 1
    same = {"kernel_size": [3, 3], "stride": [1, 1], "padding": [1, 1, 1, 1], "dilation": [1, 1], "groups": 1}
    arrays: dict[str, Array] = {
        "stem": rng.integers(-4, 5, (6, 3, 3, 3)).astype(np.float32) / 8,
        "weight": reference.pack_weights(weight, 2),
        "multiply": np.full(6, 1 / 9, np.float32),
        "offset": rng.normal(size=6).astype(np.float32),
        "head": reference.pack_weights(head, 1),
    }
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "image", "dtype": "float32", "shape": [3, 8, 8], "order": "nchw"},
        {"op": "conv2d_float", "input": "image", "weight": "stem", "out_channels": 6, **same, "float32": "stream"},
        {"op": "quantize", "input": "stream", "output": "codes", "bits": 2},
        {"op": "conv2d", "input": "codes", "weight": "weight", "weight_bits": 2, "out_channels": 6, **same}
        | {"multiply": "multiply", "offset": "offset", "residual": "stream", "relu": True, "float32": "block"},
        {"op": "max_pool", "input": "block", "output": "small", "kernel_size": [2, 2], "stride": [2, 2]}
        | {"padding": [0, 0, 0, 0]},
        {"op": "quantize", "input": "small", "output": "features", "bits": 2},
        {"op": "flatten", "input": "features", "output": "vector", "order": "chw"},
        {"op": "linear", "input": "vector", "weight": "head", "weight_bits": 1, "out_channels": 5, "int32": "scores"},
        {"op": "output", "input": "scores", "order": "nchw"},
    ]
    return operations, arrays


def test_a_whole_network_is_torchs() -> None:
    operations, arrays = network()
    image = np.random.default_rng(4).integers(-16, 17, (2, 3, 8, 8)).astype(np.float32) / 16
    weight = torch.from_numpy(reference.unpack_weights(arrays["weight"], 2, (3, 3, 6))).permute(0, 3, 1, 2)
    head = torch.from_numpy(reference.unpack_weights(arrays["head"], 1, (96,))).float()
    stream = F.conv2d(torch.from_numpy(image), torch.from_numpy(arrays["stem"]).permute(0, 3, 1, 2), padding=1)
    d = F.conv2d(torch.round(3 * stream.clamp(0, 1)), weight.float(), padding=1)
    multiply, offset = (torch.from_numpy(arrays[name]).view(-1, 1, 1) for name in ("multiply", "offset"))
    block = torch.relu(d * multiply + offset + stream)
    features = torch.round(3 * F.max_pool2d(block, 2).clamp(0, 1))
    scores = reference.run(operations, arrays, image)
    assert isinstance(scores, np.ndarray)
    assert scores.dtype == np.int32
    np.testing.assert_array_equal(scores, F.linear(features.flatten(1), head).numpy())


def test_several_outputs_come_by_name() -> None:
    operations, arrays = network()
    operations += [
        {"op": "output", "input": "codes", "order": "nhwc"},
        {"op": "output", "input": "block", "order": "nchw"},
    ]
    results = reference.run(operations, arrays, image=np.zeros((0, 3, 8, 8), np.float32))
    assert isinstance(results, dict)
    shapes = {name: (array.dtype, array.shape) for name, array in results.items()}
    assert shapes == {
        "scores": (np.dtype("int32"), (0, 5)),
        "codes": (np.dtype("uint8"), (0, 8, 8, 6)),
        "block": (np.dtype("float32"), (0, 6, 8, 8)),
    }


def test_inputs_that_do_not_fit_are_refused() -> None:
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "x", "dtype": "uint8", "bits": 2, "shape": [3], "order": "nchw"},
        {"op": "output", "input": "x", "order": "nchw"},
    ]
    with pytest.raises(ValueError, match=r"input 'x' must be of shape \[batch, 3\], got \[2, 4\]"):
        reference.run(operations, {}, np.zeros((2, 4), np.uint8))
    with pytest.raises(ValueError, match="dtype uint8, got float32"):
        reference.run(operations, {}, np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="holds the code 4; 2-bit codes go up to 3"):
        reference.run(operations, {}, np.full((2, 3), 4, np.uint8))
    with pytest.raises(TypeError, match=r"takes the inputs \['x'\], got 0 by position"):
        reference.run(operations, {})
    with pytest.raises(ValueError, match="there is no operation 'tanh'"):
        reference.run([operations[0], {"op": "tanh", "input": "x", "output": "y"}], {}, np.zeros((1, 3), np.uint8))


def test_inputs_of_different_batches_are_refused() -> None:
    """Also where nothing but a broadcast would notice, and where none of the inputs meet."""
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "a", "dtype": "float32", "shape": [2]},
        {"op": "input", "output": "b", "dtype": "float32", "shape": [2]},
        {"op": "add", "inputs": ["a", "b"], "float32": "sum"},
        {"op": "output", "input": "sum"},
    ]
    apart = [*operations[:2], {"op": "output", "input": "a"}, {"op": "output", "input": "b"}]
    one, three = np.zeros((1, 2), np.float32), np.zeros((3, 2), np.float32)
    for program in (operations, apart):
        with pytest.raises(ValueError, match=r"^the inputs have different batches: {'a': 1, 'b': 3}$"):
            reference.run(program, {}, one, three)
        with pytest.raises(ValueError, match=r"^the inputs have different batches: {'a': 3, 'b': 1}$"):
            reference.run(program, {}, b=one, a=three)
    result = reference.run(operations, {}, three, three)
    assert isinstance(result, np.ndarray)
    assert result.shape == (3, 2)


def test_limits_leave_zeros_and_nan_as_they_are() -> None:
    """As PyTorch's relu does, and every kernel; np.maximum promises no sign of zero."""
    y = f32(-0.0, 0.0, -1.0, 2.0, np.nan, -np.inf, np.inf)
    theirs = torch.relu(torch.from_numpy(y)).numpy()
    for limited in (reference.relu(y), reference.at_least(y, 0)):
        np.testing.assert_array_equal(limited, theirs)
        np.testing.assert_array_equal(np.signbit(limited), np.signbit(theirs))
    np.testing.assert_array_equal(reference.at_most(y, 0.0), f32(-0.0, 0.0, -1.0, 0.0, np.nan, -np.inf, 0.0))
    assert np.signbit(reference.at_most(y, 0.0)).tolist()[:2] == [True, False]


def test_the_reference_stands_alone() -> None:
    """It runs from its folder, with no package around it and nothing but NumPy."""
    code = (
        "import json, sys\n"
        f"sys.path.insert(0, {str(Path(reference.__file__).parents[1])!r})\n"
        "import reference\n"
        "print(json.dumps([name for name in sys.modules if name.split('.')[0] in ('torch', 'bitorch_runtime')]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
