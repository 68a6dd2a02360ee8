"""Arrays in other dimensions than [C, H, W] and [F]: the key "array_shape" of inputs and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import bitorch_runtime
from bitorch_runtime import Program, reference

Operations = list[dict[str, Any]]


def relu(shape: list[int], inside: list[int] | None, outside: list[int] | None, order: str = "nchw") -> Operations:
    """The ReLU of one input."""
    first: dict[str, Any] = {"op": "input", "output": "x", "dtype": "float32", "shape": shape, "order": order}
    last: dict[str, Any] = {"op": "output", "input": "y", "order": order}
    return [
        first if inside is None else {**first, "array_shape": inside},
        {"op": "affine", "input": "x", "low": 0.0, "float32": "y"},
        last if outside is None else {**last, "array_shape": outside},
    ]


def result(program: Program, *inputs: NDArray[Any]) -> NDArray[Any]:
    y = program(*inputs)
    assert isinstance(y, np.ndarray)
    return y


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("order", ["nchw", "nhwc"])
@pytest.mark.parametrize(
    ("shape", "inside", "outside"),
    [
        ([2, 1, 6], [2, 6], [2, 6]),
        ([2, 1, 6], [2, 6], None),
        ([2, 1, 6], None, [12]),
        ([5], [5, 1, 1], [1, 5]),
        ([5], None, [5, 1, 1]),
        ([1], [], []),
        ([1], [1, 1], []),
        ([2, 3, 4], [24], [4, 3, 2]),
    ],
    ids=str,
)
def test_shapes_inside_and_outside(
    shape: list[int], inside: list[int] | None, outside: list[int] | None, order: str, batch: int
) -> None:
    operations = relu(shape, inside, outside, order)
    program = Program(operations, {})
    plain = Program(relu(shape, None, None, order), {})
    (given,), (gives,) = program.inputs, program.outputs
    assert given["shape"] == (plain.inputs[0]["shape"] if inside is None else tuple(inside))
    assert gives["shape"] == (plain.outputs[0]["shape"] if outside is None else tuple(outside))
    x = np.random.default_rng(0).normal(0, 1, (batch, *given["shape"])).astype(np.float32)
    y = result(program, x)
    assert y.shape == (batch, *gives["shape"])
    expected = result(plain, x.reshape(batch, *plain.inputs[0]["shape"]))
    assert np.array_equal(y.reshape(expected.shape), expected)
    oracle = reference.run(operations, {}, x)
    assert isinstance(oracle, np.ndarray)
    assert oracle.shape == y.shape
    assert np.array_equal(oracle, y)


def test_codes_and_several_ports(tmp_path: Path) -> None:
    operations: Operations = [
        {"op": "input", "output": "a", "dtype": "uint8", "bits": 8, "shape": [2, 1, 3], "order": "nchw",
         "array_shape": [2, 3]},
        {"op": "input", "output": "b", "dtype": "uint8", "bits": 8, "shape": [2, 1, 3], "order": "nchw"},
        {"op": "concat", "inputs": ["a", "b"], "output": "c"},
        {"op": "output", "input": "c", "order": "nchw", "array_shape": [4, 3]},
        {"op": "output", "input": "a", "order": "nchw"},
    ]  # fmt: skip
    path = tmp_path / "net.bit.safetensors"
    bitorch_runtime.save(path, operations, {})
    net = bitorch_runtime.load(path)
    a, b = np.random.default_rng(0).integers(0, 256, (2, 5, 2, 3), dtype=np.uint8)
    results = net(a, b[:, :, np.newaxis])
    assert isinstance(results, dict)
    assert np.array_equal(results["c"], np.concatenate([a, b], 1))
    assert results["a"].shape == (5, 2, 1, 3)
    assert "a: uint8 (batch, 2, 3)" in repr(net)


def test_errors_name_the_shape_outside() -> None:
    signal = Program(relu([2, 1, 6], [2, 6], [2, 6]), {})
    x = np.zeros((3, 2, 6), np.float32)
    with pytest.raises(ValueError, match=r"the shape is \(3, 2, 1, 6\), but must be \(batch, 2, 6\)"):
        signal(x[:, :, np.newaxis])
    with pytest.raises(
        ValueError, match=r"\(2, 6\), but must be \(batch, 2, 6\); one image is a batch of one, array\[None\]"
    ):
        signal(x[0])
    number = Program(relu([1], [], []), {})
    assert repr(number).startswith("Program(x: float32 (batch,) -> y: float32 (batch,);")
    with pytest.raises(ValueError, match=r"the shape is \(3, 1\), but must be \(batch,\)"):
        number(x[:, 0, :1])
    with pytest.raises(ValueError, match=r"the shape is \(\), but must be \(batch,\); one image is a batch of one"):
        number(np.array(1, np.float32))
    with pytest.raises(ValueError, match=r"must be of shape \[batch, 2, 6\]"):
        reference.run(relu([2, 1, 6], [2, 6], None), {}, x[:, :1])


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ([2, 5], 'must have as many numbers as [2, 1, 6]'),
        ([], 'must have as many numbers as [2, 1, 6]'),
        ([12, *[1] * 8], "must have from 0 to 8 dimensions, without the batch"),
        ([0, 6], "each must be an integer from 1 to"),
        ([-2, -6], "each must be an integer from 1 to"),
        ([2.0, 6], "each must be an integer from 1 to"),
        ([True, 12], "each must be an integer from 1 to"),
        ([2**62, 2**62, 2**62], "does not fit in 64 bits"),
        ([2**70, 6], "each must be an integer from 1 to"),
        ("2, 6", "must be a list"),
        (None, "must be a list"),
        ({"0": 12}, "must be a list"),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("side", ["input", "output"])
def test_shapes_that_are_refused(shape: Any, says: str, side: str) -> None:
    operations = relu([2, 1, 6], None, None)
    operations[0 if side == "input" else 2]["array_shape"] = shape
    index = 0 if side == "input" else 2
    with pytest.raises(ValueError, match=rf"operation {index} \({side}\)") as refusal:
        Program(operations, {})
    assert says in str(refusal.value)
    hostile = bitorch_runtime.format.encode(operations, {}, {})
    with pytest.raises(ValueError, match=rf"operation {index} \({side}\)"):
        bitorch_runtime._native.load_bytes(hostile, 2**30)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_planes_of_an_image_become_pixels_at_every_width(channels: int) -> None:
    rng = np.random.default_rng(0)
    for width in range(1, 70):
        shape = [channels, 2, width]
        operations: Operations = [
            {"op": "input", "output": "x", "dtype": "uint8", "bits": 8, "shape": shape, "order": "nchw"},
            {"op": "output", "input": "x", "order": "nhwc"},
        ]
        x = rng.integers(0, 256, (2, *shape), np.uint8)
        np.testing.assert_array_equal(result(Program(operations, {}), x), x.transpose(0, 2, 3, 1))
