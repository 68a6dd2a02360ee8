"""Steps of training, held to plain NumPy with equality: every number is defined to the bit."""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import training_oracle as oracle
from bitorch_runtime import training
from bitorch_runtime.training import Codes, Gradients
from test_objects import DEFAULT_BUILD
from training_oracle import Floats, Integers, Layer

CHECK = Path(os.environ.get("BITORCH_RUNTIME_BUILD", DEFAULT_BUILD)) / "check_training"
ALL_KERNELS = training.kernels()
#: "avx512" differs from "avx512-vpopcntdq" in how it multiplies few bits alone.
KERNELS = tuple(name for name in ALL_KERNELS if name != "avx512" or name == ALL_KERNELS[-1])
KEY = (0x12345678, 0x9ABCDEF0)


def random_weight(rng: np.random.Generator, bits: int, shape: tuple[int, ...]) -> Integers:
    """Odd codes −n … n."""
    n = 2**bits - 1
    odd: Integers = 2 * rng.integers(0, n + 1, shape) - n
    return odd


def stored(weight: Integers) -> NDArray[Any]:
    return weight.astype(np.int8 if np.abs(weight).max() <= 127 else np.int16)


def random_gradient(rng: np.random.Generator, shape: tuple[int, ...], specials: bool) -> Floats:
    g = (rng.standard_normal(shape) * 2.0 ** rng.integers(-20, 20)).astype(np.float32)
    if specials and shape[0] > 3:
        g[0], g[1].flat[-1], g[2].flat[0] = 0, np.nan, np.inf
    return g


def both_passes(
    layer: Layer,
    x: Floats,
    g: Floats | None,
    gradient_bits: int,
    kernel: str,
    threads: int,
    bias: Floats | None,
    grid: training.Grid = "odd",
) -> tuple[Floats, Gradients]:
    """y, and gradients where g is one; layers of one pixel run as linear ones."""
    weight = stored(layer.weight)
    result = training.conv2d(
        x,
        weight,
        layer.scale_x,
        layer.scale_w,
        bits=layer.bits,
        low=layer.low,
        bias=bias,
        stride=layer.stride,
        padding=layer.padding,
        groups=layer.groups,
        clips=layer.clips,
        threads=threads,
        kernel=kernel,
    )
    assert result.saved is not None
    if g is None:
        return result.y, Gradients(None, None, None)
    gradients = training.conv2d_backward(
        g,
        result.saved,
        weight,
        layer.scale_x,
        layer.scale_w,
        x_shape=x.shape,
        bits=layer.bits,
        low=layer.low,
        gradient_bits=gradient_bits,
        key=KEY,
        grid=grid,
        stride=layer.stride,
        padding=layer.padding,
        groups=layer.groups,
        clips=layer.clips,
        threads=threads,
        kernel=kernel,
    )
    return result.y, gradients


def check_layer(
    layer: Layer,
    x: Floats,
    gradient_bits: int,
    kernel: str,
    *,
    grid: training.Grid = "odd",
    specials: bool = False,
    threads: int = 1,
) -> None:
    rng = np.random.default_rng(x.size + gradient_bits)
    bias = rng.standard_normal((layer.weight.shape[0],)).astype(np.float32)
    g = random_gradient(rng, (x.shape[0], *layer.out(x.shape), layer.weight.shape[0]), specials)
    y, gradients = both_passes(layer, x, g, gradient_bits, kernel, threads, bias, grid)
    assert_array_equal(y, layer.forward(x, bias))
    codes, scale = oracle.gradient(g, gradient_bits, training.noise(g.shape[0], g[0].size, KEY), grid)
    assert_array_equal(gradients.x, layer.grad_x(x, codes, scale))
    assert_array_equal(gradients.weight, layer.grad_weight(x, codes, scale))
    assert_array_equal(gradients.bias, layer.grad_bias(codes, scale))


def random_case(seed: int) -> tuple[Layer, Floats, int]:
    """A layer of any bits and geometry, and x with numbers on and beyond the ends of the range."""
    rng = np.random.default_rng(seed)
    kernel = [int(k) for k in rng.choice([1, 2, 3, 5, 7], 2)]
    padding = int(rng.integers(0, 3)), int(rng.integers(0, 3))
    least = [max(1, kernel[i] - 2 * padding[i]) for i in range(2)]
    rows, columns = (int(rng.integers(low, low + rng.choice([1, 9, 20]))) for low in least)
    channels, outputs = (int(rng.choice([1, 3, 4, 17, 64, 70, 144])) for _ in range(2))
    bits, weight_bits, gradient_bits = (int(b) for b in rng.integers(1, 9, 3))
    layer = Layer(
        random_weight(rng, weight_bits, (outputs, *kernel, channels)),
        bits,
        1 / (2**bits - 1),
        float(rng.random()),
        (int(rng.integers(1, 4)), int(rng.integers(1, 4))),
        padding,
        bool(rng.integers(0, 2)),
    )
    batch = int(rng.choice([1, 4, 5])) if rows * columns > 100 else int(rng.integers(1, 10))
    x = rng.normal(0.4, 0.6, (batch, rows, columns, channels)).astype(np.float32)
    if layer.padding != (0, 0) and rng.integers(0, 3) == 0:
        layer, x = of_groups(layer, x, int(rng.integers(2, 5)))
    x.flat[: min(4, x.size)] = [0, 1, -0.0, np.inf][: min(4, x.size)]
    if rng.integers(0, 2):
        layer, x = of_codes(layer, x, rng)
    return layer, x, gradient_bits


