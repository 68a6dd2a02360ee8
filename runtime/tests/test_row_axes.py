"""Tensors of any number of row axes: the core and the reference agree, and what does not fit is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitorch_runtime
from bitorch_runtime import Program, reference

Array = np.ndarray[Any, Any]
Operation = dict[str, Any]
GOLDEN = Path(__file__).parent / "golden"
CHANNELS = (1, 2, 3, 7, 8, 9, 16, 24, 31, 32, 33, 64, 65)
LARGEST = 4000


def shape_of(rng: np.random.Generator) -> list[int]:
    """[C, *rows] of one to four row axes, some of them 1."""
    rows = [int(rng.choice([1, 2, 3, 4, 5, 8, 9])) for _ in range(rng.integers(1, 5))]
    fits = [c for c in CHANNELS if c * math.prod(rows) <= LARGEST]
    return [int(rng.choice(fits)), *rows]


class Moves:
    """A program that moves numbers about; `shape` is that of its last tensor."""

    def __init__(self, rng: np.random.Generator, bits: int) -> None:
        self.rng, self.bits, self.shape, self.count = rng, bits, shape_of(rng), 0
        kind: Operation = {"dtype": "uint8", "bits": bits} if bits else {"dtype": "float32"}
        self.order = str(rng.choice(["nchw", "nhwc"]))
        self.operations: list[Operation] = [
            {"op": "input", "output": "t0", "shape": self.shape, "order": self.order, **kind}
        ]
        self.arrays: dict[str, Array] = {}

    def add(self, operation: Operation) -> None:
        self.count += 1
        self.operations.append({**operation, "output": f"t{self.count}"})

    @property
    def last(self) -> str:
        return f"t{self.count}"

    def take(self) -> None:
        axis = int(self.rng.integers(1, len(self.shape)))
        count = int(self.rng.integers(1, 2 * self.shape[axis] + 1))
        if math.prod(self.shape) // self.shape[axis] * count > LARGEST:
            return
        indices = self.rng.integers(0, self.shape[axis], count).astype(np.int32)
        if self.rng.random() < 0.5:
            first = int(self.rng.integers(0, self.shape[axis]))
            indices = np.arange(first, self.shape[axis], dtype=np.int32)
        name = f"i{self.count}"
        self.arrays[name] = indices
        self.add({"op": "take", "input": self.last, "axis": axis - len(self.shape), "indices": name})
        self.shape = [*self.shape[:axis], len(indices), *self.shape[axis + 1 :]]

    def permute(self) -> None:
        axes = [int(axis) for axis in self.rng.permutation(len(self.shape))]
        self.add({"op": "permute", "input": self.last, "axes": axes})
        self.shape = [self.shape[axis] for axis in axes]

    def reshape(self) -> None:
        left, shape = math.prod(self.shape), []
        if self.rng.random() < 0.5:
            left, shape = left // self.shape[0], [self.shape[0]]  # pixels stay
        while left > 1 and len(shape) < 4:
            size = int(self.rng.choice([d for d in range(1, left + 1) if left % d == 0]))
            left, shape = left // size, [*shape, size]
        self.shape = [*shape, left] if shape else [1, left]
        self.add({"op": "reshape", "input": self.last, "shape": self.shape})

    def concat(self) -> None:
        axis = int(self.rng.integers(0, len(self.shape)))
        if 2 * math.prod(self.shape) > LARGEST:
            return
        key = {} if axis == 0 and self.rng.random() < 0.5 else {"axis": axis - len(self.shape) if axis else 0}
        self.add({"op": "concat", "inputs": [self.last] * 2, **key})
        self.shape = [*self.shape[:axis], 2 * self.shape[axis], *self.shape[axis + 1 :]]

    def leave(self) -> None:
        """The tensor itself; codes through a linear layer, too, which likes bit planes."""
        self.operations.append({"op": "output", "input": self.last, "order": str(self.rng.choice(["nchw", "nhwc"]))})
        if self.bits == 0:
            return
        weight = self.rng.integers(0, 2, (33, self.shape[0])) * 2 - 1
        self.arrays["w"] = reference.pack_weights(weight, 1)
        layer = {"op": "linear", "input": self.last, "weight": "w", "weight_bits": 1, "out_channels": 33}
        self.operations += [{**layer, "int32": "d"}, {"op": "output", "input": "d", "order": "nchw"}]

    def input(self, batch: int) -> Array:
        shape = self.operations[0]["shape"]
        full = (batch, *shape) if self.order == "nchw" else (batch, *shape[1:], shape[0])
        if self.bits:
            return self.rng.integers(0, 2**self.bits, full).astype(np.uint8)
        return self.rng.normal(size=full).astype(np.float32)


def results(value: Any) -> list[Array]:
    return list(value.values()) if isinstance(value, dict) else [value]


@pytest.mark.parametrize("seed", range(120))
def test_moves_of_numbers_are_those_of_the_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    moves = Moves(rng, int(rng.choice([0, 1, 2, 4, 8])))
    for _ in range(rng.integers(1, 6)):
        (moves.take, moves.permute, moves.reshape, moves.concat)[int(rng.integers(4))]()
    moves.leave()
    program = Program(moves.operations, moves.arrays)
    for batch in (0, 1, 3):
        x = moves.input(batch)
        expected = results(reference.run(moves.operations, moves.arrays, x))
        for one, other in zip(results(program(x)), expected, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def signal(length: int, kernel: int, stride: int, padding: list[int], dilation: int) -> tuple[list[Operation], Any]:
    """A net of a signal, as windows along one axis."""
    rng = np.random.default_rng(length)
    weight = rng.integers(0, 2, (9, kernel, 5)) * 2 - 1
    arrays = {
        "w": reference.pack_weights(weight, 1),
        "f": rng.integers(-8, 8, (5, kernel, 3)).astype(np.float32),
        "t": np.tile(np.array([-4, 0, 4], np.float32), (5, 1)),
    }
    window = {"kernel_size": [kernel], "stride": [stride], "padding": padding, "dilation": [dilation], "groups": 1}
    pool = {"kernel_size": [2], "stride": [1], "padding": [1, 0]}
    operations: list[Operation] = [
        {"op": "input", "output": "x", "dtype": "float32", "shape": [3, length], "order": "nchw"},
        {"op": "conv2d_float", "input": "x", "weight": "f", **window, "float32": "y", "codes": "q", "bits": 2}
        | {"thresholds": "t"},
        {"op": "max_pool", "input": "q", "output": "m", **pool, "dilation": [1]},
        {"op": "pad", "input": "m", "output": "p", "padding": [1, 3], "mode": "reflect"},
        {"op": "conv2d", "input": "p", "weight": "w", "weight_bits": 1, "out_channels": 9, **window, "int32": "d"},
        {"op": "avg_pool", "input": "p", "output": "a", **pool, "count_include_pad": False},
        {"op": "adaptive_avg_pool", "input": "a", "output": "b", "output_size": [3]},
        *({"op": "output", "input": name, "order": "nchw"} for name in ("y", "m", "d", "b")),
    ]
    return operations, arrays


def with_a_height(operations: list[Operation], arrays: dict[str, Array]) -> tuple[list[Operation], dict[str, Array]]:
    """The same net with images of one row, as older files have it."""
    changed = []
    for operation in operations:
        one = dict(operation)
        for key in {"kernel_size", "stride", "dilation", "output_size"} & one.keys():
            one[key] = [1, *one[key]]
        if "padding" in one:
            one["padding"] = [0, one["padding"][0], 0, one["padding"][1]]
        if one["op"] == "input":
            one["shape"] = [one["shape"][0], 1, *one["shape"][1:]]
        changed.append(one)
    return changed, {name: array[:, np.newaxis] if name == "f" else array for name, array in arrays.items()}


@pytest.mark.parametrize("geometry", [(17, 3, 1, [1, 1], 1), (64, 5, 4, [0, 2], 1), (33, 3, 2, [2, 1], 2)], ids=str)
def test_windows_along_one_axis(geometry: tuple[int, int, int, list[int], int]) -> None:
    operations, arrays = signal(*geometry)
    x = (np.random.default_rng(0).integers(-16, 16, (3, 3, geometry[0])) / 16).astype(np.float32)
    program, older = Program(operations, arrays), Program(*with_a_height(operations, arrays))
    found, expected = results(program(x)), results(reference.run(operations, arrays, x))
    for one, other, before in zip(found, expected, results(older(x[:, :, np.newaxis])), strict=True):
        assert one.ndim == 3
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one[:, :, np.newaxis], before)
    plans = [[{**one, "outputs": [{**t, "shape": 0} for t in one["outputs"]]} for one in p.operations()]
             for p in (program, older)]  # fmt: skip
    assert plans[0] == plans[1]  # the same layouts and kernels
    assert program.operations()[0]["outputs"][0]["shape"] == (geometry[0], 3)


def test_a_file_with_a_height_of_one_gives_what_it_gave() -> None:
    record = json.loads((GOLDEN / "signal.json").read_text())
    model = bitorch_runtime.load(GOLDEN / "signal.bit.safetensors")
    x = np.array(record["inputs"], np.float32).reshape(2, 1, 33)
    y = model(x)
    assert isinstance(y, np.ndarray)
    np.testing.assert_array_equal(y, np.array(record["outputs"], np.float32).reshape(record["shape"]))
    operations, arrays, _ = bitorch_runtime.format.read(GOLDEN / "signal.bit.safetensors")
    np.testing.assert_array_equal(y, results(reference.run(operations, arrays, x))[0])


def test_axes_of_one_in_front_say_nothing() -> None:
    """[C, L] and [C, 1, L] are one tensor: an image of one row."""
    operations: list[Operation] = [
        {"op": "input", "output": "x", "dtype": "float32", "shape": [3, 1, 1, 5], "order": "nchw"},
        {"op": "input", "output": "y", "dtype": "float32", "shape": [3, 5], "order": "nchw"},
        {"op": "add", "inputs": ["x", "y"], "float32": "z"},
        {"op": "concat", "inputs": ["y", "z"], "output": "a", "axis": -2},
        {"op": "permute", "input": "z", "output": "b", "axes": [2, 1, 0]},
        *({"op": "output", "input": name, "order": "nchw"} for name in ("z", "a", "b")),
    ]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3, 1, 1, 5)).astype(np.float32), rng.normal(size=(2, 3, 5)).astype(np.float32)
    found, expected = results(Program(operations, {})(x, y)), results(reference.run(operations, {}, x, y))
    assert [one.shape for one in found] == [(2, 3, 1, 1, 5), (2, 3, 2, 5), (2, 5, 1, 3)]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


# What is refused

X: Operation = {"op": "input", "output": "x", "dtype": "float32", "shape": [3, 2, 4, 5], "order": "nchw"}
CONV = {"op": "conv2d_float", "input": "x", "weight": "w", "float32": "y", "groups": 1}
WINDOW = {"stride": [1], "padding": [0, 0], "dilation": [1]}
TAKE = {"op": "take", "input": "x", "output": "y", "axis": -1, "indices": "i"}
TEN = {"i": np.arange(2, dtype=np.int32)}
WRONG: list[tuple[Operation, dict[str, Array], str]] = [
    ({**X, "output": "z", "shape": []}, {}, '"shape": [] — must be [C, rows ...], up to 8 dimensions'),
    ({**X, "output": "z", "shape": [1] * 9}, {}, "up to 8 dimensions"),
    ({**X, "output": "z", "shape": [3, 0]}, {}, '"shape"'),
    ({**X, "output": "z", "shape": [3, -1, 2]}, {}, '"shape"'),
    ({**X, "output": "z", "shape": [1, 2**20 + 1]}, {}, "at most 1048576 along each axis of rows"),
    ({**X, "output": "z", "shape": [1, 2**11, 2**11, 2]}, {}, "all but the last together"),
    ({**X, "output": "z", "shape": [2**24, *[2**20] * 7]}, {}, "all but the last together"),
    ({**X, "output": "z", "order": "ncl"}, {}, '"order"'),
    ({**CONV, **WINDOW, "kernel_size": [1]}, {"w": np.ones((2, 1, 3), np.float32)}, "a number for each axis of rows"),
    ({**CONV, **WINDOW, "kernel_size": [1, 1, 1, 1]}, {"w": np.ones((2, 1, 3), np.float32)}, "1 to 3 integers"),
    ({"op": "adaptive_avg_pool", "input": "x", "output": "y", "output_size": [2, 2]}, {}, "for each axis of rows"),
    ({"op": "pad", "input": "x", "output": "y", "padding": [1, 0, 0, 0], "mode": "constant"}, {}, "each axis of rows"),
    ({**TAKE, "axis": 0}, TEN, '"axis": 0'),
    ({**TAKE, "axis": 1}, TEN, '"axis": 1'),
    ({**TAKE, "axis": -9}, TEN, '"axis": -9'),
    (
        {**TAKE, "axis": -5},
        {"i": np.array([1], np.int32)},
        'entry 0 is 1, but the places along this axis of "x" are 0 to 0',
    ),
    (TAKE, {"i": np.array([0, 5], np.int32)}, "entry 1 is 5"),
    (TAKE, {"i": np.array([-1], np.int32)}, "entry 0 is -1"),
    (TAKE, {"i": np.zeros((0,), np.int32)}, "one or more places"),
    (TAKE, {"i": np.zeros((1, 1), np.int32)}, "one or more places"),
    (TAKE, {"i": np.zeros(1, np.float32)}, "must be int32 [1]"),
    ({"op": "reshape", "input": "x", "output": "y", "shape": [3, 39]}, {}, "as many numbers as the tensor"),
    ({"op": "reshape", "input": "x", "output": "y", "shape": []}, {}, "up to 8 dimensions"),
    ({"op": "reshape", "input": "x", "output": "y", "shape": [120, *[1] * 8]}, {}, "up to 8 dimensions"),
    ({"op": "reshape", "input": "x", "output": "y", "shape": [0, 120]}, {}, '"shape"'),
    ({"op": "reshape", "input": "x", "output": "y", "shape": [2**24, *[2**20] * 7]}, {}, "all but the last together"),
    (
        {"op": "permute", "input": "x", "output": "y", "axes": [1, 0]},
        {},
        "all axes of the tensor, float32 [2, 4, 5, 3]",
    ),
    ({"op": "permute", "input": "x", "output": "y", "axes": [0, 1, 2, 2]}, {}, "each axis once"),
    ({"op": "permute", "input": "x", "output": "y", "axes": [0, 1, 2, 4]}, {}, '"axes"'),
    ({"op": "permute", "input": "x", "output": "y", "axes": [0]}, {}, "2 to 8 axes"),
    ({"op": "permute", "input": "x", "output": "y", "axes": [*range(9)]}, {}, "2 to 8 axes"),
    ({"op": "concat", "inputs": ["x", "x"], "output": "y", "axis": 1}, {}, '"axis": 1'),
    ({"op": "concat", "inputs": ["x", "x"], "output": "y", "axis": -8}, {}, '"axis": -8'),
    ({"op": "concat", "inputs": ["x", "v"], "output": "y", "axis": -1}, {}, "all other axes of rows"),
    ({"op": "add", "inputs": ["x", "v"], "float32": "y"}, {}, "[2, 4, 5, 3]"),
]


@pytest.mark.parametrize(("operation", "arrays", "message"), WRONG, ids=lambda value: str(value)[:60])
def test_what_does_not_fit_is_refused(operation: Operation, arrays: dict[str, Array], message: str) -> None:
    other: Operation = {**X, "output": "v", "shape": [3, 8, 5]}
    ends = [{"op": "output", "input": name, "order": "nchw"} for name in ("x", "v")]
    with pytest.raises(ValueError, match=r"^operation 2 ") as caught:
        Program([X, other, operation, *ends], arrays)
    assert message in str(caught.value)


def test_a_linear_layer_sees_each_pixel_alone() -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 2, (6, 5)) * 2 - 1
    arrays = {"w": reference.pack_weights(weight, 1)}
    layer = {"op": "linear", "input": "x", "weight": "w", "weight_bits": 1, "out_channels": 6, "int32": "d"}
    x = rng.integers(0, 4, (2, 3, 4, 2, 5)).astype(np.uint8)
    codes: Operation = {"op": "input", "output": "x", "dtype": "uint8", "bits": 2, "order": "nhwc"}
    rows = Program([{**codes, "shape": [5, 3, 4, 2]}, layer, {"op": "output", "input": "d", "order": "nhwc"}], arrays)
    one = Program([{**codes, "shape": [5]}, layer, {"op": "output", "input": "d"}], arrays)
    found = results(rows(x))[0]
    np.testing.assert_array_equal(found, x.astype(np.int32) @ weight.T)
    np.testing.assert_array_equal(found.reshape(-1, 6), results(one(x.reshape(-1, 5)))[0])
