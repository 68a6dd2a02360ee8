"""Program: how it is called, what it returns, and that nothing is left behind from one call to the next."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest

import bitorch_runtime
from bitorch_runtime import Conv2d, Program, reference
from cases import Case, random_case

Array = np.ndarray[Any, Any]


def two_outputs() -> tuple[list[dict[str, Any]], dict[str, Array]]:
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "a", "dtype": "float32", "shape": [2, 3, 4], "order": "nchw"},
        {"op": "input", "output": "b", "dtype": "uint8", "bits": 2, "shape": [2, 3, 4], "order": "nhwc"},
        {"op": "dequantize", "input": "b", "output": "c", "scale": 0.5},
        {"op": "add", "inputs": ["a", "c"], "float32": "sum", "codes": "q", "bits": 3},
        {"op": "output", "input": "sum", "order": "nhwc"},
        {"op": "output", "input": "q", "order": "nchw"},
    ]
    return operations, {}


def inputs(batch: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(batch)
    return rng.random((batch, 2, 3, 4), np.float32), rng.integers(0, 4, (batch, 3, 4, 2)).astype(np.uint8)


def test_inputs_by_position_and_by_name() -> None:
    program = Program(*two_outputs())
    a, b = inputs(2)
    expected = a.transpose(0, 2, 3, 1) + b.astype(np.float32) * np.float32(0.5)
    for results in (program(a, b), program(a, b=b), program(b=b, a=a)):
        assert isinstance(results, dict)
        assert list(results) == ["sum", "q"]
        np.testing.assert_array_equal(results["sum"], expected)
        codes = np.rint(7 * np.clip(expected, 0, 1)).astype(np.uint8)
        np.testing.assert_array_equal(results["q"], codes.transpose(0, 3, 1, 2))


def test_one_output_comes_alone() -> None:
    operations, arrays = two_outputs()
    assert isinstance(Program(operations[:-1], arrays)(*inputs(1)), np.ndarray)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_large_batch_is_its_images_one_by_one(threads: int) -> None:
    """Tensors of 1.6 MB an image: the batch runs in pieces, of two inputs and two outputs."""
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "a", "dtype": "float32", "shape": [64, 80, 80], "order": "nhwc"},
        {"op": "input", "output": "b", "dtype": "uint8", "bits": 2, "shape": [64, 80, 80], "order": "nchw"},
        {"op": "dequantize", "input": "b", "output": "c", "scale": 0.5},
        {"op": "add", "inputs": ["a", "c"], "float32": "sum", "codes": "q", "bits": 3},
        {"op": "output", "input": "sum", "order": "nchw"},
        {"op": "output", "input": "q", "order": "nhwc"},
    ]
    rng = np.random.default_rng(threads)
    a = rng.random((5, 80, 80, 64), np.float32)
    b = rng.integers(0, 4, (5, 64, 80, 80)).astype(np.uint8)
    program = Program(operations, {})
    before = bitorch_runtime.get_num_threads()
    bitorch_runtime.set_num_threads(threads)
    try:
        results = program(a, b)
        with pytest.raises(ValueError, match=f"7 at flat index {4 * 64 * 80 * 80 + 3} "):
            program(a, np.where(np.arange(b.size).reshape(b.shape) == 4 * 64 * 80 * 80 + 3, 7, b).astype(np.uint8))
        profile = program.profile(a, b, repeats=1)
    finally:
        bitorch_runtime.set_num_threads(before)
    assert isinstance(results, dict)
    expected = a + b.transpose(0, 2, 3, 1).astype(np.float32) * np.float32(0.5)
    np.testing.assert_array_equal(results["sum"], expected.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(results["q"], np.rint(7 * np.clip(expected, 0, 1)).astype(np.uint8))
    assert [entry["seconds"] > 0 for entry in profile] == [True, True, True, False, True, True]
    assert profile[3]["kernel"] == "in operation 2 (dequantize)"
    assert program.workspace_bytes(5) < 2 * program.workspace_bytes(1)


def test_results_are_the_callers() -> None:
    """A later call does not write into an earlier result, and results are ordinary arrays."""
    program = Program(*two_outputs())
    first = program(*inputs(3))
    assert isinstance(first, dict)
    kept = {name: array.copy() for name, array in first.items()}
    program(*inputs(4))
    program(*inputs(3))
    for name, array in first.items():
        np.testing.assert_array_equal(array, kept[name])
        assert array.flags.writeable
        assert array.flags.c_contiguous
        array[:] = 0


def test_arrays_and_operations_may_change_after_loading() -> None:
    case = random_case(0)
    program = Program(case.operations, case.arrays)
    for array in case.arrays.values():
        array[...] = 1
    for operation in case.operations:
        operation.clear()
    assert case.differences(program(*case.inputs)) == []


def test_strides_do_not_matter() -> None:
    """Slices, transposed and read-only arrays are taken as well."""
    program = Program(*two_outputs())
    a, b = inputs(4)
    expected = program(a, b)
    assert isinstance(expected, dict)
    wide = np.repeat(a, 2, axis=3)[..., ::2]
    turned = np.asfortranarray(b)
    backwards = np.ascontiguousarray(a[::-1])[::-1]
    frozen = b.copy()
    frozen.flags.writeable = False
    for x, y in ((wide, turned), (backwards, frozen)):
        results = program(x, y)
        assert isinstance(results, dict)
        for name in expected:
            np.testing.assert_array_equal(results[name], expected[name])


def test_arrays_of_a_program_may_be_slices() -> None:
    case = random_case(0)
    arrays = {name: np.repeat(array, 2, axis=-1)[..., ::2] for name, array in case.arrays.items()}
    assert any(not array.flags.c_contiguous for array in arrays.values())
    assert case.differences(Program(case.operations, arrays)(*case.inputs)) == []


@pytest.mark.parametrize("seed", [0, 9, 14, 26, 41, 46])
def test_batches_of_all_sizes_in_turn(seed: int) -> None:
    """The workspace grows, and serves smaller batches after larger ones."""
    case = random_case(seed)
    program = Program(case.operations, case.arrays)
    for batch in (1, 4, 0, 2, 17, 3, 1):
        some = [np.resize(array, (batch, *array.shape[1:])) for array in case.inputs]
        expected = {n: np.resize(a, (batch, *a.shape[1:])) for n, a in case.expected.items()}
        repeated = Case(case.operations, case.arrays, some, expected, case.tolerance)
        assert repeated.differences(program(*some)) == [], f"batch {batch}"


def test_operations_and_profile() -> None:
    case = random_case(14)
    program = Program(case.operations, case.arrays)
    listed = program.operations()
    assert [entry["op"] for entry in listed] == [operation["op"] for operation in case.operations]
    convolutions = [entry for entry in listed if entry["op"] == "conv2d"]
    assert all(entry["kernel"] and entry["macs"] > 0 for entry in convolutions)
    json.dumps(listed)
    profile = program.profile(*case.inputs, repeats=2)
    assert [entry["op"] for entry in profile] == [entry["op"] for entry in listed]
    assert all(entry["seconds"] >= 0 for entry in profile)
    assert case.differences(program(*case.inputs)) == []


def test_multiply_adds_are_counted() -> None:
    """Of one image: 6·6 pixels, 3·3 taps, 8/2 inputs, 10 outputs."""
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "x", "dtype": "uint8", "bits": 2, "shape": [8, 6, 6], "order": "nchw"},
        {"op": "conv2d", "input": "x", "weight": "w", "weight_bits": 1, "out_channels": 10, "kernel_size": [3, 3]}
        | {"stride": [1, 1], "padding": [1, 1, 1, 1], "dilation": [1, 1], "groups": 2, "int32": "y"},
        {"op": "output", "input": "y", "order": "nchw"},
    ]
    program = Program(operations, {"w": bitorch_runtime.pack_weights(np.ones((10, 4, 3, 3), np.int64), 1)})
    assert [entry["macs"] for entry in program.operations()] == [0, 36 * 9 * 4 * 10, 0]


def test_relu_and_limits_keep_the_sign_of_zero() -> None:
    """Of y = −0, in each operation that has such a step."""
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "x", "dtype": "float32", "shape": [37]},
        {"op": "input", "output": "q", "dtype": "uint8", "bits": 1, "shape": [3]},
        {"op": "add", "inputs": ["x", "x"], "relu": True, "float32": "sum"},
        {"op": "affine", "input": "x", "low": 0, "float32": "limited"},
        {"op": "linear", "input": "q", "weight": "w", "weight_bits": 1, "out_channels": 37, "float32": "y"}
        | {"multiply": "minus", "offset": "zero", "relu": True},
        *({"op": "output", "input": name} for name in ("sum", "limited", "y")),
    ]
    zero = np.full(37, -0.0, np.float32)
    weight = bitorch_runtime.pack_weights(np.ones((37, 3), np.int64), 1)
    arrays: dict[str, Array] = {"w": weight, "minus": zero - 1, "zero": zero}
    results = Program(operations, arrays)(np.stack([zero, -zero]), np.zeros((2, 3), np.uint8))
    assert isinstance(results, dict)
    for name, signs in {"sum": [True, False], "limited": [True, False], "y": [True, True]}.items():
        assert not results[name].any()
        np.testing.assert_array_equal(np.signbit(results[name]), np.broadcast_to(np.array(signs)[:, None], (2, 37)))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_many_programs_come_and_go() -> None:
    """Memory is given back: a hundred loads and runs of some megabytes each."""
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "x", "dtype": "uint8", "bits": 2, "shape": [64, 64, 64], "order": "nchw"},
        {"op": "dequantize", "input": "x", "output": "y"},
        {"op": "output", "input": "y", "order": "nchw"},
    ]
    x = np.ones((4, 64, 64, 64), np.uint8)
    Program(operations, {})(x)
    before = resident()
    for _ in range(100):
        Program(operations, {})(x)
    assert resident() - before < 100 * 2**20  # a leak of the results alone would be 400 MiB


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


@pytest.mark.parametrize(("groups", "per_group"), [(33, 32768), (37, 3), (48, 16)])
@pytest.mark.parametrize("bits", [2, 8])
def test_last_block_of_merged_groups_stays_in_its_pixel(groups: int, per_group: int, bits: int) -> None:
    """Groups share blocks of 32 channels; the last block has fewer, and must not read past the tensor."""
    rng = np.random.default_rng(0)
    n = 2**bits - 1
    weights = 2 * rng.integers(0, n + 1, (groups, per_group, 1, 1)) - n
    layer = Conv2d(weights, weight_bits=bits, activation_bits=bits, groups=groups)
    codes = rng.integers(0, n + 1, (1, 1, 1, groups * per_group), dtype=np.uint8)
    expected = (weights.reshape(groups, per_group) * codes.reshape(groups, per_group).astype(np.int64)).sum(1)
    np.testing.assert_array_equal(layer(codes).ravel(), expected)


def test_large_kernel_of_sign_activations_loads_in_no_time() -> None:
    """Each border class is a rectangle of taps; summing them tap by tap took minutes."""
    size = 301
    weights = np.ones((1, 1, size, size), np.int8)
    layer = Conv2d(weights, weight_bits=1, activation_bits=1, padding=size // 2, sign_activations=True)
    sums = layer(np.ones((1, size, size, 1), np.uint8))
    assert sums[0, size // 2, size // 2, 0] == size**2
    assert sums[0, 0, 0, 0] == (size - size // 2) ** 2


def layer_plus_input(op: str) -> tuple[list[dict[str, Any]], dict[str, np.ndarray[Any, Any]]]:
    """A float layer of 96 channels whose residual is its input, which nothing else needs; sums are exact."""
    rng = np.random.default_rng(0)
    kernel = [] if op == "linear_float" else [1, 1] if op == "conv_transpose_float" else [3, 3]
    window: dict[str, Any] = {"kernel_size": kernel, "stride": [1, 1], "dilation": [1, 1], "groups": 1}
    window |= {"padding": [0, 0], "output_padding": [0, 0]} if op == "conv_transpose_float" else {"padding": [1] * 4}
    arrays = {
        "weight": (rng.integers(-8, 9, (96, *kernel, 96)) / 8).astype(np.float32),
        "multiply": np.full(96, 0.5, np.float32),
        "offset": np.ones(96, np.float32),
    }
    shape: dict[str, Any] = {"shape": [96], "array_shape": [96]}
    port: dict[str, Any] = {"op": "input", "output": "x", "dtype": "float32", "order": "nchw"}
    port |= shape if op == "linear_float" else {"shape": [96, 5, 6]}
    scale = {"multiply": "multiply", "offset": "offset"}
    layer: dict[str, Any] = {"op": op, "input": "x", "weight": "weight", **scale, "residual": "x", "float32": "y"}
    layer |= {} if op == "linear_float" else window
    return [port, layer, {"op": "output", "input": "y", "order": "nchw"}], arrays


@pytest.mark.parametrize("op", ["linear_float", "conv2d_float", "conv_transpose_float"])
def test_a_layer_may_add_its_own_input(op: str) -> None:
    """Where the sum were written over the input, channels behind the first ones would read it instead."""
    operations, arrays = layer_plus_input(op)
    shape = tuple(operations[0]["shape"])
    x = (np.random.default_rng(1).integers(-8, 9, (2, *shape)) / 4).astype(np.float32)
    np.testing.assert_array_equal(Program(operations, arrays)(x), reference.run(operations, arrays, x))