def of_groups(layer: Layer, x: Floats, groups: int) -> tuple[Layer, Floats]:
    """As many times the channels, each group with another weight and another x."""
    weight = np.concatenate([np.roll(layer.weight, g, axis=3) * (-1) ** g for g in range(groups)])
    channels = np.concatenate([np.roll(x, g, axis=1) for g in range(groups)], axis=3)
    return replace(layer, weight=weight, groups=groups), channels


def of_codes(layer: Layer, x: Floats, rng: np.random.Generator) -> tuple[Layer, Floats]:
    """The layer on codes from −2^(bits−1) on, or from any number on; a few are out of range."""
    low = int(rng.choice([-(2 ** (layer.bits - 1)), rng.integers(-255, 1)]))
    codes = rng.integers(low, low + 2**layer.bits, x.shape).astype(np.float32)
    codes.flat[: min(3, x.size)] = [-np.inf, 1000, low - 1][: min(3, x.size)]
    return replace(layer, low=low, clips=False), codes


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("first", range(0, 45, 15))
def test_random_layers(kernel: str, first: int) -> None:
    for seed in range(first, first + 15):
        layer, x, bits = random_case(seed)
        grid: training.Grid = "signed" if bits > 1 and seed % 5 > 2 else "odd"
        check_layer(layer, x, bits, kernel, grid=grid, specials=True, threads=1 + seed % 3)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
def test_many_random_layers(kernel: str) -> None:
    for seed in range(1000, 2000):
        layer, x, bits = random_case(seed)
        grid: training.Grid = "signed" if bits > 1 and seed % 5 > 2 else "odd"
        check_layer(layer, x, bits, kernel, grid=grid, specials=True, threads=1 + seed % 3)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("one_pixel", [False, True])
def test_all_bits(kernel: str, one_pixel: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0.4, 0.5, (2, 3, 3, 5) if one_pixel else (2, 4, 5, 6)).astype(np.float32)
    padding = (0, 0) if one_pixel else (1, 1)
    for weight_bits in range(1, 9):
        weight = random_weight(rng, weight_bits, (5, 3, 3, x.shape[3]))
        for bits in range(1, 9):
            layer = Layer(weight, bits, 1 / (2**bits - 1), 0.037, padding=padding)
            for gradient_bits in range(1 + (weight_bits + bits) % 2, 9, 2):
                check_layer(layer, x, gradient_bits, kernel)
            check_layer(*of_codes(layer, x, rng), 1 + (weight_bits + bits) % 8, kernel)
            check_layer(layer, x, 2 + (weight_bits + bits) % 7, kernel, grid="signed")
            if weight_bits == bits:
                check_layer(*of_codes(*of_groups(layer, x, 3), rng), bits, kernel)


@pytest.mark.parametrize("kernel", KERNELS)
def test_channels_around_whole_vectors(kernel: str) -> None:
    """And numbers of a sample: one below and one above each multiple of 8, up to a whole block and its successor."""
    rng = np.random.default_rng(8)
    for channels in [n + more for n in range(8, 72, 8) for more in (-1, 0, 1)]:
        x = rng.normal(0.4, 0.6, (3, 2, 7, channels)).astype(np.float32)
        layer = Layer(random_weight(rng, 2, (9, 1, 3, channels)), 3, 1 / 7, 0.1)
        check_layer(layer, x, 6, kernel)
        layer = Layer(random_weight(rng, 3, (channels, 2, 2, 5)), 2, 1 / 3, 0.1, padding=(1, 1))
        check_layer(layer, x[..., :5].copy(), 5, kernel)
        one_pixel = Layer(random_weight(rng, 4, (channels, 1, 1, channels)), 4, 1 / 15, 0.1)
        check_layer(one_pixel, x[:, :1, :1].copy(), 4, kernel)
        check_layer(*of_codes(one_pixel, x[:, :1, :1].copy(), rng), 8, kernel)


def products_of_words(largest: int) -> int:
    """More products, of up to `largest`, than fit into 16 bits: four of each step, two of which are added in a word."""
    return 4 * (32767 // (2 * largest) + 2)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_at_the_bounds_of_words(kernel: str, sign: int) -> None:
    """All codes, weights and gradients as large as they get, so that all sums do, for all bits."""
    for weight_bits, bits in itertools.product(range(1, 9), repeat=2):
        n, q = 2**weight_bits - 1, 2**bits - 1
        inputs = products_of_words(q * min(n, 128))
        weight = stored(np.full((17, inputs), sign * n))
        y = training.linear(np.ones((7, inputs), np.float32), weight, 1, 1, bits=bits, save=False, kernel=kernel).y
        assert_array_equal(y, np.full((7, 17), sign * inputs * n * q, np.float32))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("grid", "gradient_bits"), [("odd", b) for b in range(1, 9)] + [("signed", 2), ("signed", 8)])
