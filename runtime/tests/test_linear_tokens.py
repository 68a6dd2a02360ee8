"""Linear layers of all widths at few and many tokens, as a batch and as rows of one tensor, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bitorch_runtime
from bitorch_runtime import Linear, Program

Array = np.ndarray[Any, Any]
WIDTHS = [(w, a) for w in range(1, 9) for a in range(1, 9)]
TOKENS = (1, 2, 3, 7, 8, 9, 64, 65)


def weights(rng: np.random.Generator, bits: int, grid: str, *shape: int) -> Array:
    """Weight codes: odd integers, or all integers of as many bits with a sign."""
    m = rng.integers(0, 2**bits, shape)
    codes: Array = 2 * m - (2**bits - 1) if grid == "odd" else m - 2 ** (bits - 1)
    return codes


def values(d: Array, multiply: Array, offset: Array) -> Array:
    """y = float32(D) · multiply + offset, each operation rounded to float32."""
    y: Array = d.astype(np.float32) * multiply + offset
    return y


@pytest.mark.parametrize(("w", "a"), WIDTHS)
def test_floats_of_a_batch(w: int, a: int) -> None:
    rng = np.random.default_rng([w, a])
    grid = "odd" if (w + a) % 2 else "signed"
    inputs, outputs = int(rng.choice([1, 15, 16, 17, 63, 64, 65, 130, 257])), int(rng.choice([1, 17, 63, 64, 65, 200]))
    weight = weights(rng, w, grid, outputs, inputs)
    multiply, offset = rng.standard_normal((2, outputs)).astype(np.float32)
    layer = Linear(weight, weight_bits=w, activation_bits=a, weight_grid=grid, multiply=multiply, offset=offset)
    for tokens in TOKENS:
        codes = rng.integers(0, 2**a, (tokens, inputs), dtype=np.uint8)
        if tokens == 2:
            codes[:] = 2**a - 1
        d = codes.astype(np.int64) @ weight.T
        np.testing.assert_array_equal(layer(codes), values(d, multiply, offset), err_msg=f"{tokens} tokens")


@pytest.mark.parametrize(("w", "a", "zero_point", "sign"), [(1, 8, 9, False), (2, 1, 0, True), (4, 8, 128, False)])
def test_codes_of_a_batch(w: int, a: int, zero_point: int, sign: bool) -> None:
    """Thresholds on D, where activations have a zero point or are signs."""
    rng = np.random.default_rng([w, a])
    weight = weights(rng, w, "odd", 70, 100)
    reach = 100 * (2**w - 1) * 2**a // 8
    thresholds = np.sort(rng.integers(-reach, reach, (70, 3)), axis=1).astype(np.int32)
    layer = Linear(
        weight,
        weight_bits=w,
        activation_bits=a,
        zero_point=zero_point,
        sign_activations=sign,
        thresholds=thresholds,
        bits=2,
    )
    for tokens in TOKENS:
        codes = rng.integers(0, 2**a, (tokens, 100), dtype=np.uint8)
        meant = 2 * codes.astype(np.int64) - 1 if sign else codes.astype(np.int64) - zero_point
        d = meant @ weight.T
        expected = (d[:, :, None] >= thresholds).sum(axis=2)
        np.testing.assert_array_equal(layer(codes), expected, err_msg=f"{tokens} tokens")


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("tokens", [1, 2, 7, 16, 33, 65])
@pytest.mark.parametrize(("w", "a"), [(1, 8), (2, 8), (3, 5), (4, 8), (8, 8)])
def test_rows_of_a_tensor(w: int, a: int, tokens: int, batch: int) -> None:
    """[T, F], with a residual of the same rows; an image of 65 rows does not end at a multiple of 64 bytes."""
    rng = np.random.default_rng([w, a, tokens])
    inputs, outputs = 70, 65
    weight = weights(rng, w, "odd", outputs, inputs)
    multiply, offset = rng.standard_normal((2, outputs)).astype(np.float32)
    layer = {"op": "linear", "input": "x", "weight_bits": w, "out_channels": outputs, "multiply": "m", "offset": "o"}
    program = Program(
        [
            {"op": "input", "output": "x", "shape": [inputs, tokens], "order": "nhwc", "dtype": "uint8", "bits": a},
            {**layer, "weight": "w0", "float32": "y"},
            {**layer, "weight": "w1", "float32": "z", "residual": "y"},
            {"op": "output", "input": "z", "order": "nhwc"},
        ],
        {
            "w0": bitorch_runtime.pack_weights(weight.astype(np.int16), w),
            "w1": bitorch_runtime.pack_weights(-weight[:, ::-1].astype(np.int16), w),
            "m": multiply,
            "o": offset,
        },
    )
    codes = rng.integers(0, 2**a, (batch, tokens, inputs), dtype=np.uint8)
    y = values(codes.astype(np.int64) @ weight.T, multiply, offset)
    z = values(codes.astype(np.int64) @ -weight[:, ::-1].T, multiply, offset) + y
    result = program(codes)
    assert isinstance(result, np.ndarray)
    np.testing.assert_array_equal(result.reshape(z.shape), z)
