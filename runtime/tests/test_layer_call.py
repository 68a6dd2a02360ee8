"""Programs that are called with addresses: bitorch's packed layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bitorch_runtime import Program, pack_weights
from bitorch_runtime.program import layer_call

CODES = np.array([[1, -1, 3], [-3, 1, 1]], np.int16)


def program(inputs: int = 1) -> tuple[Program, list[Any]]:
    stages = [np.array([0.5, 0.25], np.float32), np.array([1.0, -2.0], np.float32)]
    arrays: dict[str, Any] = {"weight": pack_weights(CODES, 2, grid="odd"), "multiply": stages[0], "offset": stages[1]}
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": f"x{i}", "dtype": "float32", "shape": [3], "order": "nchw"} for i in range(inputs)
    ]
    operations += [
        {"op": "quantize", "input": "x0", "output": "codes", "bits": 2},
        {
            "op": "linear", "input": "codes", "weight": "weight", "weight_bits": 2, "out_channels": 2,
            "weight_grid": "odd", "multiply": "multiply", "offset": "offset", "float32": "y",
        },
        {"op": "output", "input": "y", "order": "nchw"},
    ]  # fmt: skip
    return Program(operations, arrays), stages


def address(array: Any) -> int:
    return int(array.ctypes.data)


def test_a_call_computes_what_the_program_does() -> None:
    made, stages = program()
    call = layer_call(made, stages)
    for batch in (1, 5):
        x = np.random.default_rng(batch).random((batch, 3), np.float32)
        y = np.zeros((batch, 2), np.float32)
        assert call.run(address(x), batch, address(y), *map(address, stages)) == 0
        np.testing.assert_array_equal(y, made(x))
    assert call.run(0, 0, 0, *map(address, stages)) == 0


def test_other_arrays_are_told_and_nothing_is_done() -> None:
    made, stages = program()
    call = layer_call(made, stages)
    x, y = np.zeros((1, 3), np.float32), np.full((1, 2), 7, np.float32)
    copies = [stage.copy() for stage in stages]
    assert call.run(address(x), 1, address(y), *map(address, copies)) == 0
    copies[1][1] += 1
    y[:] = 7
    assert call.run(address(x), 1, address(y), *map(address, copies)) == 2
    assert y.tolist() == [[7, 7]]


@pytest.mark.parametrize("nan", [np.nan, -np.nan, np.uint32(0x7F800001).view(np.float32)])
def test_a_nan_is_found_wherever_it_stands(nan: float) -> None:
    made, stages = program()
    call = layer_call(made, stages)
    x = np.array([[0.0, np.inf, -np.inf], [3e38, -0.0, -1e-45]] * 9, np.float32)
    y = np.zeros((len(x), 2), np.float32)
    assert call.run(address(x), len(x), address(y), *map(address, stages)) == 0
    for place in range(x.size):
        found = x.copy()
        found.reshape(-1)[place] = nan
        assert call.run(address(found), len(x), address(y), *map(address, stages)) == 1


def test_programs_of_other_shapes_are_refused() -> None:
    made, stages = program(2)
    with pytest.raises(ValueError, match="must have one input"):
        layer_call(made, stages)
    call = layer_call(program()[0], stages)
    with pytest.raises(ValueError, match="then one for each array"):
        call.run(0, 1, 0, 0)
    with pytest.raises(ValueError, match="not C-contiguous"):
        layer_call(program()[0], [np.zeros((4, 4), np.float32)[:, ::2]])