def test_gradients_at_the_bounds_of_words(kernel: str, sign: int, grid: training.Grid, gradient_bits: int) -> None:
    n_g = 2**gradient_bits - 1 if grid == "odd" else 2 ** (gradient_bits - 1) - 1
    level = n_g if grid == "odd" else 2 * n_g
    call: dict[str, Any] = {"gradient_bits": gradient_bits, "grid": grid, "key": None, "kernel": kernel}
    for bits in range(1, 9):  # of the weight, then of x
        n = 2**bits - 1
        outputs = products_of_words(level * min(n, 128))
        weight, x = stored(np.full((outputs, 9), sign * n)), np.ones((7, 9), np.float32)
        saved = training.linear(x, weight, 1, 1, bits=1, kernel=kernel).saved
        assert saved is not None
        g = np.full((7, outputs), n_g, np.float32)
        call_x: dict[str, Any] = {"bits": 1, "x_shape": x.shape, "needs": (True, False, False), **call}
        found = training.linear_backward(g, saved, weight, 1, 1, **call_x)
        assert_array_equal(found.x, np.full(x.shape, sign * outputs * n_g * n, np.float32))

        pixels = products_of_words(n * min(n_g, 128))
        weight, x = np.ones((17, 1, 1, 9), np.int8), np.ones((1, 1, pixels, 9), np.float32)
        saved = training.conv2d(x, weight, 1, 1, bits=bits, kernel=kernel).saved
        assert saved is not None
        g = np.full((1, 1, pixels, 17), sign * n_g, np.float32)
        call_w: dict[str, Any] = {"bits": bits, "x_shape": x.shape, "needs": (False, True, False), **call}
        found = training.conv2d_backward(g, saved, weight, 1, 1, **call_w)
        assert_array_equal(found.weight, np.full(weight.shape, sign * pixels * n_g * n, np.float32))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_that_covers_x_is_a_linear_layer(kernel: str) -> None:
    """Many samples and channels, so that there are whole and partial tiles of both."""
    rng = np.random.default_rng(1)
    for batch, channels, outputs in [(33, 70, 131), (1, 3, 1), (7, 64, 64)]:
        layer = Layer(random_weight(rng, 8, (outputs, 2, 1, channels)), 3, 1 / 7, 0.01)
        x = rng.normal(0.4, 0.6, (batch, 2, 1, channels)).astype(np.float32)
        check_layer(layer, x, 6, kernel, specials=True, threads=2)


@pytest.mark.parametrize("kernel", KERNELS)
def test_linear_layers_are_convolutions_of_one_pixel(kernel: str) -> None:
    rng = np.random.default_rng(2)
    weight = rng.integers(-1, 2, (9, 13)).astype(np.int8)  # three values, as TWN has them
    for shape in [(5, 13), (4, 3, 13), (2, 3, 2, 13), (3, 1, 13)]:
        x = rng.normal(0.4, 0.6, shape).astype(np.float32)
        result = training.linear(x, weight, 1 / 3, 0.1, bits=2, kernel=kernel)
        assert result.saved is not None
        layer = Layer(weight.astype(np.int64)[:, None, None], 2, 1 / 3, 0.1)
        pixels = x.reshape(shape[0], 1, -1, 13)
        assert_array_equal(result.y, layer.forward(pixels).reshape(*shape[:-1], 9))
        g = random_gradient(rng, result.y.shape, specials=True)
        gradients = training.linear_backward(
            g,
            result.saved,
            weight,
            1 / 3,
            0.1,
            x_shape=shape,
            bits=2,
            gradient_bits=5,
            key=KEY,
            kernel=kernel,
        )
        codes, scale = oracle.gradient(g, 5, training.noise(len(g), g[0].size, KEY))
        codes = codes.reshape(*pixels.shape[:3], 9)
        assert_array_equal(gradients.x, layer.grad_x(pixels, codes, scale).reshape(shape))
        assert_array_equal(gradients.weight, layer.grad_weight(pixels, codes, scale).reshape(9, 13))
        assert_array_equal(gradients.bias, layer.grad_bias(codes, scale))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("weight_bits", [2, 8])
def test_a_scale_for_each_output_channel(kernel: str, weight_bits: int) -> None:
    """Forward and the gradients of the weight and the bias are of integers; that of x is not, and is refused."""
    rng = np.random.default_rng(3)
    forms: list[dict[str, Any]] = [{}, {"clips": False, "low": -8}]
    for size, form in itertools.product((5, 3), forms):
        weight, x = random_weight(rng, weight_bits, (70, 3, 3, 4)), rng.random((2, size, size, 4), np.float32)
        scales, bias = rng.random(70, np.float32), rng.random(70, np.float32)
        layer = Layer(weight, 4, 1 / 15, scales, **form)
        x = x if layer.low is None else np.floor(16 * x) - 8
        call: dict[str, Any] = {"bits": 4, "kernel": kernel, **form}
        y, saved, _ = training.conv2d(x, stored(weight), 1 / 15, scales, bias=bias, **call)
        assert saved is not None
        assert_array_equal(y, layer.forward(x, bias))
        g = rng.standard_normal(y.shape).astype(np.float32)
        call |= {"x_shape": x.shape, "gradient_bits": 5, "key": KEY}
        needs = (False, True, True)
        found = training.conv2d_backward(g, saved, stored(weight), 1 / 15, scales, needs=needs, **call)
        codes, scale = oracle.gradient(g, 5, training.noise(len(g), g[0].size, KEY))
        assert_array_equal(found.weight, layer.grad_weight(x, codes, scale))
        assert_array_equal(found.bias, layer.grad_bias(codes, scale))
        with pytest.raises(ValueError, match=r"scale_w: an array of \(70,\), but must be one number"):
            training.conv2d_backward(g, saved, stored(weight), 1 / 15, scales, **call)


