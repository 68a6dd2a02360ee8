"""Codes, and what they stand for, in stock operators: uint8, and those of ±1 are 2 and 0, with 1 as their zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..graph.graph import Node
from .lines import FloatLines
from .require_onnx import onnx
from .writer import Writer

_FLOAT, _UINT8, _INT32 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8, onnx.TensorProto.INT32


def along(numbers: NDArray[np.generic], node: Node) -> NDArray[np.generic]:
    """Return numbers [C], or [1], as they meet a node's value [batch, C, *rows]."""
    return numbers.reshape(-1, *[1] * (len(node.shape) - 1))


def compared(writer: Writer, node: Node, x: str, dtype: type[np.generic]) -> str:
    """Write a node of kind `thresholds` as comparisons, which no NaN passes.

    Args:
        x: what it reads, [batch, C, *rows].
        dtype: of x, int32 or float32.
    """
    thresholds = node.settings["thresholds"].numpy().astype(dtype)
    falls = node.settings["descending"].numpy()
    if falls.any():
        # −x ≥ −T where codes fall: a sign that no number loses.
        sign = np.where(falls, -1, 1).astype(dtype)
        x = writer.node("Mul", [x, writer.constant("sign", along(sign, node))])
        thresholds = thresholds * sign[:, None]
    if thresholds.shape[1] == 1:
        total = _reached(writer, x, along(thresholds[:, 0], node))
    else:
        # Thresholds lie along an axis of their own, behind the channels.
        beside = writer.node("Unsqueeze", [x, writer.constant("axis", np.array([2], np.int64))])
        reached = _reached(writer, beside, thresholds.reshape(*thresholds.shape, *[1] * (len(node.shape) - 1)))
        total = writer.node("ReduceSum", [reached, writer.constant("axis", np.array([2], np.int64))], keepdims=0)
    if node.settings["table"] is not None:
        return looked_up(writer, node, total, node.settings["table"], is_code=True)
    return stored_codes(writer, node, total)


def _reached(writer: Writer, x: str, thresholds: NDArray[np.generic]) -> str:
    """1 where a number is a threshold or more, else 0, as int32."""
    is_reached = writer.node("GreaterOrEqual", [x, writer.constant("thresholds", thresholds)])
    return writer.node("Cast", [is_reached], to=_INT32)


def on_float_line(writer: Writer, node: Node, x: str, lines: FloatLines, ends: tuple[int, int]) -> str:
    """Write a node of kind `thresholds` behind a sum as a line; x: int32, `ends`: see `cut_off`."""
    number = writer.node("Cast", [x], to=_FLOAT)
    moved = writer.node("Add", [number, writer.constant("offset", along(lines.offset, node))])
    # QuantizeLinear with a step for each channel is slow where these lie last.
    divided = writer.node("Div", [moved, writer.constant("step", along(lines.step, node))])
    one, zero = writer.constant("one", np.float32(1)), writer.constant("zero", np.uint8(0))
    codes = writer.node("QuantizeLinear", [divided, one, zero])
    return cut_off(writer, node, codes, ends)


def scaled(writer: Writer, node: Node, x: str, *, is_normed: bool) -> str:
    """Write a node of kind `scale`; x: int32.

    Args:
        is_normed: only batch normalisations read it. Then DequantizeLinear does the same in one step; elsewhere ONNX
            Runtime takes that for a mark of 8 bits, and moves it.
    """
    scale = node.settings["scale"].numpy().astype(np.float32)
    if scale.size == 1 and is_normed:
        return writer.node("DequantizeLinear", [x, writer.constant("scale", scale.reshape(()))], node.name)
    number = writer.node("Cast", [x], to=_FLOAT)
    factor = along(scale, node) if scale.size > 1 else scale.reshape(())
    return writer.node("Mul", [number, writer.constant("scale", factor)], node.name)


def cut_off(writer: Writer, node: Node, codes: str, ends: tuple[int, int]) -> str:
    """Write the codes of a line, 0 to 255, as those of a node, which has them between two ends only."""
    lowest = writer.constant("end", np.uint8(ends[0])) if ends[0] > 0 else ""
    return writer.node("Clip", [codes, lowest, writer.constant("end", np.uint8(ends[1]))], node.name)


def stored_codes(writer: Writer, node: Node, q: str) -> str:
    """Write codes 0 … n, of any dtype of integers, as the file has them."""
    value = writer.node("Cast", [q], None if node.settings["sign"] else node.name, to=_UINT8)
    if not node.settings["sign"]:
        return value
    return writer.node("BitShift", [value, writer.constant("one", np.uint8(1))], node.name, direction="LEFT")


def coded(writer: Writer, node: Node, x: str) -> str:
    """Write a node of kind `codes` of more than one level, as its quantizer rounds.

    QuantizeLinear rounds x/step half to even, adds the zero point and cuts off at 0 and 255; what is beyond the unit
    range is beyond it after the multiplication, too. Of 3 levels a step of 1/3 makes the same codes of every float32.
    """
    settings = node.settings
    largest = 2 ** settings["bits"] - 1
    is_unit = settings["form"] == "unit"
    step = np.float32(1)
    if is_unit and largest == 3:
        step = np.float32(1) / np.float32(3)
    elif is_unit:
        x = writer.node("Mul", [x, writer.constant("levels", np.float32(largest))])
    zero = writer.constant("zero", np.uint8(0 if is_unit else settings["zero_point"]))
    codes = writer.node("QuantizeLinear", [x, writer.constant("step", step), zero])
    return cut_off(writer, node, codes, (0, largest))


def values(writer: Writer, node: Node, q: str) -> str:
    """Write a node of kind `values`: codes to float32."""
    table, bits = node.settings["table"], node.settings["bits"]
    if table is not None:
        return looked_up(writer, node, q, table, is_code=False, reads_sign=node.settings["sign"])
    number = writer.node("Cast", [q], to=_FLOAT)
    if node.settings["sign"]:
        return writer.node("Sub", [number, writer.constant("one", np.float32(1))], node.name)
    return writer.node("Div", [number, writer.constant("levels", np.float32(2**bits - 1))], node.name)


def looked_up(writer: Writer, node: Node, q: str, table: Tensor, *, is_code: bool, reads_sign: bool = False) -> str:
    """Write what a table, [levels] or [C, levels], holds for numbers q.

    Args:
        is_code: the table is of stored codes, and else of floats.
        reads_sign: q are codes of ±1, stored as 0 and 2.
    """
    entries = table.numpy()
    if reads_sign:
        entries = entries[..., [0, 1, 1]]  # nothing stands for 1
    if is_code:
        entries = (entries * (2 if node.settings["sign"] else 1)).astype(np.uint8)
    index = writer.node("Cast", [q], to=_INT32)
    if entries.ndim == 2:
        starts = (np.arange(len(entries)) * entries.shape[1]).astype(np.int32)
        index = writer.node("Add", [index, writer.constant("starts", along(starts, node))])
    return writer.node("Gather", [writer.constant("table", entries.reshape(-1)), index], node.name, axis=0)
