"""Floats times packed codes with a scale for each group, against sums in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bitorch_runtime import Program, reference
from operation_examples import Array, Operation

#: Inputs and groups: one below, at and above words of 4 bits, groups that no word divides, and one of one input.
DEPTHS = [(7, 1), (8, 1), (9, 1), (64, 2), (66, 6), (96, 3), (5, 5), (1, 1), (257, 1)]
#: Rows: those that codes are multiplied with as they are, and more, in more than one block.
ROWS = [1, 2, 3, 4, 5, 8, 9, 70]


def layer(bits: int, grid: str, inputs: int, outputs: int, groups: int) -> tuple[list[Operation], dict[str, Array]]:
    rng = np.random.default_rng(inputs * 8 + bits)
    step, lowest = reference.code_line(bits, grid)
    codes = step * rng.integers(0, 2**bits, (outputs, inputs)) + lowest
    operations: list[Operation] = [
        {"op": "input", "output": "x", "dtype": "float32", "shape": [inputs]},
        {"op": "linear_weight_only", "input": "x", "output": "y", "weight": "w", "weight_bits": bits}
        | {"weight_grid": grid, "out_channels": outputs, "scale": "s", "bias": "b"},
        {"op": "output", "input": "y"},
    ]
    arrays: dict[str, Array] = {
        "w": reference.pack_weights(codes, bits, grid),
        "s": rng.normal(size=(outputs, groups)).astype(np.float32),
        "b": rng.normal(size=outputs).astype(np.float32),
    }
    return operations, arrays


def check(operations: list[Operation], arrays: dict[str, Array], x: Array) -> None:
    """The result, but for what float32 may lose of the sum of magnitudes."""
    found, expected = Program(operations, arrays)(x), reference.run(operations, arrays, x)
    one, groups = operations[1], arrays["s"].shape[1]
    codes = reference.unpack_weights(arrays["w"], one["weight_bits"], x.shape[1:], one["weight_grid"])
    weight = codes * np.repeat(arrays["s"].astype(np.float64), x.shape[1] // groups, axis=1)
    assert isinstance(found, np.ndarray)
    assert isinstance(expected, np.ndarray)
    np.testing.assert_allclose(x @ weight.T + arrays["b"], expected, rtol=1e-6, atol=1e-6)
    assert np.all(np.abs(found - expected) <= 1e-6 * (np.abs(x) @ np.abs(weight).T + np.abs(arrays["b"])))


@pytest.mark.parametrize(("bits", "grid"), [*itertools.product(range(1, 9), ("odd", "signed"))])
def test_every_width_and_shape(bits: int, grid: str) -> None:
    rng = np.random.default_rng(bits)
    for i, ((inputs, groups), rows) in enumerate(itertools.product(DEPTHS, ROWS)):
        outputs = (1, 15, 16, 17, 50)[i % 5]
        check(*layer(bits, grid, inputs, outputs, groups), rng.normal(size=(rows, inputs)).astype(np.float32))


@pytest.mark.parametrize("rows", [1, 9])
def test_infinite_and_undefined_numbers_stay_in_their_rows(rows: int) -> None:
    """A finite row beside them is what it is alone, also where zeros fill up the words of a group."""
    operations, arrays = layer(3, "odd", 66, 20, 6)
    x = np.ones((rows + 2, 66), np.float32)
    x[0, 3], x[1, 65] = np.inf, np.nan
    found = Program(operations, arrays)(x)
    assert isinstance(found, np.ndarray)
    assert np.isinf(found[0]).all()
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[2:], np.broadcast_to(found[2], found[2:].shape), rtol=1e-5)
    assert np.isfinite(found[2:]).all()


def test_images_and_batches_are_rows_alike() -> None:
    """The places of images give what single rows do, to float32's error."""
    operations, arrays = layer(4, "signed", 64, 200, 2)
    x = np.random.default_rng(0).normal(size=(90, 64)).astype(np.float32)
    of_rows = Program(operations, arrays)(x)
    port: Operation = {"op": "input", "output": "x", "dtype": "float32", "shape": [64, 3, 5], "order": "nhwc"}
    image = [port, operations[1], {**operations[2], "order": "nhwc"}]
    of_images = Program(image, arrays)(x.reshape(6, 3, 5, 64))
    assert isinstance(of_rows, np.ndarray)
    assert isinstance(of_images, np.ndarray)
    np.testing.assert_allclose(of_images.reshape(90, 200), of_rows, rtol=1e-5, atol=1e-4)
    assert Program(operations, arrays)(x[:0]).shape == (0, 200)  # type: ignore[union-attr]  # one output


def test_memory_is_that_of_the_codes() -> None:
    operations, arrays = layer(4, "signed", 1024, 64, 8)
    program = Program(operations, arrays)
    one = program.operations()[1]
    assert one["macs"] == 1024 * 64
    assert one["weight_bytes"] == 1024 * 64 // 2 + 64 * 8 * 4 + 64 * 4
    assert one["kernel"].startswith("weight-only ")
