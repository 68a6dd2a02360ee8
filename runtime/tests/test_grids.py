"""Signed weight codes and zero points: every pair of bit widths, every method, every kernel, against the reference."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitorch_runtime
from bitorch_runtime import Conv2d, Linear, Program, pack_weights, reference, unpack_weights

Array = np.ndarray[Any, Any]

BITS = range(1, 9)
#: Geometries that lead to each method: name, (in, out channels), groups, kernel, stride, padding, dilation.
LAYERS: dict[str, tuple[tuple[int, int], int, tuple[int, int], Any, Any, Any]] = {
    "plain": ((33, 40), 1, (3, 3), 1, 1, 1),
    "a whole word, a kernel off its middle": ((64, 33), 1, (2, 3), (2, 1), (1, 2, 0, 3), 1),
    "one short of a word, padding beyond the kernel": ((31, 65), 1, (3, 1), 1, (4, 0, 3, 1), (2, 1)),
    "1x1": ((65, 128), 1, (1, 1), 1, 0, 1),
    "two groups": ((48, 64), 2, (3, 3), 1, 1, (1, 2)),
    "small groups that share a block": ((15, 20), 5, (3, 3), 2, (0, 1), 1),
    "depthwise": ((37, 37), 37, (3, 3), 1, 1, 1),
    "depthwise, far apart": ((32, 32), 32, (5, 3), (1, 2), (4, 1), (2, 1)),
}


def signed_codes(rng: np.random.Generator, bits: int, *shape: int) -> Array:
    half = 2 ** (bits - 1)
    codes: Array = rng.integers(-half, half, shape)
    codes.reshape(-1)[:2] = -half, half - 1
    return codes


def expected_sums(layer: Conv2d, codes: Array, weight: Array) -> Array:
    """D, with the zero point and the border spelled out: pixels are shifted first, then padded with 0."""
    top, left, bottom, right = layer.padding
    shifted = codes.astype(np.int64) - layer.zero_point
    padded = np.pad(shifted, ((0, 0), (top, bottom), (left, right), (0, 0)))
    canonical = weight.transpose(0, 2, 3, 1)
    return reference.conv2d_codes(padded, canonical, layer.stride, (0, 0, 0, 0), layer.dilation, layer.groups)


def falling_thresholds(rng: np.random.Generator, d: Array) -> dict[str, Any]:
    """Thresholds of 3 bits among the values of D, which fall in every second channel."""
    rows = np.sort(rng.choice(d.ravel(), (d.shape[-1], 7)), axis=1).astype(np.int32)
    descending = np.arange(d.shape[-1]) % 2 == 1
    rows[descending] = rows[descending, ::-1]
    return {"thresholds": rows, "descending": descending}


def check_layers(name: str, weight_bits: int, activation_bits: int) -> None:
    """One geometry on both grids, with and without a zero point: D, and codes by thresholds that rise and fall."""
    (inputs, outputs), groups, kernel, stride, padding, dilation = LAYERS[name]
    n = 2**activation_bits - 1
    rng = np.random.default_rng(weight_bits * 8 + activation_bits)
    codes = rng.integers(0, n + 1, (1, 5, 7, inputs)).astype(np.uint8)
    signed = signed_codes(rng, weight_bits, outputs, inputs // groups, *kernel)
    odd = 2 * rng.integers(0, 2**weight_bits, signed.shape) - 2**weight_bits + 1
    keys: dict[str, Any] = {"weight_bits": weight_bits, "activation_bits": activation_bits, "groups": groups}
    keys |= {"stride": stride, "padding": padding, "dilation": dilation}
    for weight, grid, zero_point in ((signed, "signed", 0), (signed, "signed", n), (odd, "odd", (n + 1) // 2)):
        more: dict[str, Any] = {"weight_grid": grid, "zero_point": zero_point}
        layer = Conv2d(weight, **keys, **more)
        d = expected_sums(layer, codes, weight)
        np.testing.assert_array_equal(layer(codes), d)
        stage = falling_thresholds(rng, d)
        expected = reference.apply_thresholds(d, stage["thresholds"], stage["descending"])
        np.testing.assert_array_equal(Conv2d(weight, **keys, **more, **stage)(codes), expected)


def check_linear(weight_bits: int, activation_bits: int) -> None:
    """Linear layers whose rows end before, at and after a byte, a word and a vector."""
    n = 2**activation_bits - 1
    rng = np.random.default_rng(weight_bits * 8 + activation_bits)
    for inputs in (7, 8, 31, 32, 33, 127, 129, 513):
        weight = signed_codes(rng, weight_bits, 5, inputs)
        codes = rng.integers(0, n + 1, (3, inputs)).astype(np.uint8)
        zero_point = int(rng.integers(0, n + 1))
        bits: dict[str, Any] = {"weight_bits": weight_bits, "activation_bits": activation_bits}
        layer = Linear(weight, **bits, weight_grid="signed", zero_point=zero_point)
        np.testing.assert_array_equal(layer(codes), (codes.astype(np.int64) - zero_point) @ weight.T)


def check_everything() -> None:
    for weight_bits in BITS:
        for activation_bits in BITS:
            check_linear(weight_bits, activation_bits)
            for name in LAYERS:
                check_layers(name, weight_bits, activation_bits)


@pytest.mark.parametrize("kernel", bitorch_runtime.cpu()["kernels"])
def test_every_pair_of_bit_widths(kernel: str) -> None:
    """In a process of its own, since kernels are chosen once."""
    environment = os.environ | {"BITORCH_KERNEL": kernel, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "import test_grids; test_grids.check_everything()"],
        env=environment,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 0, f"{kernel}:\n{done.stdout}{done.stderr}"


def test_ternary_weights_by_hand() -> None:
    layer = Linear(np.array([[-1, 0, 1], [1, 1, -1]]), weight_bits=2, activation_bits=2, weight_grid="signed")
    assert layer(np.array([[3, 2, 1], [0, 1, 3]], np.uint8)).tolist() == [[-2, 4], [3, -2]]


def test_one_bit_of_the_signed_grid_is_minus_one_or_zero() -> None:
    layer = Linear(np.array([[-1, 0, -1]]), weight_bits=1, activation_bits=3, weight_grid="signed", zero_point=2)
    assert layer(np.array([[7, 6, 1]], np.uint8)).tolist() == [[-5 + 1]]


def test_borders_of_a_zero_point_contribute_nothing() -> None:
    """A pixel of the zero point is a pixel of padding."""
    weight = np.ones((1, 1, 3, 3), np.int64)
    keys: dict[str, Any] = {"weight_bits": 2, "activation_bits": 3, "padding": 1, "weight_grid": "signed"}
    layer = Conv2d(weight, **keys, zero_point=5)
    assert layer(np.full((1, 4, 4, 1), 5, np.uint8)).ravel().tolist() == [0] * 16
    assert layer(np.array([[[[7]]]], np.uint8)).tolist() == [[[[2]]]]


def test_largest_sums_of_the_signed_grid() -> None:
    """K·128·255, which needs twice the K of the odd grid; with a zero point the sums of codes alone pass int32."""
    inputs = (2**31 - 1) // (128 * 255)
    bits: dict[str, Any] = {"weight_bits": 8, "activation_bits": 8, "weight_grid": "signed"}
    weight = np.full((2, inputs), -128)
    weight[1] = 127
    most = np.full((1, inputs), 255, np.uint8)
    assert Linear(weight, **bits)(most).tolist() == [[-inputs * 128 * 255, inputs * 127 * 255]]
    shifted = Linear(weight, **bits, zero_point=255)
    assert shifted(most).tolist() == [[0, 0]]
    assert shifted(0 * most).tolist() == [[inputs * 128 * 255, -inputs * 127 * 255]]
    with pytest.raises(ValueError, match="can sum up to 2147516160 with 8-bit weights"):
        Linear(np.full((1, inputs + 1), -128), **bits)


@pytest.mark.parametrize("bits", BITS)
def test_signed_weights_round_trip(bits: int) -> None:
    codes = signed_codes(np.random.default_rng(bits), bits, 5, 3, 2, 3).astype(np.int8)
    packed = pack_weights(codes, bits, grid="signed")
    np.testing.assert_array_equal(unpack_weights(packed, bits, codes.shape, grid="signed"), codes)
    canonical = codes.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(packed, reference.pack_weights(canonical, bits, "signed"))
    np.testing.assert_array_equal(reference.unpack_weights(packed, bits, canonical.shape[1:], "signed"), canonical)


def test_golden_bytes_of_the_signed_grid() -> None:
    assert pack_weights(np.array([[-2, -1, 0, 1, 1]]), 2, "signed").tobytes().hex() == "e403"  # m = 0 1 2 3 | 3
    assert pack_weights(np.array([[-128, 127, 0]]), 8, "signed").tobytes().hex() == "00ff80"


@pytest.mark.parametrize(
    ("codes", "bits", "grid", "message"),
    [
        (
            [[0, 2]],
            2,
            "signed",
            r"codes: 2 at \(0, 1\), but 2-bit weight codes on the signed grid must",
        ),
        ([[0, -3]], 2, "signed", r"codes: -3 at \(0, 1\), .* integers from -2 to 1"),
        ([[1]], 1, "signed", r"codes: 1 at \(0, 0\), .* integers from -1 to 0"),
        ([[0]], 2, "odd", r"codes: 0 at \(0, 0\), but 2-bit weight codes must be odd integers from -3 to 3"),
        ([[0]], 2, "even", r"grid='even': must be 'odd' or 'signed'"),
    ],
)
def test_codes_off_the_grid(codes: list[list[int]], bits: int, grid: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack_weights(np.array(codes), bits, grid)


def test_unsigned_dtypes_hold_signed_codes_from_zero_on() -> None:
    assert pack_weights(np.array([[0, 1]], np.uint64), 2, "signed").tolist() == [[0b1110]]
    with pytest.raises(ValueError, match="2 at"):
        pack_weights(np.array([[0, 2]], np.uint8), 2, "signed")


@pytest.mark.parametrize(
    ("error", "keys", "message"),
    [
        (ValueError, {"weight_grid": "even"}, "weight_grid='even': must be 'odd' or 'signed'"),
        (TypeError, {"weight_grid": 1}, "weight_grid=1: must be 'odd' or 'signed', not int"),
        (ValueError, {"zero_point": 4}, "zero_point=4: must be an int from 0 to 3"),
        (ValueError, {"zero_point": -1}, "zero_point=-1: must be an int from 0 to 3"),
        (TypeError, {"zero_point": 1.0}, "zero_point=1.0: must be an int from 0 to 3, not float"),
        (
            ValueError,
            {"zero_point": 1, "activation_bits": 1, "sign_activations": True},
            "zero_point=1: must be 0 beside sign_activations=True",
        ),
    ],
)
def test_bad_arguments(error: type[Exception], keys: dict[str, Any], message: str) -> None:
    with pytest.raises(error, match=message):
        Linear(np.array([[1, -1]]), **{"weight_bits": 2, "activation_bits": 2} | keys)
    with pytest.raises(error, match=message):
        Conv2d(np.ones((1, 2, 1, 1), np.int64), **{"weight_bits": 2, "activation_bits": 2} | keys)


def linear_program(bits: int, **keys: Any) -> Program:
    return Program(
        [
            {"op": "input", "output": "x", "dtype": "uint8", "bits": bits, "shape": [4]},
            {"op": "linear", "input": "x", "weight": "w", "weight_bits": 2, "out_channels": 1, "int32": "y", **keys},
            {"op": "output", "input": "y"},
        ],
        {"w": np.array([[0b11100100]], np.uint8)},
    )


@pytest.mark.parametrize(
    ("bits", "keys", "message"),
    [
        (2, {"weight_grid": "even"}, '"weight_grid": "even" — must be one of "odd", "signed"'),
        (2, {"weight_grid": None}, '"weight_grid": null — must be one of "odd", "signed"'),
        (2, {"zero_point": 4}, '"zero_point": 4 — must be an integer from 0 to 3'),
        (2, {"zero_point": -1}, '"zero_point": -1 — must be an integer from 0 to 3'),
        (2, {"zero_point": True}, '"zero_point": true — must be an integer from 0 to 3'),
        (1, {"zero_point": 1, "sign_activations": True}, '"zero_point": 1 — must be 0 or missing beside'),
    ],
)
def test_bad_keys(bits: int, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"operation 1 (linear), {message}")):
        linear_program(bits, **keys)


def test_missing_keys_mean_the_odd_grid_and_no_zero_point() -> None:
    x = np.array([[3, 1, 2, 0]], np.uint8)
    plain = linear_program(2)(x)
    assert isinstance(plain, np.ndarray)
    assert plain.tolist() == [[-3 * 3 - 1 * 1 + 1 * 2 + 3 * 0]]
    np.testing.assert_array_equal(linear_program(2, weight_grid="odd", zero_point=0)(x), plain)
    other = linear_program(2, weight_grid="signed", zero_point=1)(x)
    np.testing.assert_array_equal(other, [[-2 * 2 - 1 * 0 + 0 * 1 + 1 * -1]])


def test_float_layers_have_neither() -> None:
    for key, value in (("weight_grid", "signed"), ("zero_point", 0)):
        with pytest.raises(ValueError, match=f'"{key}": unknown key'):
            Program(
                [
                    {"op": "input", "output": "x", "dtype": "float32", "shape": [1]},
                    {"op": "linear_float", "input": "x", "weight": "w", "float32": "y", key: value},
                    {"op": "output", "input": "y"},
                ],
                {"w": np.ones((1, 1), np.float32)},
            )


def test_layers_say_what_they_are() -> None:
    layer = Linear(np.array([[1, 0]]), weight_bits=2, activation_bits=3, weight_grid="signed", zero_point=4)
    assert (layer.weight_grid, layer.zero_point) == ("signed", 4)
    assert repr(layer) == "Linear(2, 1, weight_bits=2, activation_bits=3, weight_grid='signed', zero_point=4)"
    description = layer.program().description[1]
    assert (description["weight_grid"], description["zero_point"]) == ("signed", 4)


def test_layers_without_them_are_what_older_runtimes_read() -> None:
    layer = Linear(np.array([[1, -1]]), weight_bits=1, activation_bits=2)
    assert not {"weight_grid", "zero_point"} & layer.program().description[1].keys()
