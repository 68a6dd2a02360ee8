"""Codes times packed codes with a scale for each group, bit for bit against plain sums, of every table of kernels."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

import bitorch_runtime
from bitorch_runtime import Program, reference
from operation_examples import Array, Operation

#: Inputs of a group: one below, at and above words of each width, and one alone.
SIZES = (1, 3, 7, 8, 9, 31, 32, 33, 128)
#: Rows and outputs: whole tiles of kernels, and what is left of them.
ROWS = (1, 2, 3, 4, 5, 7, 8, 9, 70)
OUTPUTS = (1, 15, 16, 17, 50)


class Meaning(NamedTuple):
    """What the codes of an input stand for."""

    bits: int
    zero_point: int = 0
    sign: bool = False

    def of(self, q: Array) -> Array:
        numbers: Array = 2 * q.astype(np.int64) - 1 if self.sign else q.astype(np.int64) - self.zero_point
        return numbers

    @property
    def keys(self) -> Operation:
        return {"sign_activations": True} if self.sign else {"zero_point": self.zero_point}


MEANINGS = (
    Meaning(1, sign=True),
    *itertools.starmap(Meaning, ((1, 0), (2, 1), (3, 7), (4, 0), (5, 12), (6, 32), (7, 0), (7, 64))),
    *(Meaning(8, zero_point) for zero_point in (0, 77, 127, 128, 129, 255)),
)


class Layer(NamedTuple):
    """One layer: codes [N, F], scales [N, G], and what its input means."""

    codes: Array
    scale: Array
    bias: Array | None
    bits: int
    grid: str
    meaning: Meaning

    def run(self, q: Array) -> Array:
        arrays = {"w": reference.pack_weights(self.codes, self.bits, self.grid), "s": self.scale}
        layer: Operation = {"op": "linear_groups", "input": "q", "output": "y", "weight": "w", "scale": "s"}
        layer |= {"weight_bits": self.bits, "weight_grid": self.grid, "out_channels": len(self.codes)}
        layer |= self.meaning.keys
        if self.bias is not None:
            arrays["b"] = self.bias
            layer["bias"] = "b"
        port: Operation = {"op": "input", "output": "q", "dtype": "uint8", "bits": self.meaning.bits}
        operations = [port | {"shape": [self.codes.shape[1]]}, layer, {"op": "output", "input": "y"}]
        y = Program(operations, arrays)(q)
        again = reference.run(operations, arrays, q)
        assert isinstance(y, np.ndarray)
        assert isinstance(again, np.ndarray)
        same(again, self.expected(q))
        return y

    def expected(self, q: Array) -> Array:
        """Integers of each group, then float32 in order."""
        groups = np.split(self.meaning.of(q), self.scale.shape[1], axis=1)
        weights = np.split(self.codes.astype(np.int64), self.scale.shape[1], axis=1)
        total: Array | None = None
        for g, (x, c) in enumerate(zip(groups, weights, strict=True)):
            part = (x @ c.T).astype(np.float32) * self.scale[:, g]
            total = part if total is None else total + part
        assert total is not None
        return total if self.bias is None else total + self.bias


def same(found: Array, expected: Array) -> None:
    """The same bits, signs of zeros included."""
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def layer(bits: int, grid: str, meaning: Meaning, outputs: int, size: int, groups: int) -> Layer:
    rng = np.random.default_rng(1000 * size + bits)
    step, lowest = reference.code_line(bits, grid)
    codes = step * rng.integers(0, 2**bits, (outputs, groups * size)) + lowest
    scale, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((outputs, groups), (outputs,)))
    return Layer(codes, scale, bias if size % 2 else None, bits, grid, meaning)


def check_shapes() -> None:
    """Every weight with every group; meanings, rows and outputs in turn."""
    rng = np.random.default_rng(0)
    weights = itertools.product(range(1, 9), ("odd", "signed"), SIZES)
    for i, (bits, grid, size) in enumerate(weights):
        for j in (2 * i, 2 * i + 1):
            meaning = MEANINGS[j % len(MEANINGS)]
            one = layer(bits, grid, meaning, OUTPUTS[j // 3 % len(OUTPUTS)], size, 1 + j % 4)
            q = rng.integers(0, 2**meaning.bits, (ROWS[j // 2 % len(ROWS)], one.codes.shape[1])).astype(np.uint8)
            same(one.run(q), one.expected(q))


def check_extremes() -> None:
    """The largest sums of every width, of both signs, where narrow sums of kernels would saturate."""
    for bits, grid, meaning in itertools.product(range(1, 9), ("odd", "signed"), MEANINGS):
        step, lowest = reference.code_line(bits, grid)
        ends = np.array([lowest, step * (2**bits - 1) + lowest])
        codes = np.stack([np.full(257, ends[0]), np.full(257, ends[1]), ends[np.arange(257) % 2]])
        one = Layer(codes, np.full((3, 1), 0.75, np.float32), None, bits, grid, meaning)
        top = 2**meaning.bits - 1
        rows = [np.zeros(257), np.full(257, top), top * (np.arange(257) % 2)]
        q = np.stack(rows + rows[:2]).astype(np.uint8)
        same(one.run(q), one.expected(q))


@pytest.mark.parametrize("table", bitorch_runtime.cpu()["kernels"])
def test_every_width_and_shape(table: str) -> None:
    """In a process of its own, since the table is chosen once."""
    done = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | {"BITORCH_KERNEL": table},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, f"{table}\n"), done.stderr


def test_a_zero_keeps_its_sign() -> None:
    """One group: there is nothing that its product is added to."""
    one = layer(2, "signed", Meaning(2, 1), 16, 8, 1)._replace(scale=np.full((16, 1), -0.5, np.float32))
    found = one.run(np.ones((1, 8), np.uint8))
    assert np.signbit(found).all()
    same(found, one.expected(np.ones((1, 8), np.uint8)))


def test_images_batches_and_threads_change_nothing() -> None:
    """Places of images give what single rows do, and rows what they do alone."""
    one = layer(4, "signed", Meaning(8, 128), 200, 32, 2)
    q = np.random.default_rng(0).integers(0, 256, (90, 64)).astype(np.uint8)
    expected = one.expected(q)
    same(one.run(q[:1]), expected[:1])
    before = bitorch_runtime.get_num_threads()
    try:
        for threads in (1, 2):
            bitorch_runtime.set_num_threads(threads)
            same(one.run(q), expected)
    finally:
        bitorch_runtime.set_num_threads(before)
    arrays: dict[str, Array] = {"w": reference.pack_weights(one.codes, 4, "signed"), "s": one.scale}
    port: Operation = {"op": "input", "output": "q", "dtype": "uint8", "bits": 8, "shape": [64, 3, 5], "order": "nhwc"}
    layer_of_images: Operation = {"op": "linear_groups", "input": "q", "output": "y", "weight": "w", "scale": "s"}
    layer_of_images |= {"weight_bits": 4, "weight_grid": "signed", "out_channels": 200, "zero_point": 128}
    program = Program([port, layer_of_images, {"op": "output", "input": "y", "order": "nhwc"}], arrays)
    found = program(q.reshape(6, 3, 5, 64))
    assert isinstance(found, np.ndarray)
    same(found.reshape(90, 200), expected)
    assert program(q[:0].reshape(0, 3, 5, 64)).shape == (0, 3, 5, 200)  # type: ignore[union-attr]  # one output


def test_codes_in_planes_are_read_as_bytes() -> None:
    """Beside a layer that likes planes."""
    one = layer(3, "odd", Meaning(2, 1), 20, 64, 2)
    weight = {"w": reference.pack_weights(one.codes, 3), "s": one.scale}
    port: Operation = {"op": "input", "output": "q", "dtype": "uint8", "bits": 2, "shape": [128]}
    head: Operation = {"input": "q", "weight": "w", "weight_bits": 3, "out_channels": 20, "zero_point": 1}
    operations = [
        port,
        head | {"op": "linear", "int32": "d"},
        head | {"op": "linear_groups", "output": "y", "scale": "s"},
        {"op": "output", "input": "d"},
        {"op": "output", "input": "y"},
    ]
    q = np.random.default_rng(0).integers(0, 4, (9, 128)).astype(np.uint8)
    found = Program(operations, weight)(q)
    assert isinstance(found, dict)
    np.testing.assert_array_equal(found["d"], one.meaning.of(q) @ one.codes.T)
    same(found["y"], one.expected(q))


def test_sums_of_all_inputs_stay_below_the_bound_of_linear() -> None:
    """A sum of F·n_w·n_a = 33026·255·255 > 2^31 − 1."""
    port: Operation = {"op": "input", "output": "q", "dtype": "uint8", "bits": 8, "shape": [33026]}
    layer: Operation = {"op": "linear_groups", "input": "q", "output": "y", "weight": "w", "scale": "s"}
    layer |= {"weight_bits": 8, "out_channels": 1}
    arrays: dict[str, Array] = {"w": np.zeros((1, 33026), np.uint8), "s": np.ones((1, 33026), np.float32)}
    with pytest.raises(ValueError, match=r"33026 weights per output, .* must stay below 2\^31"):
        Program([port, layer, {"op": "output", "input": "y"}], arrays)


def test_memory_is_that_of_the_codes() -> None:
    """And of their sums, where the input's codes do not fit into signed bytes."""
    arrays: dict[str, Array] = {"w": np.zeros((64, 512), np.uint8), "s": np.ones((64, 8), np.float32)}
    port: Operation = {"op": "input", "output": "q", "dtype": "uint8", "bits": 8, "shape": [1024]}
    layer: Operation = {"op": "linear_groups", "input": "q", "output": "y", "weight": "w", "scale": "s"}
    layer |= {"weight_bits": 4, "weight_grid": "signed", "out_channels": 64}
    for zero_point, sums in ((128, 0), (0, 64 * 8 * 4)):
        one = Program([port, layer | {"zero_point": zero_point}, {"op": "output", "input": "y"}], arrays).operations()[
            1
        ]
        assert one["macs"] == 1024 * 64
        assert one["weight_bytes"] == 1024 * 64 // 2 + 64 * 8 * 4 + sums
        assert one["kernel"].startswith("groups ")


if __name__ == "__main__":
    check_shapes()
    check_extremes()
    print(bitorch_runtime.cpu()["kernel"])
