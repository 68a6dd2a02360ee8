"""Steps of training behind a BatchNorm: codes and what follows by equality, sums of floats held to float64."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

import training_oracle as oracle
from bitorch_runtime import training, training_norm
from bitorch_runtime.training_norm import Affine, Doubles
from test_objects import DEFAULT_BUILD
from training_oracle import F, Floats, Integers, Layer

CHECK = Path(os.environ.get("BITORCH_RUNTIME_BUILD", DEFAULT_BUILD)) / "check_training_norm"
KERNELS = training.kernels()
KEY = (3, 2**31)
WINDOW = [(0, 0), (0, 1), (1, 0), (1, 1)]


def normalized(y: Floats, norm: Affine) -> Floats:
    return oracle.fma(y, norm.scale, np.broadcast_to(norm.shift, y.shape))


def pooled(v: Floats) -> tuple[Floats, NDArray[np.uint8]]:
    """The largest of each window and which one it is, the first of several."""
    rows, columns = v.shape[1] // 2 * 2, v.shape[2] // 2 * 2
    windows = np.stack([v[:, i:rows:2, j:columns:2] for i, j in WINDOW])
    winners = windows.argmax(0)
    return np.take_along_axis(windows, winners[None], 0)[0], winners.astype(np.uint8)


def unpooled(g: Floats, winners: NDArray[np.uint8] | None, shape: tuple[int, ...]) -> Floats:
    if winners is None:
        return g
    full = np.zeros(shape, F)
    rows, columns = shape[1] // 2 * 2, shape[2] // 2 * 2
    for k, (i, j) in enumerate(WINDOW):
        full[:, i:rows:2, j:columns:2] = np.where(winners == k, g, F(0))
    return full


class BehindReLU(Layer):
    """A layer whose quantizer stands behind a ReLU, so that no gradient passes at 0."""

    def grad_x(self, x: Floats, codes: Integers, scale: Floats) -> Floats:
        return np.where(x > 0, super().grad_x(x, codes, scale), F(0))


def random_case(seed: int) -> tuple[Layer, bool, Floats, Doubles, Affine, Floats]:
    """A layer, whether it pools, y, its mean, what normalizes it, and gamma."""
    rng = np.random.default_rng(seed)
    channels, outputs = (int(rng.choice([1, 3, 8, 15, 17, 33, 64, 70, 130])) for _ in range(2))
    pool, linear = bool(rng.integers(0, 2)), bool(rng.integers(0, 4) == 0)
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    size = kernel if linear else tuple(k + int(rng.integers(0, 14)) for k in kernel)
    size = tuple(2 * n + int(rng.integers(0, 2)) for n in size) if pool else size
    y = rng.normal(rng.normal(0, 3), 2.0 ** rng.integers(-3, 4), (int(rng.integers(1, 6)), *size, channels)).astype(F)
    gamma = rng.normal(0.5, 0.5, channels).astype(F)
    mean, variance = training_norm.moments(y)
    norm = training_norm.affine(mean, variance, gamma, rng.normal(0.4, 0.3, channels).astype(F), 1e-5)
    bits, weight_bits = (int(b) for b in rng.integers(1, 9, 2))
    n = 2**weight_bits - 1
    kind = BehindReLU if rng.integers(0, 2) else Layer
    weight: Integers = 2 * rng.integers(0, n + 1, (outputs, *kernel, channels)) - n
    padding = (0, 0) if linear else (int(rng.integers(0, 2)), int(rng.integers(0, 2)))
    return kind(weight, bits, 1 / (2**bits - 1), 0.03, padding=padding), pool, y, mean, norm, gamma


def codes_of(layer: Layer) -> Any:
    return layer.weight.astype(np.int8 if np.abs(layer.weight).max() <= 127 else np.int16)


def forward(layer: Layer, pool: bool, y: Floats, norm: Affine, **how: Any) -> training_norm.NormForward:
    return training_norm.conv2d(
        y,
        norm,
        codes_of(layer),
        layer.scale_x,
        layer.scale_w,
        bits=layer.bits,
        positive=isinstance(layer, BehindReLU),
        pool=pool,
        stride=layer.stride,
        padding=layer.padding,
        **how,
    )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("first", [0, 20])
def test_random_layers(kernel: str, first: int) -> None:
    for seed in range(first, first + 20):
        layer, pool, y, mean, norm, gamma = random_case(seed)
        how: dict[str, Any] = {"threads": 1 + seed % 3, "kernel": kernel}
        v = normalized(y, norm)
        x, winners = pooled(v) if pool else (v, None)
        bias = np.random.default_rng(seed).standard_normal((layer.weight.shape[0],)).astype(F)
        result = forward(layer, pool, y, norm, bias=bias, **how)
        assert_array_equal(result.y, layer.forward(x, bias))
        assert_array_equal(forward(layer, pool, y, norm, bias=bias, save=False, **how).y, result.y)
        if winners is not None:
            assert_array_equal(result.winners, winners)
        g = np.random.default_rng(seed).standard_normal(result.y.shape).astype(F)
        codes, scale = oracle.gradient(g, 6, training.noise(g.shape[0], g[0].size, KEY))
        assert result.saved is not None
        gradients = training.conv2d_backward(
            g,
            result.saved,
            codes_of(layer),
            layer.scale_x,
            float(layer.scale_w),
            x_shape=x.shape,
            bits=layer.bits,
            gradient_bits=6,
            key=KEY,
            stride=layer.stride,
            padding=layer.padding,
            **how,
        )
        assert_array_equal(gradients.x, layer.grad_x(x, codes, scale))
        assert_array_equal(gradients.weight, layer.grad_weight(x, codes, scale))
        assert gradients.x is not None
        check_backward(gradients.x, y, result.winners, mean, norm, gamma, how)


def check_backward(
    dv: Floats,
    y: Floats,
    winners: NDArray[np.uint8] | None,
    mean: Doubles,
    norm: Affine,
    gamma: Floats,
    how: dict[str, Any],
) -> None:
    """Hold to float64, with bounds from the sizes of what is summed."""
    found = training_norm.backward(dv, y, winners, mean, norm, gamma, **how)
    dz = unpooled(dv, winners, y.shape).astype(np.float64)
    axes, pixels = (0, 1, 2), y[..., 0].size
    normal = (y - mean) * norm.inverse
    dbeta, dgamma = dz.sum(axes), (dz * normal).sum(axes)
    assert_allclose(found.beta, dbeta, rtol=0, atol=float(1e-6 * np.abs(dz).sum(axes).max()))
    assert_allclose(found.gamma, dgamma, rtol=0, atol=float(2e-6 * np.abs(dz * normal).sum(axes).max() + 1e-30))
    k = gamma * norm.inverse
    expected = k * (dz - dbeta / pixels - normal * dgamma / pixels)
    size = np.abs(k) * (np.abs(dz) + np.abs(dz).sum(axes) / pixels + np.abs(normal) * np.abs(dz * normal).mean(axes))
    assert (np.abs(found.y - expected) <= 3e-6 * size + 1e-30).all()
    first = training_norm.backward(dv, y, winners, mean, norm, gamma, kernel=KERNELS[0], threads=1)
    for name in ("y", "gamma", "beta"):
        assert_array_equal(getattr(found, name), getattr(first, name))
    if winners is None:
        own = dv.copy()
        in_place = training_norm.backward(own, y, None, mean, norm, gamma, out=(own, None, None), **how)
        assert in_place.y is own
        assert_array_equal(own, found.y)


@pytest.mark.parametrize(("offset", "spread"), [(0.0, 1.0), (1000.0, 0.01), (-3e4, 5.0), (0.5, 0.0)])
def test_moments(offset: float, spread: float) -> None:
    """Also where the mean is far larger than what is around it, and of pixels in parts of runs."""
    rng = np.random.default_rng(1)
    for shape in [(1, 1), (3, 70), (7, 5, 9, 64), (2, 130, 3), (5, 16, 16, 130)]:
        y = (offset + spread * rng.standard_normal(shape)).astype(F)
        y.reshape(-1, shape[-1])[0] += F(3)  # an outlier
        wide = y.astype(np.float64).reshape(-1, shape[-1])
        results = [training_norm.moments(y, kernel=name, threads=threads) for name in KERNELS for threads in (1, 3)]
        for mean, variance in results:
            assert_allclose(mean, wide.mean(0), rtol=1e-12, atol=float(1e-7 * wide.std(0).max()))
            assert_allclose(variance, wide.var(0), rtol=2e-6, atol=1e-12)
            assert_array_equal(mean, results[0][0])
            assert_array_equal(variance, results[0][1])


@pytest.mark.parametrize("kernel", KERNELS)
def test_ends_of_the_range_ties_and_numbers_that_are_none(kernel: str) -> None:
    """The mask shows in the gradient of x: at 0 it passes unless a ReLU is before, at 1 it does, of NaN it does not."""
    special = np.array([-0.0, 0.0, 1e-30, 1.0, np.nextafter(F(1), F(2)), -1e-30, np.nan, np.inf, -np.inf, 0.5], F)
    y = np.tile(special[None, None, :, None], (2, 1, 1, 3)).astype(F)
    norm = Affine(np.ones(3, F), np.zeros(3, F), np.ones(3))
    weight = np.ones((4, 1, 1, 3), np.int8)
    for positive, passing in [(False, [1, 1, 1, 1, 0, 0, 0, 0, 0, 1]), (True, [0, 0, 1, 1, 0, 0, 0, 0, 0, 1])]:
        result = training_norm.conv2d(y, norm, weight, 1.0, 1.0, bits=1, positive=positive, kernel=kernel)
        assert_array_equal(result.y[0, 0, :, 0], [0, 0, 0, 3, 3, 0, 0, 3, 0, 0])
        g = np.ones_like(result.y)
        assert result.saved is not None
        gradients = training.conv2d_backward(
            g, result.saved, weight, 1.0, 1.0, x_shape=y.shape, bits=1, gradient_bits=2, key=None, kernel=kernel
        )
        assert gradients.x is not None
        assert_array_equal(gradients.x[0, 0, :, 0] != 0, np.array(passing, bool))
    window = np.array([[1, 1, np.nan, 2], [1, 3, np.nan, np.nan]], F)  # a tie; NaN beats 2, and the last NaN the first
    pooling = np.repeat(window[None, :, :, None], 3, 3)
    result = training_norm.conv2d(pooling, norm, weight, 1.0, 1.0, bits=1, positive=True, pool=True, kernel=kernel)
    assert_array_equal(result.winners[0, 0, :, 0], [3, 3])  # type: ignore[index]
    pooling[0, 1, 1] = 1
    result = training_norm.conv2d(pooling, norm, weight, 1.0, 1.0, bits=1, positive=True, pool=True, kernel=kernel)
    assert_array_equal(result.winners[0, 0, :, 0], [0, 3])  # type: ignore[index]


def test_all_kernels_and_threads_in_cpp() -> None:
    """What the sanitizers and the emulated ARM run: csrc/tools/check_training_norm."""
    done = subprocess.run([CHECK, "--cases", "100"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"[1-9]\d+ calls of functions, 0 wrong\n100 layers, 0 wrong\n", done.stdout)


def test_memory_of_the_callers() -> None:
    layer, _, y, mean, norm, gamma = random_case(0)
    layer, y = replace(layer, padding=(0, 0)), np.repeat(np.repeat(y, 2, 1), 2, 2)
    made = forward(layer, True, y, norm)
    assert made.saved is not None
    assert made.winners is not None
    memory = np.empty_like(made.y), np.zeros_like(made.saved), np.empty_like(made.winners)
    given = forward(layer, True, y, norm, out=memory)
    assert all(a is b for a, b in zip(given, memory, strict=True))
    assert_array_equal(given.y, made.y)
    assert_array_equal(given.winners, made.winners)
    gradients = np.empty_like(y), np.empty_like(gamma), np.empty_like(gamma)
    dv = np.ones(made.winners.shape, F)
    found = training_norm.backward(dv, y, made.winners, mean, norm, gamma, out=gradients)
    assert all(a is b for a, b in zip(found, gradients, strict=True))


def test_what_does_not_fit_is_said() -> None:
    y, weight = np.ones((2, 4, 4, 3), F), np.ones((2, 3, 3, 3), np.int8)
    norm = Affine(np.ones(3, F), np.zeros(3, F), np.ones(3))
    good: dict[str, Any] = {
        "y": y, "norm": norm, "weight": weight, "scale_x": 1.0, "scale_w": 1.0, "bits": 2, "positive": True
    }  # fmt: skip
    training_norm.conv2d(**good)
    for change, error, message in [
        ({"y": y[0]}, ValueError, r"y: the shape is \(4, 4, 3\), but must be \[N, H, W, C\]"),
        ({"y": y[:, :1], "pool": True}, ValueError, "y: 1×4 pixels have no window of 2×2"),
        ({"pool": True}, ValueError, r"kernel of \(3, 3\) is larger than x of \(2, 2\)"),
        ({"norm": norm._replace(scale=np.ones(4, F))}, ValueError, r"norm.scale: the shape is \(4,\)"),
        ({"positive": 1}, TypeError, "positive=1: must be True or False"),
        ({"out": (None, None)}, TypeError, "out: must be a tuple of 3"),
        ({"out": (None, None, np.empty((2, 4, 4, 3), np.uint8))}, ValueError, r"out\[2\]: an array was given"),
        ({"weight": np.ones((2, 3, 3, 4), np.int8)}, ValueError, "weight: the codes are for 4 input channels"),
    ]:
        with pytest.raises(error, match=message):
            training_norm.conv2d(**{**good, **change})
    for shape in [(3,), (0, 3), (2, 0)]:
        with pytest.raises(ValueError, match="y: the shape is"):
            training_norm.moments(np.ones(shape, F))
    with pytest.raises(ValueError, match=r"g: the shape is \(2, 4, 4, 3\), but must be \(2, 2, 2, 3\)"):
        training_norm.backward(y, y, np.zeros((2, 2, 2, 3), np.uint8), np.ones(3), norm, None)
