"""A whole program, from arrays to arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .applying import apply
from .basics import Operation, levels
from .sizes import at_shapes
from .tensor import Tensor


def read_input(operation: Operation, array: NDArray[Any]) -> Tensor:
    """Turn the array given for an input into a tensor.

    Raises:
        ValueError: another shape or dtype than the operation says, codes above 2^bits − 1, or indices out of range.
    """
    shape, name = operation["shape"], operation["output"]
    nhwc = len(shape) > 1 and operation["order"] == "nhwc"
    expected = [*shape[1:], shape[0]] if nhwc else list(shape)
    outside = list(operation.get("array_shape", expected))
    if list(array.shape[1:]) != outside or array.ndim == 0:
        wanted = ", ".join(map(str, ["batch", *outside]))
        raise ValueError(f"input {name!r} must be of shape [{wanted}], got {list(array.shape)}")
    array = array.reshape(len(array), *expected)
    if array.dtype != operation["dtype"]:
        raise ValueError(f"input {name!r} must be of dtype {operation['dtype']}, got {array.dtype}")
    if len(shape) == 1:
        array = array[:, np.newaxis, np.newaxis, :]
    elif not nhwc:
        array = np.moveaxis(array, 1, -1)
    if operation["dtype"] == "float32":
        return Tensor(array)
    if operation["dtype"] in ("int32", "int64"):
        below = operation["below"]
        if array.size > 0 and not 0 <= array.min() <= array.max() < below:
            raise ValueError(f"input {name!r} holds an index that is not from 0 to {below - 1}")
        return Tensor(array.astype(np.int64))
    bits = operation["bits"]
    if array.size > 0 and array.max() > levels(bits):
        raise ValueError(f"input {name!r} holds the code {array.max()}; {bits}-bit codes go up to {levels(bits)}")
    return Tensor(array.astype(np.int64), bits)


def write_output(operation: Operation, tensor: Tensor) -> NDArray[Any]:
    """The array that an output gives: float32, int32, or uint8 for codes.

    Its shape is [B, C, *rows], [B, *rows, C], or [B, F], or what the key "array_shape" makes of it.
    """
    values = tensor.values
    if tensor.bits is not None:
        values = values.astype(np.uint8)
    elif values.dtype == np.int64:
        values = values.astype(np.int32)
    if all(size == 1 for size in values.shape[1:-1]):
        values = values.reshape(len(values), values.shape[-1])
    elif operation["order"] != "nhwc":
        values = np.moveaxis(values, -1, 1)
    return values.reshape(len(values), *operation.get("array_shape", values.shape[1:]))


def run(
    operations: Sequence[Operation],
    arrays: Mapping[str, NDArray[Any]],
    *inputs: NDArray[Any],
    **named: NDArray[Any],
) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """Run a whole program.

    Args:
        operations, arrays: as `bitorch_runtime.Program` takes them. Taken to be valid: it is Program that checks.
        inputs, named: one array per "input" operation, in their order or by tensor name.

    Returns:
        the output's array; for several outputs a dict of arrays by tensor name.

    Raises:
        ValueError: an unknown operation, an input array that does not fit, or inputs of different batches.
        TypeError: too many or too few inputs.
    """
    names = [operation["output"] for operation in operations if operation["op"] == "input"]
    given = dict(zip(names, inputs, strict=False)) | named
    if len(inputs) + len(named) != len(names) or given.keys() != set(names):
        raise TypeError(
            f"the program takes the inputs {names}, got {len(inputs)} by position and {list(named)} by name"
        )
    operations, arrays = at_shapes(operations, arrays, [given[name].shape[1:] for name in names])
    tensors = {
        operation["output"]: read_input(operation, given[operation["output"]])
        for operation in operations
        if operation["op"] == "input"
    }
    batches = {name: len(tensor.values) for name, tensor in tensors.items()}
    if len(set(batches.values())) > 1:
        raise ValueError(f"the inputs have different batches: {batches}")
    outputs: dict[str, NDArray[Any]] = {}
    for operation in operations:
        if operation["op"] == "input":
            continue
        if operation["op"] == "output":
            outputs[operation["input"]] = write_output(operation, tensors[operation["input"]])
        else:
            tensors |= apply(operation, tensors, arrays)
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs
