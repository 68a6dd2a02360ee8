"""Convolutions of few channels: every number by equality, in the order that bitorch_runtime.few_channels says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

import bitorch_runtime
from bitorch_runtime import few_channels
from test_objects import DEFAULT_BUILD
from training_oracle import F, Floats, fma

CHECK = Path(os.environ.get("BITORCH_RUNTIME_BUILD", DEFAULT_BUILD)) / "check_few_channels"
KERNELS = bitorch_runtime.cpu()["kernels"]
#: x, kernel size, outputs, stride, padding: whole vectors, one less and one more; windows as large as x.
CASES: list[tuple[tuple[int, ...], tuple[int, int], int, tuple[int, int], tuple[int, int]]] = [
    ((2, 9, 8, 3), (3, 3), 16, (1, 1), (1, 1)),
    ((3, 12, 7, 1), (5, 5), 17, (1, 1), (0, 0)),
    ((1, 11, 13, 4), (7, 7), 31, (2, 2), (3, 3)),
    ((2, 8, 15, 3), (3, 2), 65, (2, 3), (0, 2)),
    ((2, 5, 5, 2), (5, 5), 33, (1, 1), (0, 0)),
    ((1, 1, 1, 1), (1, 1), 1, (1, 1), (0, 0)),
    ((0, 6, 6, 3), (3, 3), 16, (1, 1), (0, 0)),
]  # fmt: skip


def numbers(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(F)


def windows(x: Floats, size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Floats:
    """[N, OH, OW, KH, KW, C]."""
    padded = np.pad(x, [(0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)])
    view = np.lib.stride_tricks.sliding_window_view(padded, size, (1, 2))[:, :: stride[0], :: stride[1]]
    of_windows: Floats = view.transpose(0, 1, 2, 4, 5, 3)
    return of_windows


def forward(of_windows: Floats, weight: Floats, bias: Floats) -> Floats:
    taps = of_windows.reshape(*of_windows.shape[:3], int(np.prod(of_windows.shape[3:])))
    y: Floats = np.broadcast_to(bias, (*taps.shape[:3], len(bias))).astype(F)
    for tap, of_outputs in enumerate(weight.reshape(-1, len(bias))):
        y = fma(taps[..., tap, None], np.broadcast_to(of_outputs, y.shape), y)
    return y


def backward(of_windows: Floats, g: Floats) -> Floats:
    """[taps, O]."""
    taps = of_windows.reshape(*of_windows.shape[:3], int(np.prod(of_windows.shape[3:])))
    samples = np.zeros((len(g), taps.shape[3], g.shape[3]), F)
    for row in range(g.shape[1]):
        sums = np.zeros_like(samples)
        for column in range(g.shape[2]):
            shape = sums.shape
            x, of_y = taps[:, row, column, :, None], g[:, row, column, None]
            sums = fma(np.broadcast_to(x, shape), np.broadcast_to(of_y, shape), sums)
        samples = samples + sums
    whole: NDArray[np.float64] = np.zeros(samples.shape[1:])
    for sample in samples:
        whole = whole + sample
    return whole.astype(F)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("case", CASES)
def test_every_sum_has_the_order_that_is_said(case: Any, kernel: str) -> None:
    shape, size, outputs, stride, padding = case
    x, weight, bias = numbers(0, *shape), numbers(1, *size, shape[3], outputs), numbers(2, outputs)
    of = {"stride": stride, "padding": padding, "kernel": kernel}
    of_windows = windows(x, size, stride, padding)
    y = forward(of_windows, weight, bias)
    g = numbers(3, *y.shape)
    for threads in (1, 2):
        assert_array_equal(few_channels.conv2d(x, weight, bias, threads=threads, **of), y)
        found = few_channels.weight_gradient(x, g, size, has_bias=True, threads=threads, **of)
        assert_array_equal(found.weight, backward(of_windows, g).reshape(weight.shape))
        assert_array_equal(found.bias, backward(np.ones((*g.shape[:3], 1), F), g)[0])
    plain = few_channels.conv2d(x, weight, threads=1, **of)
    assert_array_equal(plain, forward(of_windows, weight, np.zeros(outputs, F)))
    assert few_channels.weight_gradient(x, g, size, has_bias=False, threads=1, **of).bias is None


def test_it_is_a_convolution() -> None:
    """Held to float64, on a random image."""
    x, weight = numbers(0, 2, 20, 20, 3), numbers(1, 5, 5, 3, 48)
    of_windows = windows(x, (5, 5), (1, 1), (2, 2)).astype(np.float64)
    exact = np.einsum("nyxuvc,uvco->nyxo", of_windows, weight)
    y = few_channels.conv2d(x, weight, padding=2)
    assert_allclose(y, exact, rtol=0, atol=2e-5)
    g = numbers(2, *y.shape)
    found = few_channels.weight_gradient(x, g, 5, has_bias=False, padding=2)
    assert_allclose(found.weight, np.einsum("nyxuvc,nyxo->uvco", of_windows, g), rtol=0, atol=2e-4)


def test_what_is_not_finite_goes_through() -> None:
    x, weight = numbers(0, 1, 6, 6, 1), numbers(1, 3, 3, 1, 16)
    x[0, 0, 0, 0] = np.nan
    y = few_channels.conv2d(x, weight)
    assert np.isnan(y[0, 0, 0]).all()
    assert np.isfinite(y[0, 1:]).all()
    g = np.ones_like(y)
    g[0, 3, 3, 5] = np.inf
    gradient = few_channels.weight_gradient(np.ones_like(x), g, 3, has_bias=True)
    assert np.isinf(gradient.weight[..., 5]).all()
    assert gradient.bias is not None
    assert np.isinf(gradient.bias[5])


def test_memory_of_the_caller_is_taken() -> None:
    x, weight = numbers(0, 2, 6, 6, 3), numbers(1, 3, 3, 3, 20)
    y = few_channels.conv2d(x, weight)
    out = np.empty_like(y)
    assert_array_equal(few_channels.conv2d(x, weight, out=out), y)
    assert_array_equal(out, y)
    memory = np.empty_like(weight), np.empty(20, F)
    found = few_channels.weight_gradient(x, y, 3, has_bias=True, out=memory)
    assert_array_equal(memory[0], found.weight)
    assert_array_equal(memory[1], found.bias)


def test_what_does_not_fit_is_said() -> None:
    x, weight = np.ones((2, 4, 4, 3), F), np.ones((3, 3, 3, 8), F)
    calls: list[tuple[dict[str, Any], Any, str]] = [
        ({"x": x[0]}, ValueError, r"x: the shape is \(4, 4, 3\), but must be \[N, H, W, C\]"),
        ({"x": x.astype(np.float64)}, (TypeError, ValueError), "x: "),
        ({"weight": weight[0]}, ValueError, r"weight: the shape is \(3, 3, 8\), but must be \[KH, KW, C, O\]"),
        ({"weight": np.ones((3, 3, 4, 8), F)}, ValueError, "input channels, but x has 3"),
        ({"weight": np.ones((5, 3, 3, 8), F)}, ValueError, "is larger than x"),
        ({"bias": np.ones(7, F)}, ValueError, "bias: the shape is"),
        ({"stride": 0}, ValueError, "stride"),
        ({"kernel": "fast"}, ValueError, "kernel='fast': must be"),
        ({"out": np.empty((2, 2, 2, 7), F)}, ValueError, "out"),
    ]
    for change, error, message in calls:
        with pytest.raises(error, match=message):
            few_channels.conv2d(**{"x": x, "weight": weight, **change})
    good: dict[str, Any] = {"x": x, "g": np.ones((2, 2, 2, 8), F), "kernel_size": 3, "has_bias": True}
    few_channels.weight_gradient(**good)
    calls = [
        ({"g": np.ones((2, 3, 2, 8), F)}, ValueError, r"g: the shape is \(2, 3, 2, 8\), but must be \(2, 2, 2, 8\)"),
        ({"g": np.ones((2, 2, 8), F)}, ValueError, r"must be \[N, OH, OW, O\]"),
        ({"has_bias": 1}, TypeError, "has_bias=1: must be True or False"),
        ({"out": (None,)}, TypeError, "out: must be a tuple of 2"),
    ]
    for change, error, message in calls:
        with pytest.raises(error, match=message):
            few_channels.weight_gradient(**{**good, **change})


def test_the_check_of_all_kernels_passes() -> None:
    """What the sanitizers and the emulated ARM run: csrc/tools/check_few_channels.cpp."""
    done = subprocess.run([CHECK, "--cases", "100"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
