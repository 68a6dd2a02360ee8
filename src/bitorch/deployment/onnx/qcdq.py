"""Dialect `qcdq`: QuantizeLinear, Clip and DequantizeLinear around float layers, as toolchains for int8 read it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...quantizations.arithmetic import is_sign
from ..capture.problems import Problem
from ..graph.graph import Graph, Node
from .dialect import Dialect, cannot_say
from .float_dialect import PASSES, WeightCodes, Words, moved, weight_codes_of, why_not
from .float_dialect import write as write_floats
from .float_kinds.call import Call
from .levels import Levels
from .writer import Writer

#: Opset of DequantizeLinear of int16.
_INT16 = 21


class _Linears(Words):
    """Quantizers of activations are written once for all that read one value in the same way."""

    def __init__(self) -> None:
        self._codes: dict[tuple[object, ...], str] = {}
        self._values: dict[tuple[object, ...], str] = {}

    def activations(self, call: Call, x: str, levels: Levels, border: Callable[[str], str] | None) -> str:
        key = x, levels.key()
        if key not in self._codes:
            self._codes[key] = _codes(call, x, levels)
        if border is not None:
            return _floats(call, border(self._codes[key]), levels)
        if key not in self._values:
            self._values[key] = _floats(call, self._codes[key], levels)
        return self._values[key]

    def fill(self, call: Call, levels: Levels) -> str:
        lowest = 0 if levels.is_sign else levels.bounds[0]
        return call.constant("border", _integer(levels, call.setting("pad_code") + lowest))

    def weight(self, call: Call, weight: WeightCodes) -> str:
        dtype = np.int8 if _fits_int8(weight.codes) else np.int16
        codes = call.constant("weight", weight.codes.astype(dtype))
        if weight.scale.ndim == 0:
            return call.op("DequantizeLinear", codes, call.constant("weight scale", weight.scale))
        scale = call.constant("weight scale", weight.scale.reshape(-1))
        return call.op("DequantizeLinear", codes, scale, axis=weight.axis)


def _integer(levels: Levels, number: int) -> NDArray[np.generic]:
    """A code as the file has it."""
    return np.asarray(number, np.int8 if levels.is_signed else np.uint8)


def _codes(call: Call, x: str, levels: Levels) -> str:
    """Codes of a float value."""
    x = moved(call, x, levels)
    scale = levels.scale
    if levels.is_sign:
        compare = "GreaterOrEqual" if levels.form == "sign" else "Greater"
        is_up = call.op(compare, x, call.number("zero", 0))
        x = call.op("Where", is_up, call.number("up", float(levels.worth)), call.number("down", -float(levels.worth)))
        scale = levels.worth
    numbers = call.number("scale", float(scale)), call.constant("zero point", _integer(levels, levels.zero))
    codes = call.op("QuantizeLinear", x, *numbers)
    if levels.bits == 8 and not levels.is_sign:
        return codes
    return call.op("Clip", codes, *(call.constant("bound", _integer(levels, bound)) for bound in levels.bounds))


def _floats(call: Call, codes: str, levels: Levels) -> str:
    numbers = (
        call.number("worth", float(levels.worth)),
        call.constant("zero point", _integer(levels, levels.worth_zero)),
    )
    return call.op("DequantizeLinear", codes, *numbers)


def _fits_int8(codes: NDArray[np.int64]) -> bool:
    return bool(codes.min() >= -128 and codes.max() <= 127)


def refusals(graph: Graph, opset: int) -> list[Problem]:
    """Return what has no words here."""
    problems = []
    for node in graph:
        why = _why_not(node, opset)
        if why is not None:
            problems.append(cannot_say("qcdq", node, why))
    return problems


def _why_not(node: Node, opset: int) -> str | None:
    if node.kind == "low_bit" and opset < _INT16:
        codes = weight_codes_of(node)
        if not _fits_int8(codes):
            return (
                f"its weight has the codes {codes.min()} to {codes.max()}, which int8 does not hold, and int16 needs "
                f"opset {_INT16}; use 7 bits, or a grid with a zero, as of WeightLSQ(8)"
            )
    is_unsigned = node.kind == "low_bit" and not is_sign(node.settings["form"])
    if is_unsigned and not 0 <= node.settings.get("pad_code", 0) < 2 ** node.settings["bits"]:
        return "its border is beyond the codes of its input; use a pad_value from 0 to 1, or dialect qonnx"
    return why_not(node)


def write(graph: Graph, writer: Writer, inputs: dict[str, str]) -> dict[str, str]:
    """Write all nodes, see `Dialect.write`."""
    return write_floats(graph, writer, inputs, _Linears())


QCDQ = Dialect(
    name="qcdq",
    doc="QuantizeLinear, Clip and DequantizeLinear around float layers, which toolchains for int8 read.",
    passes=PASSES,
    opset=21,
    least_opset=15,
    refusals=refusals,
    write=write,
)