Pair = tuple[int, int]
FewBits = tuple[Pair, Pair, Pair, Pair, tuple[int, int, int, int]]
#: Weight and activation bits; kernel, padding, stride; rows, columns, channels, outputs. Forwards on planes of bits.
FEW_BITS: list[FewBits] = [
    ((1, 1), (3, 1), (1, 1), (1, 2), (4, 9, 400, 1)),
    ((1, 2), (3, 3), (1, 1), (1, 1), (5, 7, 64, 70)),
    ((1, 2), (5, 3), (2, 3), (2, 1), (6, 8, 130, 33)),
    ((2, 1), (2, 5), (2, 0), (1, 1), (3, 6, 83, 64)),  # rows of padding alone
    ((1, 3), (3, 3), (0, 1), (1, 1), (4, 19, 37, 144)),
    ((2, 2), (1, 1), (0, 0), (1, 1), (3, 13, 190, 200)),
    ((1, 1), (3, 3), (3, 3), (2, 2), (1, 1, 66, 50)),
    ((1, 2), (3, 2), (0, 0), (1, 1), (3, 2, 90, 200)),  # and linear layers
    ((2, 1), (1, 1), (0, 0), (1, 1), (1, 1, 530, 140)),
]


@pytest.mark.skipif("avx512-vpopcntdq" not in ALL_KERNELS, reason="no kernels for planes of bits run here")
@pytest.mark.parametrize("case", FEW_BITS)
def test_few_bits_are_multiplied_on_planes(case: FewBits) -> None:
    (weight_bits, bits), kernel, padding, stride, (rows, columns, channels, outputs) = case
    rng = np.random.default_rng(6)
    weight = random_weight(rng, weight_bits, (outputs, *kernel, channels))
    layer = Layer(weight, bits, 1 / (2**bits - 1), rng.random(outputs, np.float32), stride, padding)
    x, bias = rng.normal(0.4, 0.6, (27, rows, columns, channels)).astype(np.float32), rng.random(outputs, np.float32)
    call: dict[str, Any] = {"bits": bits, "stride": stride, "padding": padding}
    method = {k: training.forward_method(x.shape, stored(weight), **call, kernel=k) for k in ALL_KERNELS}
    with_planes = method.pop("avx512-vpopcntdq")
    assert set(method.values()) == {"bytes"}
    if weight_bits * bits <= 2:  # some CPUs multiply bytes faster than others
        assert with_planes == "popcount"
    call |= {"bias": bias, "scale_x": layer.scale_x, "scale_w": layer.scale_w}
    for batch, threads in [(27, 1), (27, 3), (1, 1), (0, 1)]:
        part = x[:batch]
        on_bytes = training.conv2d(part, stored(weight), **call, kernel="avx512")
        on_planes = training.conv2d(part, stored(weight), **call, kernel="avx512-vpopcntdq", threads=threads)
        assert_array_equal(on_planes.y, layer.forward(part, bias))
        assert_array_equal(on_bytes.y, on_planes.y)
        assert on_bytes.saved is not None
        assert on_planes.saved is not None
        assert_array_equal(on_bytes.saved[:-64], on_planes.saved[:-64])  # what kernels may read beyond is not written
    codes = rng.integers(-1, 2**bits - 1, x.shape).astype(np.float32)
    signed = training.conv2d(codes, stored(weight), **call, low=-1, clips=False, kernel="avx512-vpopcntdq")
    assert_array_equal(signed.y, replace(layer, low=-1, clips=False).forward(codes, bias))


