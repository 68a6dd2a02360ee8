"""Integer weights in 1, 2, 4 or 8 bits in the file, which operators unpack when it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from .require_onnx import onnx
from .writer import Writer

#: The opsets since which there are types of 4 and of 2 bits.
_NIBBLES, _CRUMBS = 21, 25
_INT32 = onnx.TensorProto.INT32


def unpacked(writer: Writer, stored: NDArray[np.uint8], bits: int) -> str:
    """Keep numbers of some bits in the file, and return them as int32 in the model, of the same shape.

    Of 3, 5, 6 and 7 bits there are parts of 4, 2 and 1, the lowest bits first, as ONNX has no such types.

    Args:
        stored: 0 … 2^bits − 1.
    """
    value, below = "", 0
    for width in (8, 4, 2, 1):
        if bits - below >= width:
            part = (stored >> below) & (2**width - 1)
            plane = _plane(writer, part.astype(np.uint8), width)
            if below > 0:
                plane = writer.node("Mul", [plane, number(writer, 1 << below)])
            value = writer.node("Add", [value, plane]) if value else plane
            below += width
    return value


def number(writer: Writer, value: int) -> str:
    """Return an int32 constant."""
    return writer.constant("number", np.int32(value))


def shape(writer: Writer, sizes: Sequence[int]) -> str:
    """Return sizes as Reshape takes them: 0 keeps one, −1 is what is left."""
    return writer.constant("shape", np.array(sizes, np.int64))


def _plane(writer: Writer, stored: NDArray[np.uint8], width: int) -> str:
    """Numbers of 1, 2, 4 or 8 bits as int32."""
    dtype: Any = {4: ml_dtypes.uint4, 2: ml_dtypes.uint2}.get(width)
    has_type = width == 8 or (width == 4 and writer.opset >= _NIBBLES) or (width == 2 and writer.opset >= _CRUMBS)
    if has_type:
        kept = writer.constant("weight", stored if dtype is None else stored.astype(dtype))
        return writer.node("Cast", [kept], to=_INT32)
    return _from_bytes(writer, stored, width)


def _from_bytes(writer: Writer, stored: NDArray[np.uint8], width: int) -> str:
    """Numbers of 1, 2 or 4 bits, several in a byte, the first in its lowest bits, shifted apart in the model."""
    flat, in_byte = stored.reshape(-1), 8 // width
    padded = np.pad(flat, (0, -len(flat) % in_byte)).reshape(-1, in_byte)
    shifts = np.arange(0, 8, width, dtype=np.uint8)
    packed = np.bitwise_or.reduce(padded << shifts, axis=1, dtype=np.uint8)
    kept = writer.constant("weight", packed.reshape(-1, 1))
    shifted = writer.node("BitShift", [kept, writer.constant("shifts", shifts)], direction="RIGHT")
    value = writer.node("BitwiseAnd", [shifted, writer.constant("mask", np.uint8(2**width - 1))])
    if len(flat) % in_byte:
        value = writer.node("Reshape", [value, shape(writer, [-1])])
        ends = [writer.constant("end", np.array([at], np.int64)) for at in (0, len(flat))]
        value = writer.node("Slice", [value, *ends])
    value = writer.node("Reshape", [value, shape(writer, stored.shape)])
    return writer.node("Cast", [value], to=_INT32)
