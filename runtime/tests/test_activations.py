"""Functions of floats and softmax: they are equal to the reference, and the same on every kernel table.

What has an exponential or a logarithm in it is less than 3 units in the last place from the true value.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitorch_runtime
from bitorch_runtime import Program, reference

Array = np.ndarray[Any, Any]
#: Prints a digest of results, NaN counted as 0: its sign is whatever the CPU gives.
WORKER = """
import hashlib, numpy as np, test_activations as t
results = [t.activate(name, t.any_floats(20001), **t.NUMBERS.get(name, {})) for name in t.NAMES]
results += [t.activate("elu", t.any_floats(20001), t.any_floats(20001) * np.float32(1e-3))]
results += [t.softmax(t.rows(channels), log) for channels in (1, 7, 10, 65, 100, 1001) for log in (False, True)]
print(hashlib.sha256(np.nan_to_num(np.concatenate([y.ravel() for y in results])).tobytes()).hexdigest())
"""


def run(operation: dict[str, Any], x: Array, slope: Array | None = None) -> Array:
    """One operation of the vectors x [batch, features], with the array "slope" if there is one."""
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "x", "dtype": "float32", "shape": [x.shape[1]]},
        {**operation, "input": "x", "output": "y"},
        {"op": "output", "input": "y"},
    ]
    y = Program(operations, {} if slope is None else {"slope": slope})(x)
    assert isinstance(y, np.ndarray)
    return y


def activate(function: str, x: Array, slope: Array | None = None, **numbers: float) -> Array:
    named: dict[str, Any] = {} if slope is None else {"slope": "slope"}
    return run({"op": "activation", "function": function, **named, **numbers}, x[np.newaxis], slope).reshape(-1)


def softmax(x: Array, log: bool) -> Array:
    return run({"op": "softmax", "log": log}, x)


def any_floats(count: int) -> Array:
    """Bit patterns of all kinds, and numbers as networks have them."""
    rng = np.random.default_rng(count)
    patterns = rng.integers(0, 2**32, count, dtype=np.uint32).view(np.float32)
    floats: Array = np.where(rng.random(count) < 0.5, patterns, rng.normal(0, 4, count).astype(np.float32))
    return floats


def rows(channels: int) -> Array:
    """Logits, some of them far apart, equal, or not finite."""
    rng = np.random.default_rng(channels)
    x: Array = (rng.normal(0, 1, (40, channels)) * rng.choice([0.1, 3.0, 40.0, 1e4], (40, 1))).astype(np.float32)
    x[0], x[1, 0], x[2, 0], x[3, 0], x[4] = 0.5, np.nan, np.inf, -np.inf, -np.inf
    return x


def units_apart(y: Array, expected: Array) -> float:
    """The largest distance in units of the last place, infinite where NaN or infinity do not agree."""
    same = (y == expected) | (np.isnan(y) & np.isnan(expected))
    with np.errstate(invalid="ignore", over="ignore"):
        units = np.abs(y.astype(np.float64) - expected) / np.spacing(np.abs(expected)).astype(np.float64)
    return float(np.where(same, 0, np.where(np.isnan(units), np.inf, units)).max())


@pytest.mark.parametrize("channels", [1, 3, 64, 129, 300])
@pytest.mark.parametrize("function", ["leaky_relu", "hardswish", "hardsigmoid"])
def test_piecewise_functions_are_equal(function: str, channels: int) -> None:
    """Rows of many pixels, and of pixels with many channels."""
    rng = np.random.default_rng(channels)
    x = any_floats(2 * 3 * 401 * channels).reshape(2, 3, 401, channels)
    arrays = {"slope": rng.normal(0, 1, channels).astype(np.float32)} if function == "leaky_relu" else {}
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "x", "dtype": "float32", "shape": [channels, 3, 401], "order": "nhwc"},
        {"op": "activation", "input": "x", "output": "y", "function": function, **{name: name for name in arrays}},
        {"op": "output", "input": "y", "order": "nhwc"},
    ]
    np.testing.assert_array_equal(Program(operations, arrays)(x), reference.run(operations, arrays, x))


def erfc(x: Array) -> Array:
    """1 − erf(x), nothing lost where that is small."""
    values: Array = np.vectorize(math.erfc)(x)
    return values


def softplus_(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def mish_(x: Array) -> Array:
    n = np.exp(x) * (np.exp(x) + 2)
    return np.where(x > 40, x, x * (n / (n + 2)))


def elu_(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


#: In float64, the library's own.
TRUE: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "logsigmoid": lambda x: -softplus_(-x),
    "tanh": np.tanh,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "mish": mish_,
    "gelu": lambda x: x * 0.5 * erfc(-x * 0.5**0.5),
    "gelu_tanh": lambda x: x / (1 + np.exp(-((8 / np.pi) ** 0.5) * (x + 0.044715 * x**3))),
    "elu": elu_,
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
    "celu": lambda x: np.where(x > 0, x, 2 * np.expm1(np.minimum(x, 0) / 2)),
    "softplus": lambda x: np.where(x > 10, x, softplus_(2 * x) / 2),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "erf": lambda x: np.vectorize(math.erf)(x).astype(np.float64),
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "abs": np.abs,
    "sign": lambda x: np.where(np.isnan(x), 0, np.sign(x)),
    "threshold": lambda x: np.where(x <= 0.5, -1, x),
    "hardshrink": lambda x: np.where(np.abs(x) <= 0.5, 0, x),
    "softshrink": lambda x: np.where(np.abs(x) <= 0.5, 0, x - np.copysign(0.5, x)),
}
#: Of those that need some: numbers for which nothing but the function rounds.
NUMBERS: dict[str, dict[str, float]] = {
    "celu": {"alpha": 2.0},
    "softplus": {"beta": 2.0, "threshold": 20.0},
    "threshold": {"threshold": 0.5, "value": -1.0},
    "hardshrink": {"lambda": 0.5},
    "softshrink": {"lambda": 0.5},
}
NAMES = [name for name in TRUE if name != "elu"]
#: Where sequences of operations have seams and ends, and subnormal numbers and results begin.
SEAMS = np.array(
    [
        *(
            0,
            1e-45,
            1e-38,
            0.3466,
            0.5,
            0.7071,
            0.885,
            1,
            1.5,
            2.5,
            3.4375,
            3.5,
            4,
            9.5,
            10,
            10.77,
            10.85,
            11,
            14.1,
            14.2,
            14.5,
        ),
        *(20, 30, 40, 87, 88, 88.73, 91.9, 103.9, 104.1, 110, 200, 1e30, 3e38, np.inf, np.nan),
    ]
)


def around(count: int) -> Array:
    """Floats of all kinds, and the neighbours of seams."""
    near = np.concatenate([SEAMS, -SEAMS]).astype(np.float32)
    with np.errstate(all="ignore"):
        near = np.concatenate([near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))])
    return np.concatenate([any_floats(count), near])


@pytest.mark.parametrize("function", TRUE)
def test_functions_are_equal_to_the_reference(function: str) -> None:
    """The same operations in the same order give the same bits, and bits of NaN whatever they are."""
    x = around(50_001)
    slope = any_floats(len(x)) if function == "elu" else None
    arguments = () if slope is None else (slope,)
    numbers = NUMBERS.get(function, {})
    with np.errstate(all="ignore"):
        of = reference.absolute if function == "abs" else getattr(reference, function)
        expected = of(x, *arguments, *numbers.values())
    y = activate(function, x, slope, **numbers)
    np.testing.assert_array_equal(y, expected)
    is_number = ~np.isnan(y)
    np.testing.assert_array_equal(np.signbit(y[is_number]), np.signbit(expected[is_number]))


@pytest.mark.parametrize("function", TRUE)
def test_functions_are_near_the_true_values(function: str) -> None:
    """check_functions says the same of every float."""
    x = around(100_001)
    slope = np.ones(len(x), np.float32) if function == "elu" else None
    with np.errstate(all="ignore"):
        y = activate(function, x, slope, **NUMBERS.get(function, {})).astype(np.float64)
        expected = TRUE[function](x.astype(np.float64))
        unit = np.exp2(np.maximum(np.frexp(expected)[1] - 24, -149).astype(np.float64))
        units = np.abs(y - expected) / unit
        same = (y == expected) | (np.isnan(y) & np.isnan(expected)) | (y == expected.astype(np.float32))
    assert np.isfinite(units[~same]).all()
    assert units[~same].max(initial=0) < 3


@pytest.mark.parametrize("alpha", [0.3, -2.5, 0.0])
def test_elu_has_any_slope(alpha: float) -> None:
    """Also near zero, where e^x − 1 cancels, and beyond what e^x can tell from 0."""
    near = np.float32(2.0) ** np.arange(-149, 8, dtype=np.float32)
    x = np.concatenate([around(100_001), near, -near])
    slope = np.full(len(x), alpha, np.float32)
    with np.errstate(all="ignore"):
        expected = np.where(x > 0, x, np.expm1(np.minimum(x, 0).astype(np.float64)) * np.float64(np.float32(alpha)))
        expected = expected.astype(np.float32)
    assert units_apart(activate("elu", x, slope), expected) <= 2


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 7, 8, 9, 10, 63, 64, 65, 100, 1001, 5000])
def test_softmax_is_equal_to_the_reference(channels: int, log: bool) -> None:
    x = rows(channels)
    with np.errstate(all="ignore"):
        expected = reference.softmax(x, log)
    np.testing.assert_array_equal(softmax(x, log), expected)


def true_softmax(x: Array, log: bool) -> Array:
    """In float64, the e^0 of a largest number apart from the others."""
    wide = np.sort(x.astype(np.float64), axis=-1)
    most = wide[:, -1:]
    others = np.exp(wide[:, :-1] - most).sum(axis=-1, keepdims=True)
    shifted = np.where(np.isposinf(most), np.nan, x.astype(np.float64) - most)
    y: Array = shifted - np.log1p(others) if log else np.exp(shifted) / (1 + others)
    return y


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 7, 8, 9, 10, 100, 1001, 20_000])
def test_softmax_is_near_the_true_values(channels: int, log: bool) -> None:
    x = rows(channels)
    with np.errstate(all="ignore"):
        expected = true_softmax(x, log)
        y = softmax(x, log)
        unit = np.exp2(np.maximum(np.frexp(expected)[1] - 24, -149).astype(np.float64))
        units = np.abs(y - expected) / unit
    same = (y == expected) | (np.isnan(y) & np.isnan(expected))
    assert np.isfinite(units[~same]).all()
    assert units[~same].max(initial=0) < 3


def test_rows_of_softmax_that_are_no_probabilities() -> None:
    """As PyTorch has them: −inf is 0, and NaN, inf, or nothing but −inf is NaN."""
    x = np.array([[0, -np.inf], [-np.inf, -np.inf], [np.inf, 0], [np.nan, 0], [np.inf, -np.inf]], np.float32)
    y = softmax(x, False)
    np.testing.assert_array_equal(y, [[1, 0], *[[np.nan, np.nan]] * 4])
    np.testing.assert_array_equal(softmax(x, True)[0], [0, -np.inf])
    assert np.isnan(softmax(x, True)[1:]).all()


def test_small_logarithms_are_not_lost() -> None:
    x = np.array([[0, -30]], np.float32)
    np.testing.assert_allclose(softmax(x, True)[0, 0], -np.log1p(np.exp(-30.0)), rtol=1e-7)


def test_every_kernel_gives_the_same_bits() -> None:
    digests = set()
    for kernel in bitorch_runtime.cpu()["kernels"]:
        environment = os.environ | {"BITORCH_KERNEL": kernel}
        command = [sys.executable, "-c", WORKER]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parent)
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1