def test_who_multiplies_on_planes() -> None:
    """Few bits, odd codes and enough channels; a weight's codes say how many bits it has."""
    odd = np.where(np.arange(64 * 9 * 64).reshape(64, 3, 3, 64) % 3 == 0, -1, 1).astype(np.int8)
    fastest = "popcount" if "avx512-vpopcntdq" in ALL_KERNELS else "bytes"
    call: dict[str, Any] = {"padding": 1}
    assert training.forward_method((8, 9, 9, 64), odd, bits=1, **call) == fastest
    assert training.forward_method((8, 9, 9, 64), odd.astype(np.int16), bits=1, **call) == fastest
    assert training.forward_method((8, 576), odd.reshape(64, -1), bits=1) == fastest
    others: list[tuple[Codes, int]] = [(odd, 6), (odd - 1, 1), (odd * 127, 1), (odd.astype(np.int16) * 255, 1)]
    for weight, bits in [*others, (odd[..., :3].copy(), 2)]:
        assert training.forward_method((8, 9, 9, weight.shape[3]), weight, bits=bits, **call) == "bytes"
    assert training.forward_method((8, 9, 9, 64), odd, bits=2, low=-1, **call) == fastest
    assert training.forward_method((8, 9, 9, 64), odd, bits=1, low=-255, **call) == "bytes"  # those of the padding
    with pytest.raises(ValueError, match="weight: the codes are for 64 input channels, but x has 3"):
        training.forward_method((8, 9, 9, 3), odd, bits=1)
    with pytest.raises(ValueError, match=r"weight: the shape is \(64,\), but must have 4 axes"):
        training.forward_method((8, 64), odd[:, 0, 0, 0], bits=1)


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_is_not_asked_for_is_not_computed(kernel: str) -> None:
    rng = np.random.default_rng(4)
    layer = Layer(random_weight(rng, 1, (6, 3, 3, 5)), 2, 1 / 3, 0.1)
    x, g = rng.random((3, 5, 6, 5), np.float32), rng.standard_normal((3, 3, 4, 6)).astype(np.float32)
    _, everything = both_passes(layer, x, g, 4, kernel, 1, None)
    result = training.conv2d(x, stored(layer.weight), 1 / 3, 0.1, bits=2, kernel=kernel)
    assert result.saved is not None
    for i in range(3):
        part = training.conv2d_backward(
            g,
            result.saved,
            stored(layer.weight),
            1 / 3,
            0.1,
            x_shape=x.shape,
            bits=2,
            gradient_bits=4,
            key=KEY,
            needs=(i == 0, i == 1, i == 2),
            kernel=kernel,
        )
        assert [k for k in range(3) if part[k] is not None] == [i]
        assert_array_equal(part[i], everything[i])
    unsaved = training.conv2d(x, stored(layer.weight), 1 / 3, 0.1, bits=2, save=False, kernel=kernel)
    assert unsaved.saved is None
    assert_array_equal(unsaved.y, result.y)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("form", [{}, {"clips": False}, {"clips": False, "low": -4}])
def test_nan_is_a_code_of_0_and_is_said(kernel: str, form: dict[str, Any]) -> None:
    """As a number outside 0 … 1 would be, which has the same code and, where gradients are clipped, passes none."""
    rng = np.random.default_rng(6)
    weight = random_weight(rng, 3, (70, 3, 3, 5))
    for shape in [(3, 5, 6, 5), (3, 3, 3, 5), (2, 4, 4, 5)]:
        layer = Layer(weight, 3, 1 / 7, 0.1, **form)
        x = rng.random(shape, np.float32) if layer.low is None else rng.integers(-4, 4, shape).astype(np.float32)
        places, zero = [0, x.size // 2, -1], -1 if layer.low is None else 0
        x.flat[places] = zero
        broken = x.copy()
        broken.flat[places] = np.nan
        g = rng.standard_normal((shape[0], *layer.out(shape), 70)).astype(np.float32)
        results = []
        for given in (x, broken):
            call = {"bits": 3, "kernel": kernel, **form}
            forward = training.conv2d(given, stored(weight), 1 / 7, 0.1, **call)
            assert forward.holds_nan == (given is broken)
            assert forward.saved is not None
            call |= {"gradient_bits": 4, "key": KEY, "x_shape": shape}
            results.append((forward.y, *training.conv2d_backward(g, forward.saved, stored(weight), 1 / 7, 0.1, **call)))
        for expected, found in zip(*results, strict=True):
            assert_array_equal(found, expected)


@pytest.mark.parametrize("kernel", KERNELS)
def test_linear_layers_on_signs(kernel: str) -> None:
    """One sample a row, or tokens: ±1 times ±1."""
    rng = np.random.default_rng(7)
    weight = random_weight(rng, 1, (9, 1, 1, 13))
    for shape in [(5, 13), (4, 3, 13)]:
        x = rng.choice(np.array([-1, 1], np.float32), shape)
        pixels = x.reshape(shape[0], 1, -1, 13)
        call: dict[str, Any] = {"bits": 2, "low": -1, "clips": False, "kernel": kernel}
        layer = Layer(weight, 2, 0.5, 0.1, clips=False, low=-1)
        y, saved, _ = training.linear(x, stored(weight[:, 0, 0]), 0.5, 0.1, **call)
        assert saved is not None
        assert_array_equal(y, layer.forward(pixels).reshape(y.shape))
        g = random_gradient(rng, y.shape, specials=False)
        call |= {"x_shape": shape, "gradient_bits": 8, "key": KEY}
        gradients = training.linear_backward(g, saved, stored(weight[:, 0, 0]), 0.5, 0.1, **call)
        codes, scale = oracle.gradient(g, 8, training.noise(len(g), g[0].size, KEY))
        codes = codes.reshape(*pixels.shape[:3], 9)
        assert_array_equal(gradients.x, layer.grad_x(pixels, codes, scale).reshape(shape))
        assert_array_equal(gradients.weight, layer.grad_weight(pixels, codes, scale).reshape(9, 13))


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_sample(kernel: str) -> None:
    layer = Layer(np.ones((2, 3, 3, 5), np.int64), 2, 1 / 3, 0.1)
    for size in (5, 3):
        g = np.zeros((0, size - 2, size - 2, 2), np.float32)
        y, gradients = both_passes(layer, np.zeros((0, size, size, 5), np.float32), g, 4, kernel, 2, None)
        assert y.shape == g.shape
        assert gradients.x is not None
        assert gradients.x.shape == (0, size, size, 5)
        assert_array_equal(gradients.weight, np.zeros((2, 3, 3, 5)))
        assert_array_equal(gradients.bias, np.zeros(2))


def test_the_noise_is_a_hash_of_the_place() -> None:
    for samples, numbers in [(3, 1), (2, 32), (3, 33), (2, 100)]:
        drawn = training.noise(samples, numbers, KEY)
        expected = [[oracle.draw(KEY, s, numbers, i) for i in range(numbers)] for s in range(samples)]
        assert_array_equal(drawn, np.array(expected))
    assert_array_equal(training.noise(2, 64, KEY), training.noise(2, 64, (KEY[0], KEY[1] - 2**32)))
    assert not np.array_equal(training.noise(1, 64, KEY), training.noise(1, 64, (KEY[0], KEY[1] + 1)))
    assert not np.array_equal(training.noise(1, 64, KEY), training.noise(1, 64, (KEY[0] + 1, KEY[1])))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("grid", "bits"), [("odd", b) for b in range(1, 9)] + [("signed", b) for b in range(2, 9)])
