"""Bad input is refused before any work is done, with a message that names the thing."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bitorch_runtime import Conv2d, Linear, Program, pack_weights, reference, unpack_weights

Array = np.ndarray[Any, Any]
Description = tuple[list[dict[str, Any]], dict[str, Array]]

X, QUANTIZE, CONV, POOL, FLATTEN, LINEAR, OUTPUT = range(7)


def description() -> Description:
    """float32 [3, 6, 6] -> codes -> conv2d -> max_pool -> flatten -> linear."""
    rng = np.random.default_rng(0)
    weight = 2 * rng.integers(0, 4, (4, 3, 3, 3)) - 3
    head = 2 * rng.integers(0, 2, (5, 36)) - 1
    arrays: dict[str, Array] = {
        "weight": pack_weights(weight, 2),
        "thresholds": np.sort(rng.integers(-20, 20, (4, 3)), axis=1).astype(np.int32),
        "descending": np.zeros(4, np.bool_),
        "head": pack_weights(head, 1),
        "multiply": np.ones(5, np.float32),
        "offset": np.zeros(5, np.float32),
    }
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "x", "dtype": "float32", "shape": [3, 6, 6], "order": "nchw"},
        {"op": "quantize", "input": "x", "output": "q", "bits": 2},
        {
            "op": "conv2d",
            "input": "q",
            "weight": "weight",
            "weight_bits": 2,
            "out_channels": 4,
            "kernel_size": [3, 3],
            "stride": [1, 1],
            "padding": [1, 1, 1, 1],
            "dilation": [1, 1],
            "groups": 1,
            "thresholds": "thresholds",
            "descending": "descending",
            "bits": 2,
            "codes": "h",
        },
        {
            "op": "max_pool",
            "input": "h",
            "output": "p",
            "kernel_size": [2, 2],
            "stride": [2, 2],
            "padding": [0, 0, 0, 0],
        },
        {"op": "flatten", "input": "p", "output": "f", "order": "chw"},
        {
            "op": "linear",
            "input": "f",
            "weight": "head",
            "weight_bits": 1,
            "out_channels": 5,
            "multiply": "multiply",
            "offset": "offset",
            "float32": "y",
        },
        {"op": "output", "input": "y", "order": "nchw"},
    ]
    return operations, arrays


def test_the_description_itself_is_good() -> None:
    operations, arrays = description()
    x = np.random.default_rng(1).random((2, 3, 6, 6), np.float32)
    np.testing.assert_array_equal(Program(operations, arrays)(x), reference.run(operations, arrays, x))


def put(index: int, key: str, value: Any) -> Callable[[list[dict[str, Any]], dict[str, Array]], None]:
    """Replace a value of one operation."""

    def edit(operations: list[dict[str, Any]], arrays: dict[str, Array]) -> None:
        operations[index][key] = value

    return edit


def drop(index: int, key: str) -> Callable[[list[dict[str, Any]], dict[str, Array]], None]:
    """Leave out a key of one operation."""

    def edit(operations: list[dict[str, Any]], arrays: dict[str, Array]) -> None:
        del operations[index][key]

    return edit


def store(name: str, make: Callable[[Array], Any]) -> Callable[[list[dict[str, Any]], dict[str, Array]], None]:
    """Replace an array by what `make` makes of it."""

    def edit(operations: list[dict[str, Any]], arrays: dict[str, Array]) -> None:
        arrays[name] = make(arrays[name])

    return edit


def add(index: int, operation: dict[str, Any]) -> Callable[[list[dict[str, Any]], dict[str, Array]], None]:
    """Insert an operation."""

    def edit(operations: list[dict[str, Any]], arrays: dict[str, Array]) -> None:
        operations.insert(index, operation)

    return edit


def remove(index: int) -> Callable[[list[dict[str, Any]], dict[str, Array]], None]:
    """Leave out an operation."""

    def edit(operations: list[dict[str, Any]], arrays: dict[str, Array]) -> None:
        del operations[index]

    return edit


def too_wide(operations: list[dict[str, Any]], arrays: dict[str, Array]) -> None:
    """A sum of K·n_w·n_a = 33026·255·255 > 2^31 − 1."""
    inputs = 33026
    operations[:] = [
        {"op": "input", "output": "x", "dtype": "uint8", "bits": 8, "shape": [inputs], "order": "nchw"},
        {"op": "linear", "input": "x", "weight": "w", "weight_bits": 8, "out_channels": 1, "int32": "y"},
        {"op": "output", "input": "y", "order": "nchw"},
    ]
    arrays.clear()
    arrays["w"] = np.zeros((1, inputs), np.uint8)


HUGE = 2**62


def norm(multiply: Array, offset: Array) -> Callable[[list[dict[str, Any]], dict[str, Array]], None]:
    """Give the last layer these."""

    def edit(operations: list[dict[str, Any]], arrays: dict[str, Array]) -> None:
        operations[LINEAR].update(norm_multiply="norm_multiply", norm_offset="norm_offset")
        arrays.update(norm_multiply=multiply, norm_offset=offset)

    return edit


#: name: (edit, what the message must say)
BAD_PROGRAMS: dict[str, tuple[Callable[[list[dict[str, Any]], dict[str, Array]], object], str]] = {
    # operations and keys
    "unknown op": (
        put(POOL, "op", "maxpool"),
        'operation 3 (maxpool), "op": "maxpool" — must be one of "input", "output", "conv2d", "linear",',
    ),
    "op missing": (drop(POOL, "op"), 'operation 3: "op" must be a string that names the operation, e.g. "conv2d"'),
    "op of a wrong type": (
        put(POOL, "op", 3),
        'operation 3: "op" must be a string that names the operation, e.g. "conv2d"',
    ),
    "unknown key": (
        put(CONV, "strides", [1, 1]),
        'operation 2 (conv2d), "strides": unknown key — conv2d has "input", "weight", "weight_bits",',
    ),
    "key missing": (drop(CONV, "stride"), 'operation 2 (conv2d): the key "stride" is missing'),
    "key of a wrong type": (
        put(CONV, "stride", "2"),
        'operation 2 (conv2d), "stride": "2" — must be a list of 2 integers',
    ),
    "null": (put(CONV, "groups", None), 'operation 2 (conv2d), "groups": null — must be an integer from 1 to 16777216'),
    "float for an integer": (
        put(CONV, "groups", 1.5),
        'operation 2 (conv2d), "groups": 1.5 — must be an integer from 1 to 16777216',
    ),
    "bool for an integer": (
        put(CONV, "groups", True),
        'operation 2 (conv2d), "groups": true — must be an integer from 1 to 16777216',
    ),
    "list of a wrong length": (
        put(CONV, "stride", [1]),
        'operation 2 (conv2d), "stride": [1] — must be a list of 2 integers',
    ),
    "list of wrong types": (
        put(CONV, "padding", [0, 0, 0, "1"]),
        'operation 2 (conv2d), "padding": [0, 0, 0, "1"] — each must be an integer from 0 to 1048576',
    ),
    "number for a list": (
        put(CONV, "kernel_size", 3),
        'operation 2 (conv2d), "kernel_size": 3 — must be a list',
    ),
    "unknown order": (
        put(FLATTEN, "order", "cwh"),
        'operation 4 (flatten), "order": "cwh" — must be one of "chw", "hwc"',
    ),
    "unknown dtype": (
        put(X, "dtype", "float64"),
        'operation 0 (input), "dtype": "float64" — must be one of "float32", "uint8"',
    ),
    "no operations": (lambda operations, arrays: operations.clear(), 'a program needs at least one "input" operation'),
    "no input": (
        remove(X),
        'operation 0 (quantize), "input": "x" — no operation before this one gives a tensor called "x"',
    ),
    "no output": (remove(OUTPUT), 'a program needs at least one "output" operation'),
    # names
    "tensor not defined": (
        put(CONV, "input", "nothing"),
        'operation 2 (conv2d), "input": "nothing" — no operation before this one gives a tensor called "nothing"',
    ),
    "used before its definition": (
        put(QUANTIZE, "input", "p"),
        'operation 1 (quantize), "input": "p" — no operation before this one gives a tensor called "p"',
    ),
    "its own input": (
        put(POOL, "input", "p"),
        'operation 3 (max_pool), "input": "p" — no operation before this one gives a tensor called "p"',
    ),
    "defined twice": (
        put(POOL, "output", "h"),
        'operation 3 (max_pool), "output": "h" — a tensor of that name is already there; each name is given once',
    ),
    "output twice": (
        add(7, {"op": "output", "input": "y", "order": "nchw"}),
        'operation 7 (output), "input": "y" — this tensor is an output already',
    ),
    "array missing": (
        put(CONV, "weight", "w"),
        'operation 2 (conv2d), "weight": "w" — there is no array of that name; the arrays are "descending",',
    ),
    "array unused": (drop(CONV, "descending"), 'arrays that no operation uses: "descending"; leave them out'),
    "tensor name empty": (
        put(X, "output", ""),
        'operation 0 (input), "output": "" — must be a name (a string that is not empty and has no control',
    ),
    # kinds of tensors
    "floats for codes": (
        put(CONV, "input", "x"),
        'operation 2 (conv2d), "input": "x" — the tensor "x" is float32 [6, 6, 3], but must be codes',
    ),
    "codes for floats": (
        add(POOL, {"op": "quantize", "input": "h", "output": "g", "bits": 2}),
        'operation 3 (quantize), "input": "h" — the tensor "h" is codes [6, 6, 4] of 2 bits, but must be float32',
    ),
    "image for features": (
        put(LINEAR, "input", "h"),
        'operation 5 (linear), "weight": "head" — the array is uint8 [5, 5], but must be uint8 [5, 1]',
    ),
    "output of a consumed name": (
        put(OUTPUT, "input", "z"),
        'operation 6 (output), "input": "z" — no operation before this one gives a tensor called "z"',
    ),
    # sizes
    "zero stride": (
        put(CONV, "stride", [0, 1]),
        'operation 2 (conv2d), "stride": [0, 1] — each must be an integer from 1 to 1048576',
    ),
    "negative stride": (
        put(CONV, "stride", [1, -1]),
        'operation 2 (conv2d), "stride": [1, -1] — each must be an integer from 1 to 1048576',
    ),
    "negative padding": (
        put(CONV, "padding", [0, 0, -1, 0]),
        'operation 2 (conv2d), "padding": [0, 0, -1, 0] — each must be an integer from 0 to 1048576',
    ),
    "zero kernel": (
        put(POOL, "kernel_size", [0, 2]),
        'operation 3 (max_pool), "kernel_size": [0, 2] — each must be an integer from 1 to 1048576',
    ),
    "kernel larger than the image": (
        put(POOL, "kernel_size", [9, 2]),
        'operation 3 (max_pool), "kernel_size": [9, 2] — with its dilation it spans [9, 2] pixels, more than the',
    ),
    "zero dilation": (
        put(CONV, "dilation", [1, 0]),
        'operation 2 (conv2d), "dilation": [1, 0] — each must be an integer from 1 to 1048576',
    ),
    "zero groups": (
        put(CONV, "groups", 0),
        'operation 2 (conv2d), "groups": 0 — must be an integer from 1 to 16777216',
    ),
    "groups do not divide": (
        put(CONV, "groups", 2),
        'operation 2 (conv2d), "groups": 2 — must divide the input\'s 3 channels and the 4 output channels',
    ),
    "empty image": (
        put(X, "shape", [3, 0, 6]),
        'operation 0 (input), "shape": [3, 0, 6] — each must be an integer from 1 to 16777216',
    ),
    "negative image": (
        put(X, "shape", [3, -6, 6]),
        'operation 0 (input), "shape": [3, -6, 6] — each must be an integer from 1 to 16777216',
    ),
    "shape of nine": (
        put(X, "shape", [1] * 9),
        'operation 0 (input), "shape": [1, 1, 1, 1, 1, 1, 1, 1, 1] — must be [C, rows ...], up to 8 dimensions',
    ),
    "shape of none": (put(X, "shape", []), 'operation 0 (input), "shape": [] — must be [C, rows ...], up to 8'),
    "huge stride is fine but huge padding is not": (
        put(CONV, "padding", [HUGE, 0, 0, 0]),
        'operation 2 (conv2d), "padding": [4611686018427387904, 0, 0, 0] — each must be an integer from 0 to',
    ),
    "huge dilation": (
        put(CONV, "dilation", [HUGE, HUGE]),
        'operation 2 (conv2d), "dilation": [4611686018427387904, 4611686018427387904] — each must be an integer',
    ),
    "huge kernel": (
        put(CONV, "kernel_size", [HUGE, HUGE]),
        'operation 2 (conv2d), "kernel_size": [4611686018427387904, 4611686018427387904] — each must be an',
    ),
    "huge image": (
        put(X, "shape", [HUGE, HUGE, HUGE]),
        'operation 0 (input), "shape": [4611686018427387904, 4611686018427387904, 4611686018427387904] — each',
    ),
    "huge channels": (
        put(CONV, "out_channels", HUGE),
        'operation 2 (conv2d), "out_channels": 4611686018427387904 — must be an integer from 1 to 16777216',
    ),
    "number beyond 64 bits": (
        put(CONV, "out_channels", 10**30),
        'operation 2 (conv2d), "out_channels": 1e+30 — must be an integer from 1 to 16777216',
    ),
    "zero channels": (
        put(CONV, "out_channels", 0),
        'operation 2 (conv2d), "out_channels": 0 — must be an integer from 1 to 16777216',
    ),
    # bits
    "zero bits": (put(QUANTIZE, "bits", 0), 'operation 1 (quantize), "bits": 0 — must be an integer from 1 to 8'),
    "nine bits": (put(QUANTIZE, "bits", 9), 'operation 1 (quantize), "bits": 9 — must be an integer from 1 to 8'),
    "weights of no bits": (
        put(CONV, "weight_bits", 0),
        'operation 2 (conv2d), "weight_bits": 0 — must be an integer from 1 to 8',
    ),
    "weights of nine bits": (
        put(CONV, "weight_bits", 9),
        'operation 2 (conv2d), "weight_bits": 9 — must be an integer from 1 to 8',
    ),
    "signs of two bits": (
        put(CONV, "sign_activations", True),
        'operation 2 (conv2d), "sign_activations": true — needs an input of 1 bit, but it is codes [6, 6, 3] of',
    ),
    "int32 overflow": (
        too_wide,
        "operation 1 (linear): 33026 weights per output, times the largest weight and activation code, 65025,",
    ),
    # what follows a convolution
    "nothing leaves": (drop(LINEAR, "float32"), 'operation 5 (linear): needs an output: "int32", "float32" or "codes"'),
    "offset missing": (
        drop(LINEAR, "offset"),
        'operation 5 (linear): the float stage needs both "multiply" and "offset", or neither',
    ),
    "multiply missing": (
        drop(LINEAR, "multiply"),
        'operation 5 (linear): the float stage needs both "multiply" and "offset", or neither',
    ),
    "floats without a float stage": (
        put(CONV, "float32", "z"),
        'operation 2 (conv2d), "float32": "z" — needs the float stage: "multiply" and "offset"',
    ),
    "relu without a float stage": (
        put(CONV, "relu", True),
        'operation 2 (conv2d), "relu": true — needs the float stage: "multiply" and "offset"',
    ),
    "norm without a float stage": (
        lambda operations, arrays: operations[CONV].update(norm_multiply="multiply", norm_offset="offset"),
        'operation 2 (conv2d), "norm_multiply": "multiply" — needs the float stage: "multiply" and "offset"',
    ),
    "norm_offset missing": (
        put(LINEAR, "norm_multiply", "multiply"),
        'operation 5 (linear): it needs both "norm_multiply" and "norm_offset", or neither',
    ),
    "norm_multiply missing": (
        put(LINEAR, "norm_offset", "offset"),
        'operation 5 (linear): it needs both "norm_multiply" and "norm_offset", or neither',
    ),
    "norm of another shape": (
        norm(np.ones(4, np.float32), np.ones(5, np.float32)),
        'operation 5 (linear), "norm_multiply": "norm_multiply" — the array is float32 [4], but must be float32',
    ),
    "norm of another rank": (
        norm(np.ones(5, np.float32), np.ones((5, 1), np.float32)),
        'operation 5 (linear), "norm_offset": "norm_offset" — the array is float32 [5, 1], but must be float32',
    ),
    "norm of another dtype": (
        norm(np.ones(5, np.float32), np.ones(5)),
        'operation 5 (linear), "norm_offset": "norm_offset" — the array is float64 [5], but must be float32 [5]',
    ),
    "residual without a float stage": (
        put(CONV, "residual", "x"),
        'operation 2 (conv2d), "residual": "x" — needs the float stage: "multiply" and "offset"',
    ),
    "residual of another shape": (
        put(LINEAR, "residual", "x"),
        'operation 5 (linear), "residual": "x" — the tensor is float32 [6, 6, 3], but the output is [1, 1, 5]',
    ),
    "residual of codes": (
        put(LINEAR, "residual", "f"),
        'operation 5 (linear), "residual": "f" — the tensor "f" is codes [1, 1, 36] of 2 bits, but must be',
    ),
    "codes without bits": (drop(CONV, "bits"), 'operation 2 (conv2d): the key "bits" is missing'),
    "bits without codes": (
        put(LINEAR, "bits", 2),
        'operation 5 (linear), "bits": 2 — has a meaning only beside "codes"',
    ),
    "descending without thresholds": (
        drop(CONV, "thresholds"),
        'operation 2 (conv2d), "descending": "descending" — has a meaning only beside "thresholds"',
    ),
    "unit quantizer without floats": (
        lambda operations, arrays: [operations[CONV].pop(key) for key in ("thresholds", "descending")],
        'operation 2 (conv2d), "codes": "h" — without thresholds they need the float stage: "multiply" and "offset"',
    ),
    "threshold of y without y": (
        store("thresholds", lambda a: a.astype(np.float32)),
        'operation 2 (conv2d), "codes": "h" — float32 thresholds need the float stage: "multiply" and "offset"',
    ),
    # arrays
    "weight too short": (
        store("weight", lambda a: a[:, :-1]),
        'operation 2 (conv2d), "weight": "weight" — the array is uint8 [4, 6], but must be uint8 [4, 7]',
    ),
    "weight too long": (
        store("weight", lambda a: np.pad(a, ((0, 0), (0, 1)))),
        'operation 2 (conv2d), "weight": "weight" — the array is uint8 [4, 8], but must be uint8 [4, 7]',
    ),
    "weight of fewer channels": (
        store("weight", lambda a: a[:-1]),
        'operation 2 (conv2d), "weight": "weight" — the array is uint8 [3, 7], but must be uint8 [4, 7]',
    ),
    "weight of another dtype": (
        store("weight", lambda a: a.astype(np.int8)),
        'operation 2 (conv2d), "weight": "weight" — the array is int8 [4, 7], but must be uint8 [4, 7]',
    ),
    "weight of another rank": (
        store("weight", np.ravel),
        'operation 2 (conv2d), "weight": "weight" — the array is uint8 [28], but must be uint8 [4, 7]',
    ),
    "padding bits of a weight set": (
        store("weight", lambda a: np.full_like(a, 255)),
        'operation 2 (conv2d), "weight": "weight" — channel 0: the last 2 bits of its row must be zero',
    ),
    "thresholds of another dtype": (
        store("thresholds", lambda a: a.astype(np.int64)),
        'operation 2 (conv2d), "thresholds": "thresholds" — the array is int64 [4, 3], but must be float32 [4, 3]',
    ),
    "too few thresholds": (
        store("thresholds", lambda a: a[:, :2]),
        'operation 2 (conv2d), "thresholds": "thresholds" — the array is int32 [4, 2], but must be int32 [4, 3]',
    ),
    "thresholds out of order": (
        store("thresholds", lambda a: np.sort(a)[:, ::-1] - np.arange(3, dtype=np.int32)),
        "operation 2 (conv2d): thresholds: channel 0 must be in rising order, but threshold 1 is -5 after 12",
    ),
    "descending of another dtype": (
        store("descending", lambda a: a.astype(np.float32)),
        'operation 2 (conv2d), "descending": "descending" — the array is float32 [4], but must be bool [4]',
    ),
    "descending too long": (
        store("descending", lambda a: np.zeros(5, np.bool_)),
        'operation 2 (conv2d), "descending": "descending" — the array is bool [5], but must be bool [4]',
    ),
    "multiply of another dtype": (
        store("multiply", lambda a: a.astype(np.float64)),
        'operation 5 (linear), "multiply": "multiply" — the array is float64 [5], but must be float32 [5]',
    ),
    "multiply too short": (
        store("multiply", lambda a: a[:-1]),
        'operation 5 (linear), "multiply": "multiply" — the array is float32 [4], but must be float32 [5]',
    ),
    "offset of another rank": (
        store("offset", lambda a: a[np.newaxis]),
        'operation 5 (linear), "offset": "offset" — the array is float32 [1, 5], but must be float32 [5]',
    ),
    "not an array": (store("offset", lambda a: "offset"), "arrays['offset']: must be a NumPy array, not str"),
    "big-endian": (
        store("offset", lambda a: a.astype(">f4")),
        "arrays['offset']: the dtype is >f4, in another byte order; use astype('float32')",
    ),
    "empty array": (
        store("offset", lambda a: a[:0]),
        'operation 5 (linear), "offset": "offset" — the array is float32 [0], but must be float32 [5]',
    ),
}


@pytest.mark.parametrize("name", BAD_PROGRAMS)
def test_bad_programs(name: str) -> None:
    edit, says = BAD_PROGRAMS[name]
    operations, arrays = description()
    edit(operations, arrays)
    with pytest.raises((ValueError, TypeError)) as raised:
        Program(operations, arrays)
    assert says in str(raised.value)


BAD_AFFINES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to compute": (
        {},
        'operation 1 (affine): there is nothing to compute: give "divide", "multiply" and "offset",',
    ),
    "offset missing": (
        {"multiply": "three"},
        'operation 1 (affine): it needs both "multiply" and "offset", or neither',
    ),
    "multiply missing": (
        {"offset": "three"},
        'operation 1 (affine): it needs both "multiply" and "offset", or neither',
    ),
    "norm_offset missing": (
        {"norm_multiply": "three"},
        'operation 1 (affine): it needs both "norm_multiply" and "norm_offset", or neither',
    ),
    "norm_multiply missing": (
        {"divide": "three", "norm_offset": "three"},
        'operation 1 (affine): it needs both "norm_multiply" and "norm_offset", or neither',
    ),
    "divide of another shape": (
        {"divide": "four"},
        'operation 1 (affine), "divide": "four" — the array is float32 [4], but must be float32 [3]',
    ),
    "offset of another shape": (
        {"multiply": "three", "offset": "four"},
        'operation 1 (affine), "offset": "four" — the array is float32 [4], but must be float32 [3]',
    ),
    "norm of another shape": (
        {"norm_multiply": "four", "norm_offset": "four"},
        'operation 1 (affine), "norm_multiply": "four" — the array is float32 [4], but must be float32 [3]',
    ),
    "limits the wrong way round": (
        {"low": 1.0, "high": 0.0},
        'operation 1 (affine), "low": 1.0 — must not be above "high"',
    ),
    "relu": (
        {"divide": "three", "relu": True},
        'operation 1 (affine), "relu": unknown key — affine has "input", "divide", "multiply", "offset",',
    ),
}


@pytest.mark.parametrize("name", BAD_AFFINES)
def test_bad_affines(name: str) -> None:
    keys, says = BAD_AFFINES[name]
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "x", "dtype": "float32", "shape": [3, 2, 2], "order": "nchw"},
        {"op": "affine", "input": "x", "float32": "y", **keys},
        {"op": "output", "input": "y", "order": "nchw"},
    ]
    sizes = {"three": 3, "four": 4}
    arrays = {key: np.ones(size, np.float32) for key, size in sizes.items() if key in keys.values()}
    with pytest.raises(ValueError, match=re.escape(says)):
        Program(operations, arrays)


def test_too_many_operations() -> None:
    chain = [{"op": "input", "output": "x", "dtype": "float32", "shape": [1], "order": "nchw"}] * 10001
    with pytest.raises(ValueError, match="at most 10000"):
        Program(chain, {})


def test_names_have_no_control_characters() -> None:
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "a\0b", "dtype": "float32", "shape": [1]},
        {"op": "output", "input": "a\0b"},
    ]
    with pytest.raises(ValueError, match="no control characters"):
        Program(operations, {})


def test_a_refused_program_leaves_its_arguments_alone() -> None:
    operations, arrays = description()
    before = copy.deepcopy(operations)
    with pytest.raises((ValueError, TypeError)):
        Program(operations, {**arrays, "spare": np.zeros(3)})
    assert operations == before


@pytest.mark.parametrize(
    ("operations", "says"),
    [
        (None, "operations: must be a list of dicts, not NoneType"),
        (3, "operations: must be a list of dicts, not int"),
        ("[]", "operations: must be a list of dicts, not str"),
        ({"op": "input"}, "operations: must be a list of dicts, not dict"),
        ([1], "operation 0: must be a dict, not int"),
        ([{}, []], "operation 1: must be a dict, not list"),
        ([None], "operation 0: must be a dict, not NoneType"),
    ],
)
def test_operations_that_are_no_list_of_dicts(operations: Any, says: str) -> None:
    with pytest.raises(TypeError, match=f"^{says}$"):
        Program(operations, {})


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def endless() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["stride"] = value
    return value


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({(1, 2): 3}, TypeError, "keys must be str.*not tuple"),
        ({"stride": {(1, 2): 3}}, TypeError, "keys must be str.*not tuple"),
        ({"stride": object()}, TypeError, "is object, which JSON cannot hold"),
        ({"stride": 1j}, TypeError, "1j is complex, which JSON cannot hold"),
        ({"stride": np.ones(2, np.int64)}, TypeError, "is ndarray, which JSON cannot hold; arrays go into `arrays`"),
        ({"stride": float("nan")}, ValueError, "not JSON compliant"),
        ({"stride": [1, np.float64("inf")]}, ValueError, "not JSON compliant"),
        ({"stride": nested(100_000)}, ValueError, "nested too deeply"),
        (endless(), ValueError, "Circular reference"),
        ({"codes": "\ud800"}, ValueError, "surrogates not allowed"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_operations_that_json_cannot_hold(change: dict[Any, Any], error: type[Exception], says: str) -> None:
    operations, arrays = description()
    operations[CONV] = {**operations[CONV], **change}
    with pytest.raises(error, match=rf"^operation {CONV}: .*{says}"):
        Program(operations, arrays)


# Inputs of a run


BAD_INPUTS: dict[str, tuple[Callable[[Array], Any], str]] = {
    "another dtype": (lambda x: x.astype(np.float64), "input 'x': the dtype is <f8 (float64), but must be float32"),
    "integers": (lambda x: x.astype(np.uint8), "input 'x': the dtype is |u1 (uint8), but must be float32"),
    "big-endian": (lambda x: x.astype(">f4"), "input 'x': the dtype is >f4 (>f4), but must be float32"),
    "one dimension less": (
        lambda x: x[0],
        "input 'x': the shape is (3, 6, 6), but must be (batch, 3, 6, 6); one image is a batch of one,",
    ),
    "one dimension more": (
        lambda x: x[np.newaxis],
        "input 'x': the shape is (1, 2, 3, 6, 6), but must be (batch, 3, 6, 6)",
    ),
    "another height": (lambda x: x[:, :, 1:], "input 'x': the shape is (2, 3, 5, 6), but must be (batch, 3, 6, 6)"),
    "other channels": (lambda x: x[:, 1:], "input 'x': the shape is (2, 2, 6, 6), but must be (batch, 3, 6, 6)"),
    "none": (lambda x: None, "input 'x': must be a NumPy array, not NoneType"),
    "a list": (lambda x: x.tolist(), "input 'x': must be a NumPy array, not list"),
    "a number": (lambda x: 3.0, "input 'x': must be a NumPy array, not float"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_inputs(name: str) -> None:
    make, says = BAD_INPUTS[name]
    program = Program(*description())
    x = np.zeros((2, 3, 6, 6), np.float32)
    with pytest.raises((ValueError, TypeError), match=re.escape(says)):
        program(make(x))
    np.testing.assert_array_equal(program(x), reference.run(*description(), x))  # and goes on working


def test_the_number_of_inputs() -> None:
    program = Program(*description())
    x = np.zeros((1, 3, 6, 6), np.float32)
    calls: list[tuple[list[Array], dict[str, Array], str]] = [
        ([], {}, "input 'x' is missing"),
        ([x, x], {}, r"the program takes 1 inputs \(x\), but got 2"),
        ([x], {"x": x}, "input 'x' was given twice, by position and by name"),
        ([], {"z": x}, "no input is called 'z'; the inputs are x"),
    ]
    for inputs, named, says in calls:
        with pytest.raises(TypeError, match=f"^{says}$"):
            program(*inputs, **named)
        with pytest.raises(TypeError, match=f"^{says}$"):
            program.profile(*inputs, named=named)


def test_bad_arguments_of_a_profile() -> None:
    program = Program(*description())
    x = np.zeros((1, 3, 6, 6), np.float32)
    with pytest.raises(TypeError, match=r"^named: must be a dict of NumPy arrays, not list$"):
        program.profile(named=[("x", x)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^repeats=0: must be an int from 1 to 1000000$"):
        program.profile(x, repeats=0)
    with pytest.raises(TypeError, match=r"^repeats=1.5: must be an int from 1 to 1000000, not float$"):
        program.profile(x, repeats=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^input 'x': the shape is \(3, 6, 6\)"):
        program.profile(x[0])


def test_inputs_of_different_batches() -> None:
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "a", "dtype": "float32", "shape": [3], "order": "nchw"},
        {"op": "input", "output": "b", "dtype": "float32", "shape": [3], "order": "nchw"},
        {"op": "add", "inputs": ["a", "b"], "float32": "y"},
        {"op": "output", "input": "y", "order": "nchw"},
    ]
    program = Program(operations, {})
    for batch in (2, 1):  # no broadcasting
        a, b = np.zeros((batch, 3), np.float32), np.zeros((3, 3), np.float32)
        with pytest.raises(ValueError, match=f'^input "b" has a batch of 3, but "a" has {batch}; they must be equal$'):
            program(a, b)
        with pytest.raises(ValueError, match=rf"^the inputs have different batches: {{'a': {batch}, 'b': 3}}$"):
            reference.run(operations, {}, a, b)


@pytest.mark.parametrize("bits", range(1, 8))
@pytest.mark.parametrize("channels", [1, 5, 64, 100])
def test_codes_above_the_largest(bits: int, channels: int) -> None:
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "x", "dtype": "uint8", "bits": bits, "shape": [channels, 2, 2], "order": "nhwc"},
        {"op": "output", "input": "x", "order": "nhwc"},
    ]
    program = Program(operations, {})
    n = 2**bits - 1
    good = np.full((3, 2, 2, channels), n, np.uint8)
    for position in (0, good.size // 2, good.size - 1):
        for code in (n + 1, 255):
            bad = good.copy()
            bad.reshape(-1)[position] = code
            with pytest.raises(ValueError, match=rf'^input "x": {code} at flat index {position} .* from 0 to {n}$'):
                program(bad)
    np.testing.assert_array_equal(program(good), good)


def test_nan_and_inf_are_values() -> None:
    """Not an error: NaN becomes code 0, and stays NaN in floats."""
    operations, arrays = description()
    operations.append({"op": "output", "input": "q", "order": "nchw"})
    x = np.full((1, 3, 6, 6), np.nan, np.float32)
    x[0, 1] = np.inf
    q = Program(operations, arrays)(x)["q"]
    assert q[0, 0].max() == 0
    assert q[0, 1].min() == 3


def test_absurd_batches_are_out_of_memory() -> None:
    """A broadcast array of 2^40 images takes no memory itself."""
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "x", "dtype": "uint8", "bits": 1, "shape": [1], "order": "nchw"},
        {"op": "dequantize", "input": "x", "output": "y"},
        {"op": "output", "input": "y", "order": "nchw"},
    ]
    program = Program(operations, {})
    x = np.broadcast_to(np.zeros((1, 1), np.uint8), (2**45, 1))
    with pytest.raises((MemoryError, ValueError)):
        program(x)
    np.testing.assert_array_equal(program(np.ones((1, 1), np.uint8)), [[1.0]])


# Layers and packing


def good_codes(*shape: int) -> Array:
    return np.ones(shape, np.int64)


BAD_CONVOLUTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "rank": (
        {"weight_codes": good_codes(4, 3, 3)},
        "weight_codes: the shape is (4, 3, 3), but must be [out_channels, in_channels/groups, kernel_h, kernel_w]",
    ),
    "dtype": (
        {"weight_codes": good_codes(4, 3, 3, 3).astype(np.float32)},
        "weight_codes: the dtype is float32, but weight codes are integers",
    ),
    "even code": (
        {"weight_codes": good_codes(4, 3, 3, 3) * 2},
        "weight_codes: 2 at (0, 0, 0, 0), but 2-bit weight codes must be odd integers from -3 to 3",
    ),
    "code too large": (
        {"weight_codes": good_codes(4, 3, 3, 3) * 5},
        "weight_codes: 5 at (0, 0, 0, 0), but 2-bit weight codes must be odd integers from -3 to 3",
    ),
    "code too small": (
        {"weight_codes": good_codes(4, 3, 3, 3) * -5},
        "weight_codes: -5 at (0, 0, 0, 0), but 2-bit weight codes must be odd integers from -3 to 3",
    ),
    "no channels": (
        {"weight_codes": good_codes(0, 3, 3, 3)},
        "weight_codes: the shape is (0, 3, 3, 3), but there must be one or more channels and taps",
    ),
    "no array": ({"weight_codes": "codes"}, "weight_codes: must be a NumPy array of integers, not str"),
    "weight bits": ({"weight_bits": 9}, "weight_bits=9: must be an int from 1 to 8"),
    "weight bits of a wrong type": ({"weight_bits": "2"}, "weight_bits='2': must be an int from 1 to 8, not str"),
    "activation bits": ({"activation_bits": 0}, "activation_bits=0: must be an int from 1 to 8"),
    "stride": ({"stride": 0}, "stride=0: must be an int from 1 to 1048576"),
    "stride of three": ({"stride": (1, 1, 1)}, "stride=(1, 1, 1): must be an int, or 2 of them"),
    "padding": ({"padding": -1}, "padding=-1: must be an int from 0 to 1048576"),
    "padding by a name": ({"padding": "same"}, "padding='same': must be an int, or 2 or 4 of them"),
    "dilation": ({"dilation": 0}, "dilation=0: must be an int from 1 to 1048576"),
    "groups": ({"groups": 3}, "groups=3: must divide the 4 output channels of weight_codes"),
    "signs of more bits": ({"sign_activations": True}, "sign_activations=True: needs activation_bits=1, not 2"),
    "half a float stage": (
        {"multiply": np.ones(4, np.float32)},
        "multiply and offset: the float stage needs both, or neither",
    ),
}


@pytest.mark.parametrize("name", BAD_CONVOLUTIONS)
def test_bad_convolutions(name: str) -> None:
    change, says = BAD_CONVOLUTIONS[name]
    arguments: dict[str, Any] = {
        "weight_codes": good_codes(4, 3, 3, 3),
        "weight_bits": 2,
        "activation_bits": 2,
    } | change
    with pytest.raises((ValueError, TypeError), match=re.escape(says)):
        Conv2d(arguments.pop("weight_codes"), **arguments)


def floats(**more: Any) -> dict[str, Any]:
    """The float stage of four channels, and what comes after it."""
    return {"multiply": np.ones(4, np.float32), "offset": np.zeros(4, np.float32), **more}


def rows(*thresholds: float, dtype: Any = np.int32) -> Array:
    """The same thresholds in four channels."""
    return np.array([thresholds] * 4, dtype)


def one_channel(row: Array, channel: int, *thresholds: float) -> Array:
    row[channel] = thresholds
    return row


FALLS = np.array([False, False, True, False])

#: name: (arguments of a layer of four channels, the whole message)
BAD_STAGES: dict[str, tuple[dict[str, Any], str]] = {
    "multiply alone": (
        {"multiply": np.ones(4, np.float32)},
        "multiply and offset: the float stage needs both, or neither",
    ),
    "offset alone": (
        {"offset": np.ones(4, np.float32)},
        "multiply and offset: the float stage needs both, or neither",
    ),
    "multiply too short": (
        floats(multiply=np.ones(3, np.float32)),
        "multiply: the shape is (3,), but must be (4,)",
    ),
    "offset of another dtype": (
        floats(offset=np.ones(4)),
        "offset: the dtype is <f8 (float64), but must be float32; use astype",
    ),
    "a number for multiply": (floats(multiply=1.0), "multiply: must be a NumPy array, not float"),
    "norm_multiply alone": (
        floats(norm_multiply=np.ones(4, np.float32)),
        "norm_multiply and norm_offset: the float stage needs both, or neither",
    ),
    "norm alone": (
        {"norm_multiply": np.ones(4, np.float32), "norm_offset": np.ones(4, np.float32)},
        "norm_multiply and norm_offset: need the float stage, multiply and offset",
    ),
    "norm of another shape": (
        floats(norm_multiply=np.ones(4, np.float32), norm_offset=np.ones((4, 1), np.float32)),
        "norm_offset: the shape is (4, 1), but must be (4,)",
    ),
    "relu without floats": ({"relu": True}, "relu=True: needs the float stage, multiply and offset"),
    "relu of another type": (floats(relu=1), "relu=1: must be True or False"),
    "bits without thresholds": (
        {"bits": 2},
        "bits=2: codes need thresholds, or the float stage, multiply and offset",
    ),
    "bits out of range": (floats(bits=9), "bits=9: must be an int from 1 to 8"),
    "bits of another type": (floats(bits="2"), "bits='2': must be an int from 1 to 8, not str"),
    "descending without thresholds": (floats(descending=FALLS), "descending: has a meaning only beside thresholds"),
    "descending of another dtype": (
        {"thresholds": rows(1), "descending": np.zeros(4, np.uint8)},
        "descending: the dtype is |u1 (uint8), but must be bool; use astype",
    ),
    "descending too short": (
        {"thresholds": rows(1), "descending": FALLS[1:]},
        "descending: the shape is (3,), but must be (4,)",
    ),
    "thresholds of another dtype": (
        {"thresholds": rows(1, dtype=np.int64)},
        "thresholds: the dtype is <i8 (int64), but must be int32 or float32; use astype",
    ),
    "thresholds of y without y": (
        {"thresholds": rows(1, dtype=np.float32)},
        "thresholds: float32 ones are compared with y, which needs multiply and offset; those of D are int32",
    ),
    "two thresholds": (
        {"thresholds": rows(1, 2)},
        "thresholds: the shape is (4, 2), but must be (4, 2^bits − 1)",
    ),
    "thresholds of other bits": (
        {"thresholds": rows(1, 2, 3), "bits": 1},
        "thresholds: the shape is (4, 3), but must be (4, 1)",
    ),
    "thresholds of a list": ({"thresholds": [[1]] * 4}, "thresholds: must be a NumPy array, not list"),
    "thresholds that fall": (
        {"thresholds": one_channel(rows(1, 2, 3), 2, 1, 3, 2)},
        "thresholds: 2 at (2, 2) comes after 3, but those of a channel must never fall, unless descending is set",
    ),
    "thresholds that rise": (
        {"thresholds": rows(3, 3, 3) * 0 + np.array([5, 5, 6], np.int32), "descending": FALLS},
        "thresholds: 6 at (2, 2) comes after 5, but those of a channel must never rise where descending is set",
    ),
    "thresholds of y that fall": (
        floats(thresholds=one_channel(rows(0, 0, 0, dtype=np.float32), 3, 0.5, 0.25, 0.25)),
        "thresholds: 0.25 at (3, 1) comes after 0.5, but those of a channel must never fall, unless descending is set",
    ),
    "NaN among thresholds": (
        floats(thresholds=one_channel(rows(0, 1, 2, dtype=np.float32), 1, 0, np.nan, 2)),
        "thresholds: 2.0 at (1, 2) comes after NaN, which no number reaches, and which must therefore be the last",
    ),
}


@pytest.mark.parametrize("name", BAD_STAGES)
def test_bad_stages(name: str) -> None:
    """When the layer is made, not when it first runs."""
    stages, says = BAD_STAGES[name]
    with pytest.raises((ValueError, TypeError), match=f"^{re.escape(says)}$"):
        Conv2d(good_codes(4, 3, 3, 3), weight_bits=2, activation_bits=2, **stages)
    with pytest.raises((ValueError, TypeError), match=f"^{re.escape(says)}$"):
        Linear(good_codes(4, 3), weight_bits=2, activation_bits=2, **stages)


OTHER_SHAPE = "codes: the shape is {}, but must be (batch, H, W, 3)"


@pytest.mark.parametrize(
    ("codes", "says"),
    [
        (np.zeros((2, 5, 5, 4), np.uint8), OTHER_SHAPE.format((2, 5, 5, 4))),
        (np.zeros((2, 3, 5, 5), np.uint8), OTHER_SHAPE.format((2, 3, 5, 5))),
        (np.zeros((5, 5, 3), np.uint8), OTHER_SHAPE.format((5, 5, 3))),
        (np.zeros((2, 5, 5, 3), np.int64), "codes: the dtype is <i8 (int64), but must be uint8"),
        (np.zeros((2, 5, 5, 3), np.float32), "codes: the dtype is <f4 (float32), but must be uint8"),
        (np.full((2, 5, 5, 3), 4, np.uint8), 'input "codes": 4 at flat index 0'),
        (np.zeros((2, 2, 5, 3), np.uint8), "codes: images of 2 by 5 pixels, 2 by 5 with their padding, are smaller"),
        (np.zeros((2, 0, 5, 3), np.uint8), "codes: images of 0 by 5 pixels, 0 by 5 with their padding, are smaller"),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else "",
)
def test_bad_input_of_a_convolution(codes: Array, says: str) -> None:
    conv = Conv2d(good_codes(4, 3, 3, 3), weight_bits=2, activation_bits=2)
    with pytest.raises((ValueError, TypeError), match=re.escape(says)):
        conv(codes)
    assert conv(np.zeros((2, 5, 5, 3), np.uint8)).shape == (2, 3, 3, 4)


def test_bad_image_sizes_of_a_convolutions_program() -> None:
    conv = Conv2d(good_codes(4, 3, 3, 3), weight_bits=2, activation_bits=2)
    with pytest.raises(ValueError, match=r"^width=0: must be an int from 1 to 1048576$"):
        conv.program(5, 0)
    with pytest.raises(TypeError, match=r"^height=5.0: must be an int from 1 to 1048576, not float$"):
        conv.program(5.0, 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r'^operation 1 \(conv2d\), "kernel_size": .* spans \[3, 3\] pixels'):
        conv.program(2, 5)


def test_bad_linear_layers() -> None:
    weights = (
        (good_codes(4, 3, 1), "weight_codes: the shape is (4, 3, 1), but must be [out_features, in_features]"),
        (good_codes(4, 3) * 0, "weight_codes: 0 at (0, 0), but 1-bit weight codes must be ±1"),
    )
    for weight, says in weights:
        with pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
            Linear(weight, weight_bits=1, activation_bits=2)
    linear = Linear(good_codes(4, 3), weight_bits=1, activation_bits=2)
    bad: list[tuple[Array, str]] = [
        (np.zeros((2, 4), np.uint8), "codes: the shape is (2, 4), but must be (batch, 3)"),
        (np.zeros(3, np.uint8), "codes: the shape is (3,), but must be (batch, 3)"),
        (np.full((2, 3), 4, np.uint8), 'input "codes": 4 at flat index 0'),
        (np.zeros((2, 3)), "codes: the dtype is <f8 (float64), but must be uint8"),
    ]
    for codes, says in bad:
        with pytest.raises((ValueError, TypeError), match=f"^{re.escape(says)}"):
            linear(codes)
    with pytest.raises(ValueError, match=r"^weight_codes: 33026 .* 2147515650 with 8-bit .* less than 2\^31"):
        Linear(np.full((1, 33026), 255), weight_bits=8, activation_bits=8)


PLUS_MINUS_ONE = "at (0, 0), but 1-bit weight codes must be ±1"


@pytest.mark.parametrize(
    ("codes", "bits", "says"),
    [
        (np.array([[1.0]]), 1, "codes: the dtype is float64, but weight codes are integers"),
        (np.array([[0]]), 1, f"codes: 0 {PLUS_MINUS_ONE}"),
        (np.array([[3]]), 1, f"codes: 3 {PLUS_MINUS_ONE}"),
        (np.array([[-3]]), 1, f"codes: -3 {PLUS_MINUS_ONE}"),
        (np.array([[1, 3], [2, 1]]), 2, "codes: 2 at (1, 0), but 2-bit weight codes must be odd integers from -3 to 3"),
        (np.array([[2**40 + 1]]), 8, "codes: 1099511627777 at (0, 0), but 8-bit weight codes must be odd"),
        (np.array(1), 1, "codes: the shape is (), but must have two or more dimensions"),
        (np.array([[1]]), 0, "bits=0: must be an int from 1 to 8"),
        (np.array([[1]]), 9, "bits=9: must be an int from 1 to 8"),
        (np.array([[1]]), True, "bits=True: must be an int from 1 to 8, not bool"),
        (np.array([[1]]), 1.0, "bits=1.0: must be an int from 1 to 8, not float"),
        (np.array([["1"]]), 1, "codes: the dtype is <U1, but weight codes are integers"),
        (None, 1, "codes: must be a NumPy array of integers, not NoneType"),
    ],
)
def test_bad_weights_are_not_packed(codes: Any, bits: Any, says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{re.escape(says)}"):
        pack_weights(codes, bits)


ONE_BYTE = np.zeros((2, 1), np.uint8)


@pytest.mark.parametrize(
    ("packed", "bits", "shape", "says"),
    [
        (ONE_BYTE.astype(np.int8), 1, (2, 3), "packed: the dtype is |i1 (int8), but must be uint8; use astype"),
        (ONE_BYTE.tolist(), 1, (2, 3), "packed: must be a NumPy array, not list"),
        (ONE_BYTE, 1, (2, 9), "packed: the shape is (2, 1), but must be (2, 2)"),
        (ONE_BYTE[0], 1, (2, 3), "packed: the shape is (1,), but must be (2, 1)"),
        (ONE_BYTE, 0, (2, 3), "bits=0: must be an int from 1 to 8"),
        (ONE_BYTE, 1, 3, "shape=3: must be a tuple or list of ints, not int"),
        (ONE_BYTE, 1, "23", "shape='23': must be a tuple or list of ints, not str"),
        (ONE_BYTE, 1, None, "shape=None: must be a tuple or list of ints, not NoneType"),
        (ONE_BYTE, 1, (2,), "shape=(2,): must have two or more dimensions, output channels first"),
        (ONE_BYTE, 1, (2, -3), "shape=-3: must be an int from 0 to 281474976710656"),
        (ONE_BYTE, 1, (2, 3.0), "shape=3.0: must be an int from 0 to 281474976710656, not float"),
        (
            np.array([[7], [9]], np.uint8),
            1,
            [2, 3],
            "packed: the last byte of row 1 is 9, but its upper 5 bits fill up the row and must be zero",
        ),
        (
            np.array([[127, 128]], np.uint8),
            3,
            (1, 5, 1, 1),
            "packed: the last byte of row 0 is 128, but its upper 1 bit fills up the row and must be zero",
        ),
    ],
)
def test_bad_rows_are_not_unpacked(packed: Any, bits: Any, shape: Any, says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{re.escape(says)}$"):
        unpack_weights(packed, bits, shape)
