"""Steps of training, held to plain NumPy with equality: every number is defined to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import training_oracle as oracle
from bitorch_runtime import training
from numpy.testing import assert_array_equal
from training_oracle import Floats, Layer

KERNELS = training.kernels()
KEY = (0x12345678, 0x9ABCDEF0)


def random_weight(rng: np.random.Generator, bits: int, shape: tuple[int, ...]) -> Any:
    """Odd codes −n … n."""
    n = 2**bits - 1
    return 2 * rng.integers(0, n + 1, shape) - n


def stored(weight: Any) -> Any:
    return weight.astype(np.int8 if np.abs(weight).max() <= 127 else np.int16)


def random_gradient(rng: np.random.Generator, shape: tuple[int, ...], specials: bool) -> Floats:
    g = (rng.standard_normal(shape) * 2.0 ** rng.integers(-20, 20)).astype(np.float32)
    if specials and shape[0] > 3:
        g[0], g[1].flat[-1], g[2].flat[0] = 0, np.nan, np.inf
    return g


def check_layer(
    layer: Layer, x: Floats, gradient_bits: int, kernel: str, *, specials: bool = False, threads: int = 1
) -> None:
    """Both passes of a convolution."""
    rng = np.random.default_rng(x.size + gradient_bits)
    bias = rng.standard_normal(layer.weight.shape[0]).astype(np.float32)
    weight, where = stored(layer.weight), {"threads": threads, "kernel": kernel}
    same = {"bits": layer.bits, "stride": layer.stride, "padding": layer.padding, "clips": layer.clips}
    result = training.conv2d(x, weight, layer.scale_x, layer.scale_w, bias=bias, **same, **where)
    assert result is not None and result.saved is not None
    assert_array_equal(result.y, layer.forward(x, bias))
    g = random_gradient(rng, result.y.shape, specials)
    noise = training.noise(g.shape[0], g[0].size, KEY) if len(g) else None
    codes, scale = oracle.gradient(g, gradient_bits, noise)
    gradients = training.conv2d_backward(
        g, result.saved, weight, layer.scale_x, layer.scale_w, x_shape=x.shape, gradient_bits=gradient_bits, key=KEY,
        **same, **where,
    )  # fmt: skip
    assert_array_equal(gradients.x, layer.grad_x(x, codes, scale))
    assert_array_equal(gradients.weight, layer.grad_weight(x, codes, scale))
    assert_array_equal(gradients.bias, layer.grad_bias(codes, scale))


def random_case(seed: int) -> tuple[Layer, Floats, int]:
    """A layer of any bits and geometry, and x with numbers on and beyond the ends of the range."""
    rng = np.random.default_rng(seed)
    kernel = tuple(int(k) for k in rng.choice([1, 2, 3, 5, 7], 2))
    padding = tuple(int(p) for p in rng.integers(0, 3, 2))
    least = [max(1, kernel[i] - 2 * padding[i]) for i in range(2)]
    rows, columns = (int(rng.integers(low, max(low + 1, 13))) for low in least)
    channels, outputs = (int(rng.choice([1, 3, 4, 17, 64, 70, 144])) for _ in range(2))
    bits, weight_bits, gradient_bits = (int(b) for b in rng.integers(1, 9, 3))
    layer = Layer(
        random_weight(rng, weight_bits, (outputs, *kernel, channels)),
        bits,
        1 / (2**bits - 1),
        float(rng.random()),
        (int(rng.integers(1, 4)), int(rng.integers(1, 4))),
        padding,  # type: ignore[arg-type]
        bool(rng.integers(0, 2)),
    )
    x = rng.normal(0.4, 0.6, (int(rng.integers(1, 6)), rows, columns, channels)).astype(np.float32)
    x.flat[: min(4, x.size)] = [0, 1, -0.0, np.inf][: min(4, x.size)]
    return layer, x, gradient_bits


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("first", range(0, 60, 20))
def test_random_layers(kernel: str, first: int) -> None:
    for seed in range(first, first + 20):
        layer, x, bits = random_case(seed)
        check_layer(layer, x, bits, kernel, specials=True, threads=1 + seed % 3)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
def test_many_random_layers(kernel: str) -> None:
    for seed in range(1000, 3000):
        layer, x, bits = random_case(seed)
        check_layer(layer, x, bits, kernel, specials=True, threads=1 + seed % 3)


@pytest.mark.parametrize("kernel", KERNELS)
def test_all_bits(kernel: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0.4, 0.5, (2, 4, 5, 6)).astype(np.float32)
    for weight_bits in range(1, 9):
        weight = random_weight(rng, weight_bits, (5, 3, 3, 6))
        for bits in range(1, 9):
            layer = Layer(weight, bits, 1 / (2**bits - 1), 0.037, padding=(1, 1))
            for gradient_bits in range(1, 9):
                check_layer(layer, x, gradient_bits, kernel)