def test_gradient_codes(kernel: str, grid: training.Grid, bits: int) -> None:
    rng = np.random.default_rng(bits)
    for numbers in (1, 31, 64, 65, 500):
        g = rng.standard_normal((8, numbers)).astype(np.float32)
        g[0], g[1, 0], g[2, -1], g[3] = 0, np.nan, -np.inf, 1e-40
        g[4], g[5] = g[4] * 2**-110, 3e38  # twice the last is no float32
        for key in (KEY, None):
            codes, scale = training.gradient_codes(g, bits, key, grid=grid, kernel=kernel)
            noise = None if key is None else training.noise(8, numbers, key)
            expected, of_samples = oracle.gradient(g, bits, noise, grid)
            assert_array_equal(codes if grid == "signed" else 2 * codes.astype(np.int64) + 1, expected)
            assert_array_equal(scale, of_samples)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_noise_makes_the_mean_right(kernel: str) -> None:
    """E[value] = g; the deviation of a mean of 2000 draws is below 0.012 steps."""
    g = np.linspace(-1, 1, 64, dtype=np.float32)[None]
    total = np.zeros(64)
    for draw in range(2000):
        codes, scale = training.gradient_codes(g, 3, (draw, 77), kernel=kernel)
        total += (2.0 * codes[0] + 1) * scale[0]
    assert np.abs(total / 2000 - g[0]).max() < 5 * 0.012 * 2 / 7


@pytest.mark.parametrize("kernel", KERNELS)
def test_threads_change_nothing(kernel: str) -> None:
    rng = np.random.default_rng(5)
    for weight_bits, gradient_bits, size in [(8, 8, 6), (2, 6, 6), (1, 5, 3)]:
        layer = Layer(random_weight(rng, weight_bits, (70, 3, 3, 37)), 2, 1 / 3, 0.1)
        x = rng.normal(0.5, 0.5, (9, size, size, 37)).astype(np.float32)
        g = rng.standard_normal((9, size - 2, size - 2, 70)).astype(np.float32)
        y, gradients = both_passes(layer, x, g, gradient_bits, kernel, 1, None)
        for threads in (2, 3, 16):
            other_y, others = both_passes(layer, x, g, gradient_bits, kernel, threads, None)
            assert_array_equal(other_y, y)
            for one, other in zip(gradients, others, strict=True):
                assert_array_equal(one, other)


def test_what_keeps_from_fast_kernels_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    if len(ALL_KERNELS) > 1:
        assert training.obstacles() == ()
        code = "from bitorch_runtime import training; print(training.kernel(), training.obstacles())"
        said = "BITORCH_KERNEL=portable leaves only portable kernels for training"
        printed = {"portable": f"portable ('{said}',)\n"} | {name: f"{name} ()\n" for name in ALL_KERNELS[1:]}
        for name, expected in printed.items():
            environment = os.environ | {"BITORCH_KERNEL": name}
            done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
            assert done.stdout == expected, done.stderr
    monkeypatch.setattr(training, "kernels", lambda: ("portable",))
    monkeypatch.setattr(training, "kernel", lambda: "portable")
    monkeypatch.setattr("bitorch_runtime._native.cpu_flags", lambda: [*training.NEEDED[:-1]])
    assert training.obstacles() == ("training on integers needs AVX2; this CPU lacks bmi2",)


