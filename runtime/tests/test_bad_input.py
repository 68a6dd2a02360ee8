"""Bad input is refused before any work is done, with a message that names the thing."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bitorch_runtime import Conv2d, Linear, Program, pack_weights, reference

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


#: name: (edit, what the message must say)
def norm(multiply: Array, offset: Array) -> Callable[[list[dict[str, Any]], dict[str, Array]], None]:
    """Give the last layer these."""

    def edit(operations: list[dict[str, Any]], arrays: dict[str, Array]) -> None:
        operations[LINEAR].update(norm_multiply="norm_multiply", norm_offset="norm_offset")
        arrays.update(norm_multiply=multiply, norm_offset=offset)

    return edit


BAD_PROGRAMS: dict[str, tuple[Callable[[list[dict[str, Any]], dict[str, Array]], None], str]] = {
    # operations and keys
    "unknown op": (put(POOL, "op", "maxpool"), "maxpool"),
    "op missing": (drop(POOL, "op"), "op"),
    "op of a wrong type": (put(POOL, "op", 3), "op"),
    "unknown key": (put(CONV, "strides", [1, 1]), "strides"),
    "key missing": (drop(CONV, "stride"), "stride"),
    "key of a wrong type": (put(CONV, "stride", "2"), "stride"),
    "null": (put(CONV, "groups", None), "groups"),
    "float for an integer": (put(CONV, "groups", 1.5), "groups"),
    "bool for an integer": (put(CONV, "groups", True), "groups"),
    "list of a wrong length": (put(CONV, "stride", [1]), "stride"),
    "list of wrong types": (put(CONV, "padding", [0, 0, 0, "1"]), "padding"),
    "number for a list": (put(CONV, "kernel_size", 3), "kernel_size"),
    "unknown order": (put(FLATTEN, "order", "cwh"), "cwh"),
    "unknown dtype": (put(X, "dtype", "float64"), "float64"),
    "no operations": (lambda operations, arrays: operations.clear(), "input|operation"),
    "no input": (remove(X), "x"),
    "no output": (remove(OUTPUT), "output"),
    # names
    "tensor not defined": (put(CONV, "input", "nothing"), "nothing"),
    "used before its definition": (put(QUANTIZE, "input", "p"), "p"),
    "its own input": (put(POOL, "input", "p"), "p"),
    "defined twice": (put(POOL, "output", "h"), "h"),
    "output twice": (add(7, {"op": "output", "input": "y", "order": "nchw"}), "y"),
    "array missing": (put(CONV, "weight", "w"), "w"),
    "array unused": (drop(CONV, "descending"), "descending"),
    "tensor name empty": (put(X, "output", ""), "output|name"),
    # kinds of tensors
    "floats for codes": (put(CONV, "input", "x"), "x"),
    "codes for floats": (put(QUANTIZE, "input", "h"), "h"),
    "image for features": (put(LINEAR, "input", "h"), "h"),
    "output of a consumed name": (put(OUTPUT, "input", "z"), "z"),
    # sizes
    "zero stride": (put(CONV, "stride", [0, 1]), "stride"),
    "negative stride": (put(CONV, "stride", [1, -1]), "stride"),
    "negative padding": (put(CONV, "padding", [0, 0, -1, 0]), "padding"),
    "zero kernel": (put(POOL, "kernel_size", [0, 2]), "kernel"),
    "kernel larger than the image": (put(POOL, "kernel_size", [9, 2]), "kernel|output|padding"),
    "zero dilation": (put(CONV, "dilation", [1, 0]), "dilation"),
    "zero groups": (put(CONV, "groups", 0), "groups"),
    "groups do not divide": (put(CONV, "groups", 2), "groups"),
    "empty image": (put(X, "shape", [3, 0, 6]), "shape"),
    "negative image": (put(X, "shape", [3, -6, 6]), "shape"),
    "shape of four": (put(X, "shape", [1, 3, 6, 6]), "shape"),
    "shape of none": (put(X, "shape", []), "shape"),
    "huge stride is fine but huge padding is not": (put(CONV, "padding", [HUGE, 0, 0, 0]), "padding|size|large|2\\^"),
    "huge dilation": (put(CONV, "dilation", [HUGE, HUGE]), "dilation|size|large|2\\^"),
    "huge kernel": (put(CONV, "kernel_size", [HUGE, HUGE]), "kernel|size|large|weight|2\\^"),
    "huge image": (put(X, "shape", [HUGE, HUGE, HUGE]), "shape|size|large|2\\^"),
    "huge channels": (put(CONV, "out_channels", HUGE), "out_channels|size|large|weight|2\\^"),
    "number beyond 64 bits": (put(CONV, "out_channels", 10**30), "out_channels"),
    "zero channels": (put(CONV, "out_channels", 0), "out_channels"),
    # bits
    "zero bits": (put(QUANTIZE, "bits", 0), "bits"),
    "nine bits": (put(QUANTIZE, "bits", 9), "bits"),
    "weights of no bits": (put(CONV, "weight_bits", 0), "weight_bits"),
    "weights of nine bits": (put(CONV, "weight_bits", 9), "weight_bits"),
    "signs of two bits": (put(CONV, "sign_activations", True), "sign_activations"),
    "int32 overflow": (too_wide, "2\\^31|int32|overflow|wide|large"),
    # what follows a convolution
    "nothing leaves": (drop(LINEAR, "float32"), "int32|float32|codes"),
    "offset missing": (drop(LINEAR, "offset"), "offset"),
    "multiply missing": (drop(LINEAR, "multiply"), "multiply"),
    "floats without a float stage": (put(CONV, "float32", "z"), "float32|multiply"),
    "relu without a float stage": (put(CONV, "relu", True), "relu|multiply"),
    "norm without a float stage": (
        lambda operations, arrays: operations[CONV].update(norm_multiply="multiply", norm_offset="offset"),
        r"norm_multiply.*needs the float stage",
    ),
    "norm_offset missing": (put(LINEAR, "norm_multiply", "multiply"), "norm_offset"),
    "norm_multiply missing": (put(LINEAR, "norm_offset", "offset"), "norm_multiply"),
    "norm of another shape": (norm(np.ones(4, np.float32), np.ones(5, np.float32)), r"norm_multiply.*float32 \[5\]"),
    "norm of another rank": (norm(np.ones(5, np.float32), np.ones((5, 1), np.float32)), r"norm_offset.*float32 \[5\]"),
    "norm of another dtype": (norm(np.ones(5, np.float32), np.ones(5)), "norm_offset.*float64"),
    "residual without a float stage": (put(CONV, "residual", "x"), "residual|multiply"),
    "residual of another shape": (put(LINEAR, "residual", "x"), "residual"),
    "residual of codes": (put(LINEAR, "residual", "f"), "residual"),
    "codes without bits": (drop(CONV, "bits"), "bits"),
    "bits without codes": (put(LINEAR, "bits", 2), "bits|codes"),
    "unit quantizer without floats": (drop(CONV, "thresholds"), "thresholds|multiply|descending"),
    "threshold of y without y": (store("thresholds", lambda a: a.astype(np.float32)), "thresholds"),
    # arrays
    "weight too short": (store("weight", lambda a: a[:, :-1]), "weight"),
    "weight too long": (store("weight", lambda a: np.pad(a, ((0, 0), (0, 1)))), "weight"),
    "weight of fewer channels": (store("weight", lambda a: a[:-1]), "weight"),
    "weight of another dtype": (store("weight", lambda a: a.astype(np.int8)), "weight"),
    "weight of another rank": (store("weight", np.ravel), "weight"),
    "padding bits of a weight set": (store("weight", lambda a: np.full_like(a, 255)), "weight"),
    "thresholds of another dtype": (store("thresholds", lambda a: a.astype(np.int64)), "thresholds"),
    "too few thresholds": (store("thresholds", lambda a: a[:, :2]), "thresholds"),
    "thresholds out of order": (
        store("thresholds", lambda a: np.sort(a)[:, ::-1] - np.arange(3, dtype=np.int32)),
        "thresholds",
    ),
    "descending of another dtype": (store("descending", lambda a: a.astype(np.float32)), "descending"),
    "descending too long": (store("descending", lambda a: np.zeros(5, np.bool_)), "descending"),
    "multiply of another dtype": (store("multiply", lambda a: a.astype(np.float64)), "multiply"),
    "multiply too short": (store("multiply", lambda a: a[:-1]), "multiply"),
    "offset of another rank": (store("offset", lambda a: a[np.newaxis]), "offset"),
    "not an array": (store("offset", lambda a: "offset"), "offset"),
    "big-endian": (store("offset", lambda a: a.astype(">f4")), "offset"),
    "empty array": (store("offset", lambda a: a[:0]), "offset"),
}


@pytest.mark.parametrize("name", BAD_PROGRAMS)
def test_bad_programs(name: str) -> None:
    edit, says = BAD_PROGRAMS[name]
    operations, arrays = description()
    edit(operations, arrays)
    with pytest.raises((ValueError, TypeError)) as raised:
        Program(operations, arrays)
    assert re.search(says, str(raised.value)), str(raised.value)


BAD_AFFINES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to compute": ({}, "nothing to compute.*divide.*norm_multiply"),
    "offset missing": ({"multiply": "three"}, 'both "multiply" and "offset"'),
    "multiply missing": ({"offset": "three"}, 'both "multiply" and "offset"'),
    "norm_offset missing": ({"norm_multiply": "three"}, 'both "norm_multiply" and "norm_offset"'),
    "norm_multiply missing": ({"divide": "three", "norm_offset": "three"}, 'both "norm_multiply" and "norm_offset"'),
    "divide of another shape": ({"divide": "four"}, r"divide.*float32 \[3\]"),
    "offset of another shape": ({"multiply": "three", "offset": "four"}, r"offset.*float32 \[3\]"),
    "norm of another shape": ({"norm_multiply": "four", "norm_offset": "four"}, r"norm_multiply.*float32 \[3\]"),
    "limits the wrong way round": ({"low": 1.0, "high": 0.0}, "low"),
    "relu": ({"divide": "three", "relu": True}, "relu"),
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
    with pytest.raises(ValueError, match=says):
        Program(operations, arrays)


def test_errors_say_which_operation() -> None:
    operations, arrays = description()
    operations[CONV]["stride"] = [0, 1]
    with pytest.raises(ValueError, match=rf"{CONV}.*conv2d.*stride.*0"):
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


@pytest.mark.parametrize("operations", [None, 3, "[]", [1], [[]], [None], {"op": "input"}, [{"op": object()}]])
def test_operations_that_are_no_list_of_dicts(operations: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Program(operations, {})


# Inputs of a run


BAD_INPUTS: dict[str, tuple[Callable[[Array], Any], str]] = {
    "another dtype": (lambda x: x.astype(np.float64), "float64"),
    "integers": (lambda x: x.astype(np.uint8), "uint8"),
    "big-endian": (lambda x: x.astype(">f4"), "x|float32"),
    "one dimension less": (lambda x: x[0], "shape|dimension"),
    "one dimension more": (lambda x: x[np.newaxis], "shape|dimension"),
    "another height": (lambda x: x[:, :, 1:], "shape|5"),
    "other channels": (lambda x: x[:, 1:], "shape|2"),
    "none": (lambda x: None, "x|array|None"),
    "a list": (lambda x: x.tolist(), "x|array|list"),
    "a number": (lambda x: 3.0, "x|array|float"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_inputs(name: str) -> None:
    make, says = BAD_INPUTS[name]
    program = Program(*description())
    x = np.zeros((2, 3, 6, 6), np.float32)
    with pytest.raises((ValueError, TypeError), match=says):
        program(make(x))
    np.testing.assert_array_equal(program(x), reference.run(*description(), x))  # and goes on working


def test_the_number_of_inputs() -> None:
    program = Program(*description())
    x = np.zeros((1, 3, 6, 6), np.float32)
    calls: list[tuple[list[Array], dict[str, Array]]] = [([], {}), ([x, x], {}), ([x], {"x": x}), ([], {"z": x})]
    for inputs, named in calls:
        with pytest.raises((ValueError, TypeError), match=r"x|input"):
            program(*inputs, **named)


def test_inputs_of_different_batches() -> None:
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "a", "dtype": "float32", "shape": [3], "order": "nchw"},
        {"op": "input", "output": "b", "dtype": "float32", "shape": [3], "order": "nchw"},
        {"op": "add", "inputs": ["a", "b"], "float32": "y"},
        {"op": "output", "input": "y", "order": "nchw"},
    ]
    program = Program(operations, {})
    with pytest.raises(ValueError, match=r"batch|images"):
        program(np.zeros((2, 3), np.float32), np.zeros((3, 3), np.float32))
    with pytest.raises(ValueError, match=r"batch|images"):
        program(np.zeros((1, 3), np.float32), np.zeros((3, 3), np.float32))  # no broadcasting


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
            with pytest.raises(ValueError, match=rf"\b{n}\b"):
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
    "rank": ({"weight_codes": good_codes(4, 3, 3)}, "weight_codes"),
    "dtype": ({"weight_codes": good_codes(4, 3, 3, 3).astype(np.float32)}, "weight_codes"),
    "even code": ({"weight_codes": good_codes(4, 3, 3, 3) * 2}, "weight_codes|code"),
    "code too large": ({"weight_codes": good_codes(4, 3, 3, 3) * 5}, "weight_codes|code"),
    "code too small": ({"weight_codes": good_codes(4, 3, 3, 3) * -5}, "weight_codes|code"),
    "no channels": ({"weight_codes": good_codes(0, 3, 3, 3)}, "weight_codes|channels"),
    "no array": ({"weight_codes": "codes"}, "weight_codes"),
    "weight bits": ({"weight_bits": 9}, "weight_bits"),
    "weight bits of a wrong type": ({"weight_bits": "2"}, "weight_bits"),
    "activation bits": ({"activation_bits": 0}, "activation_bits"),
    "stride": ({"stride": 0}, "stride"),
    "stride of three": ({"stride": (1, 1, 1)}, "stride"),
    "padding": ({"padding": -1}, "padding"),
    "padding by a name": ({"padding": "same"}, "padding"),
    "dilation": ({"dilation": 0}, "dilation"),
    "groups": ({"groups": 3}, "groups"),
    "signs of more bits": ({"sign_activations": True}, "sign_activations"),
    "half a float stage": ({"multiply": np.ones(4, np.float32)}, "offset|multiply"),
}


@pytest.mark.parametrize("name", BAD_CONVOLUTIONS)
def test_bad_convolutions(name: str) -> None:
    change, says = BAD_CONVOLUTIONS[name]
    arguments: dict[str, Any] = {
        "weight_codes": good_codes(4, 3, 3, 3),
        "weight_bits": 2,
        "activation_bits": 2,
    } | change
    with pytest.raises((ValueError, TypeError), match=says):
        Conv2d(arguments.pop("weight_codes"), **arguments)


@pytest.mark.parametrize(
    "codes",
    [
        np.zeros((2, 5, 5, 4), np.uint8),
        np.zeros((2, 3, 5, 5), np.uint8),
        np.zeros((5, 5, 3), np.uint8),
        np.zeros((2, 5, 5, 3), np.int64),
        np.zeros((2, 5, 5, 3), np.float32),
        np.full((2, 5, 5, 3), 4, np.uint8),
        np.zeros((2, 2, 5, 3), np.uint8),  # smaller than the kernel
        np.zeros((2, 0, 5, 3), np.uint8),
    ],
    ids=lambda codes: f"{codes.dtype}{codes.shape}",
)
def test_bad_input_of_a_convolution(codes: Array) -> None:
    conv = Conv2d(good_codes(4, 3, 3, 3), weight_bits=2, activation_bits=2)
    with pytest.raises((ValueError, TypeError)):
        conv(codes)
    assert conv(np.zeros((2, 5, 5, 3), np.uint8)).shape == (2, 3, 3, 4)


def test_bad_linear_layers() -> None:
    for weight, says in ((good_codes(4, 3, 1), "weight_codes"), (good_codes(4, 3) * 0, "weight_codes|code")):
        with pytest.raises((ValueError, TypeError), match=says):
            Linear(weight, weight_bits=1, activation_bits=2)
    linear = Linear(good_codes(4, 3), weight_bits=1, activation_bits=2)
    bad: list[Array] = [
        np.zeros((2, 4), np.uint8),
        np.zeros(3, np.uint8),
        np.full((2, 3), 4, np.uint8),
        np.zeros((2, 3)),
    ]
    for codes in bad:
        with pytest.raises((ValueError, TypeError)):
            linear(codes)
    with pytest.raises(ValueError, match=r"2\^31|int32|wide|overflow|large"):
        Linear(np.full((1, 33026), 255), weight_bits=8, activation_bits=8)(np.zeros((1, 33026), np.uint8))


@pytest.mark.parametrize(
    ("codes", "bits", "says"),
    [
        (np.array([[1.0]]), 1, "codes|dtype"),
        (np.array([[0]]), 1, "0|odd"),
        (np.array([[3]]), 1, "3"),
        (np.array([[-3]]), 1, "-3"),
        (np.array([[2]]), 2, "2|odd"),
        (np.array([[2**40 + 1]]), 8, "1099511627777|255"),
        (np.array(1), 1, "codes|shape|dimension"),
        (np.array([[1]]), 0, "bits"),
        (np.array([[1]]), 9, "bits"),
        (np.array([[1]]), True, "bits"),
        (np.array([[1]]), 1.0, "bits"),
        (np.array([["1"]]), 1, "codes|dtype"),
        (None, 1, "codes"),
    ],
)
def test_bad_weights_are_not_packed(codes: Any, bits: Any, says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=says):
        pack_weights(codes, bits)
