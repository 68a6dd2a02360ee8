"""pad and select before low-bit layers, in whatever layout those read: bit planes, bytes, or one from the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bitorch_runtime import Program, pack_weights, reference

Array = np.ndarray[Any, Any]


def check(operation: dict[str, Any], arrays: dict[str, Array], channels: int, bits: int, outputs: int) -> None:
    """Codes -> operation -> 1-bit conv2d, and the operation's codes themselves; then the same without that output."""
    rng = np.random.default_rng(channels)
    weight = 2 * rng.integers(0, 2, (33, 3, 3, outputs)) - 1
    layer = {"op": "conv2d", "input": "y", "weight": "weight", "weight_bits": 1, "out_channels": 33, "int32": "d"}
    layer |= {"kernel_size": [3, 3], "stride": [1, 1], "padding": [1, 0, 1, 2], "dilation": [1, 1], "groups": 1}
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "x", "dtype": "uint8", "bits": bits, "shape": [channels, 5, 6], "order": "nhwc"},
        {**operation, "input": "x", "output": "y"},
        layer,
        {"op": "output", "input": "d", "order": "nhwc"},
        {"op": "output", "input": "y", "order": "nhwc"},
    ]
    arrays = {**arrays, "weight": pack_weights(weight, 1)}
    x = rng.integers(0, 2**bits, (3, 5, 6, channels)).astype(np.uint8)
    expected = reference.run(operations, arrays, x)
    results = Program(operations, arrays)(x)
    assert isinstance(expected, dict)
    assert isinstance(results, dict)
    for name in expected:
        np.testing.assert_array_equal(results[name], expected[name])
    np.testing.assert_array_equal(Program(operations[:-1], arrays)(x), expected["d"])


@pytest.mark.parametrize("bits", [1, 2, 3])
@pytest.mark.parametrize("channels", [3, 16, 64])
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad(mode: str, channels: int, bits: int) -> None:
    operation: dict[str, Any] = {"op": "pad", "padding": [2, 1, 0, 4], "mode": mode}
    if mode == "constant":
        operation["value"] = 2**bits - 1
    check(operation, {}, channels, bits, channels)


@pytest.mark.parametrize("bits", [1, 3])
@pytest.mark.parametrize("before", [0, 3, 8])
def test_pad_of_channels(before: int, bits: int) -> None:
    operation = {"op": "pad", "padding": [0, 1, 2, 0], "mode": "constant", "channels": [before, 5]}
    check({**operation, "value": 1}, {}, 16, bits, 16 + before + 5)
    check(operation, {}, 13, bits, 13 + before + 5)


SELECTIONS = {
    "a slice of bytes": np.arange(8, 40),
    "the end": np.arange(16, 67),
    "bytes in another order": np.concatenate([np.arange(40, 64), np.arange(8), np.arange(56, 67)]),
    "inside a byte": np.arange(3, 30),
    "a part of the last byte": np.arange(64, 66),
    "shuffled": np.arange(64).reshape(4, 16).T.ravel(),
    "repeated": np.repeat(np.arange(9), 3),
}


@pytest.mark.parametrize("bits", [1, 2, 3])
@pytest.mark.parametrize("name", SELECTIONS)
def test_select(name: str, bits: int) -> None:
    chosen = SELECTIONS[name].astype(np.int32)
    check({"op": "select", "channels": "chosen"}, {"chosen": chosen}, 67, bits, len(chosen))
