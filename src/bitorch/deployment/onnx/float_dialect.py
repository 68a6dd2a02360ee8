"""What the dialects have in common whose values are floats: low-bit layers are float ones of quantized operands.

A dialect says how activations and weights are quantized, `Words`; everything else is of float kinds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ...layers.exact_transposed import swap_channels
from ..graph.graph import Graph, Node
from ..passes.pipeline import Pass
from ..passes.split_quantized import drop_identities
from .float_kinds import what_is_missing, write_float
from .float_kinds.call import Call, along_channels, floats
from .float_kinds.layers import convolution
from .float_kinds.matrices import product_of
from .float_kinds.moves import bordered
from .float_kinds.pairs import rows_of_table
from .levels import Levels, levels_of
from .require_onnx import onnx
from .writer import Writer

#: Dialects of floats start from the graph as it was captured.
PASSES: tuple[Pass, ...] = (Pass(drop_identities),)
_FLOAT = onnx.TensorProto.FLOAT


@dataclass(frozen=True, eq=False)
class WeightCodes:
    """Codes of a weight, as ONNX lays it out, and what they are worth.

    Attributes:
        codes: integers.
        scale: float32, without axes, or with as many as `codes` and one that is not 1: `axis`.
        axis: of the scale's numbers.
        bits, grid: of the codes.
    """

    codes: NDArray[np.int64]
    scale: NDArray[np.float32]
    axis: int
    bits: int
    grid: str

    @property
    def values(self) -> NDArray[np.float32]:
        """The weight."""
        return self.codes.astype(np.float32) * self.scale


class Words(ABC):
    """How a dialect says that something is quantized."""

    @abstractmethod
    def activations(self, call: Call, x: str, levels: Levels, border: Callable[[str], str] | None) -> str:
        """Write a quantizer of activations; return its values, float32.

        Args:
            border: None, or what puts a border around a value, one of the dtype of `fill`.
        """

    @abstractmethod
    def fill(self, call: Call, levels: Levels) -> str:
        """Return what a layer's border is filled with, its `pad_code`."""

    @abstractmethod
    def weight(self, call: Call, weight: WeightCodes) -> str:
        """Write a quantized weight; return its values, float32."""


def moved(call: Call, x: str, levels: Levels) -> str:
    """x/divide + plus, where a quantizer says them apart from its scale."""
    for op_type, numbers in (("Div", levels.divide), ("Add", levels.plus)):
        if numbers is not None:
            shape = () if numbers.size == 1 else (-1, *[1] * (len(call.shapes[0]) - 1))
            x = call.op(op_type, x, call.constant(op_type.lower(), numbers.reshape(shape)))
    return x


def why_not(node: Node) -> str | None:
    """Say why a node has no words in any dialect of floats; None if it has."""
    return None if node.kind == "input" or node.kind in _OWN else what_is_missing(node)


def weight_codes_of(node: Node) -> NDArray[np.int64]:
    """The codes of a low-bit layer's weight, [C_out, …]."""
    codes: NDArray[np.int64] = node.settings["weight"].detach().numpy().astype(np.int64)
    return codes


def write(graph: Graph, writer: Writer, inputs: Mapping[str, str], words: Words) -> dict[str, str]:
    """Write all nodes, see `Dialect.write`."""
    values = dict(inputs)
    for node in graph:
        if node.kind == "input":
            continue
        read = tuple(values[name] for name in node.inputs)
        shapes = tuple(graph[name].shape for name in node.inputs)
        kind = "table" if node.kind == "embedding" and "codes" in node.settings else node.kind
        if kind in _OWN:
            with writer.inside(node.name):
                values[node.name] = _OWN[kind](Call(writer, node, read, shapes, exact=False), words)
        else:
            values[node.name] = write_float(writer, node, read, shapes, exact=False)
    return values


def _quantizer(call: Call, words: Words) -> str:
    return words.activations(call, call.x, levels_of(call.node.settings), None)


def _pixels(call: Call, words: Words) -> str:
    """The floats q/255 of uint8 pixels q."""
    return call.last("Div", call.op("Cast", call.x, to=_FLOAT), call.number("largest", 255))


def _layer(call: Call, words: Words) -> str:
    levels = levels_of(call.node.settings)
    if "kernel_size" not in call.node.settings:
        return _linear(call, words, words.activations(call, call.x, levels, None), levels)
    border = None
    if _has_border(call.node):
        fill = words.fill(call, levels) if call.setting("padding_mode") == "zeros" else ""
        border = partial(_around, call, fill)
    x = words.activations(call, call.x, levels, border)
    return _convolution(call, words, x, levels, pads=border is None)


def _has_border(node: Node) -> bool:
    """Whether a layer's border is another one than zeros."""
    settings = node.settings
    if "output_padding" in settings or not any(settings["padding"]):
        return False
    return bool(settings["padding_mode"] != "zeros" or settings["pad_code"] != 0)


def _around(call: Call, fill: str, value: str) -> str:
    return bordered(call, value, call.shapes[0], call.setting("padding"), (0, 0), fill)


