"""Conv2d and Linear: arguments in all their forms, and each stage, against the reference."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitorch_runtime import Conv2d, Linear, Program, pack_weights, reference

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
    offset, norm_offset = rng.normal(0.5, 0.5, (2, outputs)).astype(np.float32)
    norm_multiply = rng.normal(0, 1, outputs).astype(np.float32)
    y = reference.float_stage(d, multiply, offset, rectify=relu)
    normed = reference.float_stage(d, multiply, offset, rectify=relu, norm=(norm_multiply, norm_offset))
    levels = 2**bits - 1
    rows = np.sort(rng.choice(d.ravel(), (outputs, levels)), axis=1).astype(np.int32)
    y_rows = np.sort(rng.choice(y.ravel(), (outputs, levels)), axis=1)
    descending = rng.random(outputs) < 0.5 if falling else None
    if descending is not None:
        rows[descending] = rows[descending, ::-1]
        y_rows[descending] = y_rows[descending, ::-1]
    floats: dict[str, Any] = {"multiply": multiply, "offset": offset, "relu": relu}
    norm = {"norm_multiply": norm_multiply, "norm_offset": norm_offset}
    stages: list[tuple[dict[str, Any], Array, Any]] = [
        ({}, d, np.int32),
        (floats, y, np.float32),
        (floats | norm, normed, np.float32),
        (floats | norm | {"bits": bits}, reference.unit_quantize(normed, bits), np.uint8),
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


def layers(**stages: Any) -> list[Conv2d | Linear]:
    """A convolution and a linear layer of 3 inputs, 4 outputs and these stages."""
    rng = np.random.default_rng(3)
    bits: dict[str, Any] = {"weight_bits": 2, "activation_bits": 1, "sign_activations": True}
    conv = Conv2d(odd_codes(rng, 2, 4, 3, 3, 2), **bits, padding=(0, 1), **stages)
    return [conv, Linear(odd_codes(rng, 2, 4, 3), **bits, **stages)]


def codes_for(layer: Conv2d | Linear) -> Array:
    shape = (5, 6, 7, 3) if isinstance(layer, Conv2d) else (5, 3)
    return np.random.default_rng(4).integers(0, 2, shape).astype(np.uint8)


def all_stages() -> dict[str, Any]:
    ones = np.ones(4, np.float32)
    rows = np.array([[-1.5, 0.5, 0.5], [4, 0, -np.inf], [-2, 0, 2], [0, 1, np.inf]], np.float32)
    return {
        "multiply": ones / 8,
        "offset": ones / 2,
        "norm_multiply": ones * 3,
        "norm_offset": -ones,
        "relu": True,
        "thresholds": rows,
        "descending": np.array([False, True, False, False]),
    }


def test_attributes() -> None:
    conv, linear = layers(**all_stages())
    for layer in (conv, linear):
        assert (layer.weight_bits, layer.activation_bits, layer.sign_activations, layer.bits) == (2, 1, True, 2)
    for layer in layers():
        assert layer.bits is None
    assert isinstance(conv, Conv2d)
    assert isinstance(linear, Linear)
    assert (conv.in_channels, conv.out_channels, conv.kernel_size, conv.groups) == (3, 4, (3, 2), 1)
    assert (conv.stride, conv.padding, conv.dilation) == ((1, 1), (0, 1, 0, 1), (1, 1))
    assert (linear.in_features, linear.out_features) == (3, 4)


@pytest.mark.parametrize("again", [lambda layer: pickle.loads(pickle.dumps(layer)), copy.deepcopy, copy.copy])
def test_layers_can_be_pickled_and_copied(again: Callable[[Any], Any]) -> None:
    for layer in (*layers(), *layers(**all_stages())):
        codes = codes_for(layer)
        restored = again(layer)  # before the first call, and after it
        expected = layer(codes)
        for other in (restored, again(layer)):
            assert repr(other) == repr(layer)
            np.testing.assert_array_equal(other(codes), expected)


def test_programs_of_one_layer_share_their_arrays() -> None:
    """A program keeps what it was made of for its pickles: one copy for all sizes of image."""
    conv, _ = layers(**all_stages())
    assert isinstance(conv, Conv2d)
    programs = [conv.program(height, 9) for height in range(3, 12)]
    for name, array in programs[0]._arrays.items():
        assert not array.flags.writeable
        assert all(program._arrays[name] is array for program in programs)
    codes = np.random.default_rng(5).integers(0, 2, (2, 5, 9, 3)).astype(np.uint8)
    restored = pickle.loads(pickle.dumps(programs[2]))
    np.testing.assert_array_equal(restored(codes), conv(codes))


def test_programs_of_both_layers_are_asked_for() -> None:
    conv, linear = layers()
    assert isinstance(conv, Conv2d)
    assert isinstance(linear, Linear)
    assert conv.program(5, 6).inputs[0]["shape"] == (5, 6, 3)
    assert linear.program().inputs[0]["shape"] == (3,)
    assert linear.program() is linear.program()


def test_what_the_caller_does_to_arrays_later_does_not_matter() -> None:
    stages = all_stages()
    weight = np.ones((4, 3), np.int64)
    linear = Linear(weight, weight_bits=1, activation_bits=1, **stages)
    conv = Conv2d(weight.reshape(4, 3, 1, 1), weight_bits=1, activation_bits=1, **stages)
    codes = codes_for(linear)
    expected = linear(codes)
    for array in (weight, *stages.values()):
        if isinstance(array, np.ndarray):
            array[...] = 0
    np.testing.assert_array_equal(linear(codes), expected)
    np.testing.assert_array_equal(conv(codes.reshape(5, 1, 1, 3)).reshape(5, 4), expected)


def test_equal_thresholds_and_infinite_ones_are_in_order() -> None:
    rows = np.array([[0, 0, 0], [-5, -5, 7]], np.int32)
    linear = Linear(np.ones((2, 1), np.int64), weight_bits=1, activation_bits=3, thresholds=rows)
    assert linear(np.array([[0], [7]], np.uint8)).tolist() == [[3, 2], [3, 3]]


def test_repr_says_what_it_is() -> None:
    conv = Conv2d(np.ones((8, 3, 3, 3), np.int64), weight_bits=1, activation_bits=2)
    assert repr(conv) == (
        "Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1, "
        "weight_bits=1, activation_bits=2)"
    )
    linear = Linear(np.ones((2, 7), np.int64), weight_bits=1, activation_bits=2)
    assert repr(linear) == "Linear(7, 2, weight_bits=1, activation_bits=2)"
    ones = np.ones(2, np.float32)
    linear = Linear(np.ones((2, 7), np.int64), weight_bits=1, activation_bits=2, multiply=ones, offset=ones, bits=3)
    assert repr(linear).endswith("activation_bits=2, multiply=float32 [2], offset=float32 [2], bits=3)")
    full, _ = layers(**all_stages())
    assert repr(full).endswith(
        "weight_bits=2, activation_bits=1, sign_activations=True, multiply=float32 [4], offset=float32 [4], "
        "norm_multiply=float32 [4], norm_offset=float32 [4], thresholds=float32 [4, 3], descending=bool [4], "
        "relu=True, bits=2)"
    )


@pytest.mark.parametrize("bits", range(1, 9))
def test_thresholds_that_no_number_reaches(bits: int) -> None:
    """The last ones are NaN: an infinite y stops before them."""
    n = 2**bits - 1
    weight = np.ones((4, 1), np.int64)
    multiply = np.array([np.inf, np.inf, -np.inf, -np.inf], np.float32)
    thresholds = np.repeat(np.arange(n, dtype=np.float32)[np.newaxis], 4, 0)
    thresholds[1::2, -1] = np.nan
    thresholds[2:] *= -1
    descending = np.array([False, False, True, True])
    layer = Linear(
        weight,
        weight_bits=1,
        activation_bits=2,
        multiply=multiply,
        offset=np.zeros(4, np.float32),
        thresholds=thresholds,
        descending=descending,
    )
    assert layer(np.array([[1], [0]], np.uint8)).tolist() == [[n, n - 1, n, n - 1], [0, 0, 0, 0]]  # inf·0 is NaN


def test_a_zero_keeps_its_sign_where_codes_fall() -> None:
    """Weights of channels whose codes fall with D change their sign, and then 0 · multiply has the other one."""
    window = {"kernel_size": [1, 1], "stride": [1, 1], "padding": [0] * 4, "dilation": [1, 1], "groups": 1}
    results = {"float32": "y", "codes": "q", "bits": 2}
    arrays = {
        "weight": pack_weights(np.broadcast_to(np.array([1, -1])[:, None, None], (4, 2, 1, 1)), 1),
        "multiply": np.array([1, 1, -1, -1], np.float32),
        "offset": np.array([-0.0, 0.0, -0.0, 0.0], np.float32),
        "thresholds": np.broadcast_to(np.array([1, 0, -1], np.int32), (4, 3)).copy(),
        "descending": np.ones(4, bool),
    }
    layer = {"op": "conv2d", "input": "x", "weight_bits": 1, "out_channels": 4, **window, **results}
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "x", "dtype": "uint8", "bits": 2, "shape": [2, 1, 2], "order": "nhwc"},
        {**layer, **{name: name for name in arrays}},
        {"op": "output", "input": "y", "order": "nhwc"},
    ]
    y = Program(operations, arrays)(np.array([[[[2, 2], [2, 1]]]], np.uint8))
    assert isinstance(y, np.ndarray)
    np.testing.assert_array_equal(y[0, 0], [[0, 0, 0, 0], [1, 1, -1, -1]])
    np.testing.assert_array_equal(np.signbit(y[0, 0, 0]), [False, False, True, False])