def test_plain_loops_in_cpp() -> None:
    """What the sanitizers and the emulated ARM run: csrc/tools/check_training.cpp."""
    done = subprocess.run([CHECK, "--cases", "40"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "40 layers, 0 wrong\n"), done.stderr


def test_what_backward_is_told_must_fit_what_was_saved() -> None:
    layer = Layer(np.ones((2, 3, 3, 5), np.int64), 2, 1 / 3, 0.1)
    x, g = np.zeros((2, 5, 5, 5), np.float32), np.zeros((2, 3, 3, 2), np.float32)
    result = training.conv2d(x, stored(layer.weight), 1 / 3, 0.1, bits=2)
    assert result.saved is not None
    call: dict[str, Any] = {"x_shape": x.shape, "bits": 2, "gradient_bits": 4, "key": KEY}
    weight = stored(layer.weight)
    with pytest.raises(ValueError, match=r"saved: uint8 \[\d+\] was given; it must be \d+ numbers of uint8"):
        training.conv2d_backward(g, result.saved, weight, 1 / 3, 0.1, **call, clips=False)
    with pytest.raises(ValueError, match=r"g: the shape is \(2, 3, 3, 2\), but must be \(2, 5, 5, 2\)"):
        training.conv2d_backward(g, result.saved, weight, 1 / 3, 0.1, **call, padding=1)
    with pytest.raises(ValueError, match=r"scale_w: the shape is \(3,\), but must be \(2,\)"):
        training.conv2d_backward(g, result.saved, weight, 1 / 3, np.ones(3, np.float32), **call)


def geometry_of(layer: Layer) -> dict[str, Any]:
    return {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups, "clips": layer.clips}


def test_results_go_into_memory_of_the_caller() -> None:
    """All of it is written; what is None in `out` is made."""
    for seed in range(12):
        layer, x, bits = random_case(seed)
        rng = np.random.default_rng(seed)
        weight = stored(layer.weight)
        geometry = geometry_of(layer)
        size = training.saved_bytes(x.shape, weight.shape, **geometry)
        geometry["low"] = layer.low
        scales, y_shape = (layer.scale_x, layer.scale_w), (x.shape[0], *layer.out(x.shape), weight.shape[0])
        y, saved = np.full(y_shape, np.nan, np.float32), np.empty(size, np.uint8)
        result = training.conv2d(x, weight, *scales, bits=layer.bits, out=(y, saved), **geometry)
        assert result.y is y
        assert result.saved is saved
        assert_array_equal(y, layer.forward(x))
        g = random_gradient(rng, y_shape, specials=False)
        call: dict[str, Any] = {"x_shape": x.shape, "bits": layer.bits, "gradient_bits": bits, "key": KEY} | geometry
        expected = training.conv2d_backward(g, saved, weight, *scales, **call)
        memory = (np.full_like(x, np.nan), np.full(weight.shape, np.nan, np.float32), np.empty(len(weight), np.float32))
        found = training.conv2d_backward(g, saved, weight, *scales, out=memory, **call)
        made = training.conv2d_backward(g, saved, weight, *scales, out=(None, memory[1], None), **call)
        assert made.weight is memory[1]
        for i in range(3):
            assert found[i] is memory[i]
            assert_array_equal(found[i], expected[i])
            assert_array_equal(made[i], expected[i])


def test_the_bytes_that_are_saved() -> None:
    for seed in range(60):
        layer, x, _ = random_case(seed)
        geometry = geometry_of(layer)
        saved = training.conv2d(x, stored(layer.weight), 1, 1, bits=layer.bits, low=layer.low, **geometry).saved
        assert saved is not None
        assert saved.shape == (training.saved_bytes(x.shape, layer.weight.shape, **geometry),)
    for shape in [(5, 13), (4, 3, 13), (2, 3, 2, 13), (3, 1, 13), (0, 16)]:
        for clips in (False, True):
            weight = np.ones((2, shape[-1]), np.int8)
            saved = training.linear(np.zeros(shape, np.float32), weight, 1, 1, bits=1, clips=clips).saved
            assert saved is not None
            assert saved.shape == (training.saved_bytes(shape, weight.shape, clips=clips),)


def test_bad_memory_is_said() -> None:
    x, weight = np.zeros((2, 4, 4, 3), np.float32), np.ones((5, 3, 3, 3), np.int8)
    y = np.empty((2, 2, 2, 5), np.float32)
    read_only = y.copy()
    read_only.flags.writeable = False
    for out, error, message in [
        (y, TypeError, "out: must be a tuple of 2 arrays or Nones, or None"),
        ((y, None, None), TypeError, "out: must be a tuple of 2 arrays"),
        ((y[:1], None), ValueError, r"out\[0\]: the shape is \(1, 2, 2, 5\), but must be \(2, 2, 2, 5\)"),
        ((y.astype(np.float64), None), TypeError, r"out\[0\]: the dtype is <f8"),
        ((y.transpose(0, 2, 1, 3), None), ValueError, r"out\[0\]: must be C-contiguous and writable"),
        ((read_only, None), ValueError, r"out\[0\]: must be C-contiguous and writable"),
        ((y, np.empty(5, np.uint8)), ValueError, r"out\[1\]: the shape is \(5,\), but must be"),
    ]:
        with pytest.raises(error, match=message):
            training.conv2d(x, weight, 1, 1, bits=2, out=out)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"out\[1\]: an array was given for what is not asked for; give None"):
        training.conv2d(x, weight, 1, 1, bits=2, save=False, out=(y, np.empty(0, np.uint8)))


