"""Conv2d and Linear: arguments in all their forms, and each stage, against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitorch_runtime import Conv2d, Linear, reference

Array = np.ndarray[Any, Any]


def odd_codes(rng: np.random.Generator, bits: int, *shape: int) -> Array:
    n = 2**bits - 1
    codes: Array = 2 * rng.integers(0, n + 1, shape) - n
    return codes


def canonical(weight: Array) -> Array:
    """[N, C/groups, kh, kw] to [N, kh, kw, C/groups]."""
    last: Array = weight.transpose(0, 2, 3, 1)
    return last


@pytest.mark.parametrize(
    ("padding", "meaning"),
    [
        (0, (0, 0, 0, 0)),
        (2, (2, 2, 2, 2)),
        ((1, 2), (1, 2, 1, 2)),
        ((0, 1, 2, 3), (0, 1, 2, 3)),
        ([1, 0], (1, 0, 1, 0)),
    ],
)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), ((1, 3), (2, 1)), (np.int64(2), (1, 2))])
def test_geometry(padding: Any, meaning: tuple[int, ...], stride: Any, dilation: Any) -> None:
    rng = np.random.default_rng(0)
    weight = odd_codes(rng, 2, 6, 4, 3, 2)
    codes = rng.integers(0, 8, (2, 7, 6, 8)).astype(np.uint8)
    conv = Conv2d(weight, weight_bits=2, activation_bits=3, stride=stride, padding=padding, dilation=dilation, groups=2)
    pair = (np.broadcast_to(value, 2).tolist() for value in (stride, dilation))
    d = reference.conv2d_codes(codes, canonical(weight), next(pair), meaning, next(pair), 2)
    result = conv(codes)
    assert result.dtype == np.int32
    np.testing.assert_array_equal(result, d)


def test_an_output_of_one_pixel_stays_an_image() -> None:
    conv = Conv2d(np.ones((5, 3, 2, 2), np.int64), weight_bits=1, activation_bits=1)
    assert conv(np.ones((4, 2, 2, 3), np.uint8)).shape == (4, 1, 1, 5)
    assert conv(np.ones((0, 2, 2, 3), np.uint8)).shape == (0, 1, 1, 5)


@settings(max_examples=60, deadline=None)
@given(
    weight_bits=st.integers(1, 8),
    activation_bits=st.integers(1, 8),
    bits=st.integers(1, 8),
    relu=st.booleans(),
    falling=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_stages(weight_bits: int, activation_bits: int, bits: int, relu: bool, falling: bool, seed: int) -> None:
    """D, y, codes of D, codes of y, and the unit quantizer of y, of a convolution and of a linear layer."""
    rng = np.random.default_rng(seed)
    channels, outputs = (int(n) for n in rng.integers(1, 40, 2))
    weight = odd_codes(rng, weight_bits, outputs, channels, 1, 1)
    codes = rng.integers(0, 2**activation_bits, (3, 2, 3, channels)).astype(np.uint8)
    d = reference.conv2d_codes(codes, canonical(weight))
    multiply = rng.normal(0, 1 / (1 + d.std()), outputs).astype(np.float32)
    offset = rng.normal(0.5, 0.5, outputs).astype(np.float32)
    y = reference.float_stage(d, multiply, offset, rectify=relu)
    levels = 2**bits - 1
    rows = np.sort(rng.choice(d.ravel(), (outputs, levels)), axis=1).astype(np.int32)
    y_rows = np.sort(rng.choice(y.ravel(), (outputs, levels)), axis=1)
    descending = rng.random(outputs) < 0.5 if falling else None
    if descending is not None:
        rows[descending] = rows[descending, ::-1]
        y_rows[descending] = y_rows[descending, ::-1]
    floats: dict[str, Any] = {"multiply": multiply, "offset": offset, "relu": relu}
    stages: list[tuple[dict[str, Any], Array, Any]] = [
        ({}, d, np.int32),
        (floats, y, np.float32),
        ({"thresholds": rows, "descending": descending}, reference.apply_thresholds(d, rows, descending), np.uint8),
        (
            floats | {"thresholds": y_rows, "descending": descending, "bits": bits},
            reference.apply_thresholds(y, y_rows, descending),
            np.uint8,
        ),
        (floats | {"bits": bits}, reference.unit_quantize(y, bits), np.uint8),
    ]
    for keys, expected, dtype in stages:
        conv = Conv2d(weight, weight_bits=weight_bits, activation_bits=activation_bits, **keys)
        result = conv(codes)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, expected)
        linear = Linear(weight[:, :, 0, 0], weight_bits=weight_bits, activation_bits=activation_bits, **keys)
        np.testing.assert_array_equal(linear(codes.reshape(-1, channels)), expected.reshape(-1, outputs))


def test_images_of_many_sizes_in_turn() -> None:
    """More sizes than plans are kept, twice over."""
    rng = np.random.default_rng(1)
    weight = odd_codes(rng, 1, 9, 5, 3, 3)
    conv = Conv2d(weight, weight_bits=1, activation_bits=2, padding=1)
    for height in (*range(1, 20), *range(1, 20)):
        codes = rng.integers(0, 4, (2, height, 21 - height, 5)).astype(np.uint8)
        expected = reference.conv2d_codes(codes, canonical(weight), padding=(1, 1, 1, 1))
        np.testing.assert_array_equal(conv(codes), expected)


def test_signs() -> None:
    rng = np.random.default_rng(2)
    weight = odd_codes(rng, 3, 9, 5, 3, 3)
    codes = rng.integers(0, 2, (2, 4, 5, 5)).astype(np.uint8)
    conv = Conv2d(weight, weight_bits=3, activation_bits=1, padding=1, sign_activations=True)
    expected = reference.conv2d_codes(codes, canonical(weight), padding=(1, 1, 1, 1), sign_activations=True)
    np.testing.assert_array_equal(conv(codes), expected)
    linear = Linear(weight[:, :, 0, 0], weight_bits=3, activation_bits=1, sign_activations=True)
    signs = 2 * codes[:, 0, 0].astype(np.int64) - 1
    np.testing.assert_array_equal(linear(codes[:, 0, 0]), signs @ weight[:, :, 0, 0].T)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_weights_of_any_integer_dtype(dtype: Any) -> None:
    weight = np.array([[1, -3], [3, -1]], dtype)
    linear = Linear(weight, weight_bits=2, activation_bits=2)
    assert linear(np.array([[3, 1]], np.uint8)).tolist() == [[0, 8]]


def test_largest_sums() -> None:
    """K·n_w·n_a = 33025·255·255: the widest layer of 8-bit weights and activations."""
    inputs = (2**31 - 1) // 255**2
    linear = Linear(np.array([[255], [-255]]).repeat(inputs, 1), weight_bits=8, activation_bits=8)
    largest = inputs * 255**2
    assert linear(np.full((1, inputs), 255, np.uint8)).tolist() == [[largest, -largest]]


def test_repr_says_what_it_is() -> None:
    conv = Conv2d(np.ones((8, 3, 3, 3), np.int64), weight_bits=1, activation_bits=2)
    assert "Conv2d(3, 8, kernel_size=(3, 3)" in repr(conv)
    assert "Linear(7, 2" in repr(Linear(np.ones((2, 7), np.int64), weight_bits=1, activation_bits=2))
