"""Dialect `qonnx`: Quant and BipolarQuant around float layers, for FINN and hls4ml.

Trunc, which drops low bits of integers, does not occur: no layer of a captured graph does so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from ..capture.problems import Problem
from ..graph.graph import Graph
from .dialect import Dialect, cannot_say
from .float_dialect import PASSES, WeightCodes, Words, moved, why_not
from .float_dialect import write as write_floats
from .float_kinds.call import Call
from .levels import Levels
from .require_onnx import onnx
from .writer import Writer

_DOMAIN = "qonnx.custom_op.general"


class _Quants(Words):
    """Quantizers of activations are written once for all that read one value in the same way."""

    def __init__(self) -> None:
        self._values: dict[tuple[object, ...], str] = {}

    def activations(self, call: Call, x: str, levels: Levels, border: Callable[[str], str] | None) -> str:
        key = x, levels.key()
        if key not in self._values:
            self._values[key] = _quantized(call, x, levels)
        return self._values[key] if border is None else border(self._values[key])

    def fill(self, call: Call, levels: Levels) -> str:
        return call.number("border", levels.value(call.setting("pad_code")))

    def weight(self, call: Call, weight: WeightCodes) -> str:
        values = call.constant("weight", weight.values)
        scale = call.constant("weight scale", weight.scale)
        if weight.grid == "odd" and weight.bits == 1:
            return call.op("BipolarQuant", values, scale, domain=_DOMAIN)
        # Odd integers up to 2^bits − 1 are signed ones of one bit more, without the least.
        is_odd = weight.grid == "odd"
        return _quant(call, values, scale, 0, weight.bits + is_odd, signed=True, narrow=is_odd)


def _quant(call: Call, x: str, scale: str, zero: int, bits: int, *, signed: bool, narrow: bool) -> str:
    numbers = call.number("zero point", zero), call.number("bits", bits)
    flags = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": "ROUND"}
    return call.op("Quant", x, scale, *numbers, domain=_DOMAIN, **flags)


def _quantized(call: Call, x: str, levels: Levels) -> str:
    x = moved(call, x, levels)
    if levels.is_sign:
        worth = call.number("scale", float(levels.worth))
        if levels.form == "sign":
            return call.op("BipolarQuant", x, worth, domain=_DOMAIN)
        # Above 0, and not at it: the other sign of the other number's sign.
        return call.op("Neg", call.op("BipolarQuant", call.op("Neg", x), worth, domain=_DOMAIN))
    scale = call.number("scale", float(levels.scale))
    value = _quant(call, x, scale, levels.zero, levels.bits, signed=levels.is_signed, narrow=False)
    if levels.is_plain:
        return value
    value = call.op("Mul", value, call.number("worth", float(levels.worth / levels.scale)))
    shift = (levels.zero - levels.worth_zero) * float(levels.worth)
    return call.op("Add", value, call.number("shift", shift)) if shift != 0 else value


def refusals(graph: Graph, opset: int) -> list[Problem]:
    """Return what has no words here."""
    reasons = ((node, why_not(node)) for node in graph)
    return [cannot_say("qonnx", node, why) for node, why in reasons if why is not None]


def write(graph: Graph, writer: Writer, inputs: dict[str, str]) -> dict[str, str]:
    """Write all nodes, see `Dialect.write`."""
    writer.domains[_DOMAIN] = 1
    return write_floats(graph, writer, inputs, _Quants())


def finish(model: Any) -> None:
    """Give each node a name and each value a shape: what qonnx's own cleaning would add."""
    counts: Counter[str] = Counter()
    for node in model.graph.node:
        node.name = f"{node.op_type}_{counts[node.op_type]}"
        counts[node.op_type] += 1
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    for node in twin.graph.node:
        if node.domain == _DOMAIN:  # whose results have the shape of what they read
            identity = onnx.helper.make_node("Identity", node.input[:1], node.output)
            node.CopyFrom(identity)
    inferred = onnx.shape_inference.infer_shapes(twin, strict_mode=True, data_prop=True)
    model.graph.value_info.extend(inferred.graph.value_info)


QONNX = Dialect(
    name="qonnx",
    doc="Quant and BipolarQuant around float layers, for FINN and hls4ml; of one image.",
    passes=PASSES,
    opset=17,
    least_opset=15,
    refusals=refusals,
    write=write,
    runs_in_onnx_runtime=False,
    batch=1,
    finish=finish,
)