def test_bad_input_is_said() -> None:
    x, weight = np.zeros((1, 4, 4, 3), np.float32), np.ones((2, 3, 3, 3), np.int8)
    good: dict[str, Any] = {"x": x, "weight": weight, "scale_x": 1.0, "scale_w": 1.0, "bits": 2}
    for change, error, message in [
        ({"x": x[0]}, ValueError, r"x: the shape is \(4, 4, 3\), but must be \[N, H, W, C\]"),
        ({"x": x.astype(np.float64)}, TypeError, "x: the dtype is <f8"),
        ({"x": x[:, :, ::2]}, ValueError, "a kernel of"),
        ({"x": np.zeros((1, 4, 8, 3), np.float32)[:, :, ::2]}, ValueError, "x: not C-contiguous"),
        ({"weight": weight[..., :2]}, ValueError, "weight: the codes are for 2 input channels, but x has 3"),
        ({"weight": weight * 1.0}, TypeError, "weight: the dtype is"),
        ({"weight": weight.astype(np.int16) * 200}, ValueError, "codes from 0 to 200, some even"),
        ({"weight": weight.astype(np.int16) * 257}, ValueError, "codes from 0 to 257; they must be"),
        ({"weight": np.ones((2, 5, 5, 3), np.int8)}, ValueError, r"kernel of \(5, 5\) is larger than x of \(4, 4\)"),
        ({"bits": 9}, ValueError, "bits=9: must be an int from 1 to 8"),
        ({"stride": 0}, ValueError, "stride=0"),
        ({"padding": -1}, ValueError, "padding=-1"),
        ({"scale_w": np.ones(3, np.float32)}, ValueError, r"scale_w: the shape is \(3,\), but must be \(2,\)"),
        ({"bias": np.ones(3, np.float32)}, ValueError, r"bias: the shape is \(3,\), but must be \(2,\)"),
        ({"threads": 0}, ValueError, "threads=0: must be an int from 1 to 256"),
        ({"kernel": "sse"}, ValueError, "kernel='sse': must be 'portable'"),
        ({"groups": 3}, ValueError, "groups=3: must divide the 2 output channels of the weight"),
        ({"groups": 2}, ValueError, "weight: the codes are for 2 x 3 input channels, but x has 3"),
        ({"groups": 0}, ValueError, "groups=0: must be an int from 1"),
        ({"clips": 1}, TypeError, "clips=1: must be True or False"),
        ({"low": -1}, ValueError, "clips=True: x holds codes from low=-1 on, which no quantizer clips"),
        ({"low": 1, "clips": False}, ValueError, "low=1: must be an int from -255 to 0"),
    ]:
        with pytest.raises(error, match=message):
            training.conv2d(**{**good, **change})


def test_sums_beyond_int32_are_refused() -> None:
    x, weight = np.zeros((1, 70000), np.float32), np.full((1, 70000), 127, np.int8)
    training.linear(x, weight, 1.0, 1.0, bits=7)
    with pytest.raises(
        ValueError, match="forward: sums of 70000 products of codes up to 127 and 255 do not fit in int32"
    ):
        training.linear(x, weight, 1.0, 1.0, bits=8)


def test_bad_keys_and_addresses_are_said() -> None:
    g = np.zeros((2, 3), np.float32)
    with pytest.raises(TypeError, match=r"key=5: must be two ints"):
        training.gradient_codes(g, 4, 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"key=4294967296: must be an int from -2147483648 to 4294967295"):
        training.gradient_codes(g, 4, (0, 2**32))
    with pytest.raises(ValueError, match=r"grid='even': must be 'odd' or 'signed'"):
        training.gradient_codes(g, 4, None, grid="even")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r'bits=1: must be an int from 2 to 8 with grid="signed"'):
        training.gradient_codes(g, 1, None, grid="signed")
    with pytest.raises(ValueError, match=r"g: it has no axis"):
        training.gradient_codes(np.zeros((), np.float32), 4, KEY)
    with pytest.raises(TypeError, match=r"address='gomp'"):
        training.set_executor("gomp")  # type: ignore[arg-type]


def test_the_threads_of_another_library() -> None:
    """A stand-in for GOMP_parallel that starts Python's threads: as many as asked for, or only the caller."""
    started: list[int] = []
    body_type = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

    def parallel(body: int, context: int, threads: int, flags: int) -> None:
        started.append(threads)
        run = body_type(body)
        others = [threading.Thread(target=run, args=(context,)) for _ in range(threads)]  # one more than asked for
        for other in others:
            other.start()
        run(context)
        for other in others:
            other.join()

    executor = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)(parallel)
    layer, x, bits = random_case(3)
    layer = replace(layer, weight=layer.weight[:7])
    training.set_executor(ctypes.cast(executor, ctypes.c_void_p).value)
    try:
        check_layer(layer, np.repeat(x[:1], 5, axis=0), bits, KERNELS[-1], threads=3)
    finally:
        training.set_executor(None)
    assert set(started) == {3}
    count = len(started)
    check_layer(layer, x, bits, KERNELS[-1], threads=3)
    assert len(started) == count