def _weight_scale(call: Call, levels: Levels) -> NDArray[np.float32]:
    """What one code of the weight is worth, [1], [C_out] or [C_out, G]: the layer's scale is that of both."""
    both = call.setting("scale").detach().numpy().astype(np.float64)
    scale: NDArray[np.float32] = (both / np.float64(levels.worth)).astype(np.float32)
    return scale


def _codes(call: Call, codes: NDArray[np.int64], scale: NDArray[np.float32], axis: int) -> WeightCodes:
    """Codes with their scale beside them, along this axis."""
    shaped = (
        scale.reshape(()) if scale.size == 1 else scale.reshape([-1 if i == axis else 1 for i in range(codes.ndim)])
    )
    return WeightCodes(codes, shaped, axis, call.setting("weight_bits"), call.setting("weight_grid"))


def _convolution(call: Call, words: Words, x: str, levels: Levels, *, pads: bool) -> str:
    scale, bias, weight = _weight_scale(call, levels), call.setting("bias"), call.setting("weight")
    is_transposed, groups = "output_padding" in call.node.settings, call.setting("groups")
    if is_transposed:
        weight = swap_channels(weight, groups)
    fixed = "" if bias is None else call.constant("bias", floats(bias))
    if not is_transposed or groups == 1 or scale.size == 1:
        codes = _codes(call, weight.detach().numpy().astype(np.int64), scale, 1 if is_transposed else 0)
        return convolution(call, x, words.weight(call, codes), fixed, pads=pads)
    # A transposed weight has the channels of all groups in one place, so their scales come behind.
    codes = _codes(call, weight.detach().numpy().astype(np.int64), np.ones(1, np.float32), 1)
    sums = convolution(call, x, words.weight(call, codes), is_last=False)
    value = (call.last if bias is None else call.op)("Mul", sums, _along(call, scale))
    return value if bias is None else call.last("Add", value, call.constant("bias", along_channels(bias, call.rank)))


def _along(call: Call, numbers: NDArray[np.float32]) -> str:
    return call.constant("scale", numbers.reshape(-1, *[1] * (call.rank - 2)))


def _linear(call: Call, words: Words, x: str, levels: Levels) -> str:
    """[batch, F]·[F, F_out], or [F_out, F]·[batch, F, rows]: in neither an axis has to go elsewhere."""
    codes, scale, bias = weight_codes_of(call.node), _weight_scale(call, levels), call.setting("bias")
    rows, features = call.shapes[0][1:], call.shapes[0][0]
    is_flat = len(rows) > 1
    if not rows:
        operands = x, _matrix(call, words, codes, scale, is_turned=True)
    else:
        x = call.reshaped(x, (features, -1)) if is_flat else x
        operands = _matrix(call, words, codes, scale, is_turned=False), x
    value = (call.op if is_flat or bias is not None else call.last)("MatMul", *operands)
    if bias is not None:
        numbers = floats(bias).reshape(-1, 1) if rows else floats(bias)
        value = (call.op if is_flat else call.last)("Add", value, call.constant("bias", numbers))
    return call.reshaped(value, call.node.shape, is_last=True) if is_flat else value


def _matrix(call: Call, words: Words, codes: NDArray[np.int64], scale: NDArray[np.float32], *, is_turned: bool) -> str:
    """The values of a weight [F_out, F_in], or turned [F_in, F_out]."""
    if scale.ndim < 2:
        return words.weight(call, _codes(call, codes.T, scale, 1) if is_turned else _codes(call, codes, scale, 0))
    of_groups = _codes(call, codes.reshape(scale.size, -1), scale.reshape(-1), 0)  # as if each were a channel
    values = call.op("Reshape", words.weight(call, of_groups), call.integers("shape", codes.shape))
    return call.transposed(values, [1, 0]) if is_turned else values


def _product(call: Call, words: Words) -> str:
    """The product of two quantized activations."""
    sides = [levels_of(call.node.settings, side) for side in ("left_", "right_")]
    left, right = (words.activations(call, x, side, None) for x, side in zip(call.inputs, sides, strict=True))
    factor = call.setting("scale") / (float(sides[0].worth) * float(sides[1].worth))
    return product_of(call, left, right, 1.0 if abs(factor - 1) < 2.0**-20 else factor)


def _table(call: Call, words: Words) -> str:
    """Rows of a low-bit table: its codes, where one scale or one for each row says the table within its last bits."""
    codes = call.setting("codes").detach().numpy().astype(np.int64)
    table, scale = floats(call.setting("table")), floats(call.setting("scale"))
    if scale.size == 1:
        largest = np.abs(codes).argmax()
        scale = (table.ravel()[largest] / np.float32(codes.ravel()[largest])).reshape(1)
    weight = _codes(call, codes, scale, 0)
    if not np.allclose(weight.values, table, rtol=2.0**-20, atol=0):
        return rows_of_table(call, call.constant("table", table))
    return rows_of_table(call, words.weight(call, weight))


_OWN: Mapping[str, Callable[[Call, Words], str]] = MappingProxyType(
    {
        "quantizer": _quantizer,
        "low_bit": _layer,
        "low_bit_matmul": _product,
        "values": _pixels,
        "table": _table,
    }
)
