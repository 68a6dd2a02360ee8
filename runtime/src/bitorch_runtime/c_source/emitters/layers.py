"""Layers on codes: by planes of bits where few bits meet, by multiplications where many do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime.operations import given_names
from bitorch_runtime.reference import code_line, unpack_weights

from ..body import Body
from ..tensors import CTensor, field_of, words_of
from .stages import Leaving, as_words
from .windows import Window, sliding, transposed, write_window

#: About how many instructions a word of bits takes, of a machine that cannot count them at once, and a multiplication.
_WORD_COST, _PRODUCT_COST = 16, 5


@dataclass(frozen=True)
class _Layer:
    """What a layer on codes is made of.

    Attributes:
        x: the codes.
        channels: that come out.
        groups: of channels.
        taps: of its window.
        scale, zero: a code q stands for scale·q − zero.
    """

    operation: dict[str, Any]
    x: CTensor
    channels: int
    groups: int
    taps: int
    scale: int
    zero: int

    @property
    def count(self) -> int:
        """Weights of a channel."""
        return self.taps * self.x.channels // self.groups

    @property
    def weight_bits(self) -> int:
        """Bits of a weight."""
        bits: int = self.operation["weight_bits"]
        return bits

    @property
    def line(self) -> tuple[int, int]:
        """(step, lowest) of the grid of weights."""
        return code_line(self.weight_bits, self.operation.get("weight_grid", "odd"))

    def stored(self, packed: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The stored m of all weights, [N, count]."""
        grid = self.operation.get("weight_grid", "odd")
        codes = unpack_weights(packed, self.weight_bits, (self.count,), grid)
        step, lowest = self.line
        m: NDArray[np.int64] = (codes - lowest) // step
        return m

    @property
    def by_planes(self) -> bool:
        """Whether counting bits is cheaper than multiplying."""
        return self.x.bits * self.weight_bits * words_of(self.count, 1) * _WORD_COST <= self.count * _PRODUCT_COST


def low_bit_layer(body: Body) -> None:
    """Write conv2d, linear or conv_transpose."""
    operation, x = dict(body.operation), body.tensor("input")
    y = body.tensor(next(iter(given_names(operation))))
    window = (transposed if operation["op"] == "conv_transpose" else sliding)(operation, x, y)
    sign = operation.get("sign_activations", False)
    layer = _Layer(
        operation=operation,
        x=x,
        channels=operation["out_channels"],
        groups=operation.get("groups", 1),
        taps=int(np.prod(window.kernel)),
        scale=2 if sign else 1,
        zero=1 if sign else operation.get("zero_point", 0),
    )
    source = body.read(x, "x")
    address = write_window(body, window)
    leaving = Leaving(body, layer.channels, floats=False)
    write_sums = (_Planes if layer.by_planes else _Values)(body, layer, window)
    with body.loop("p", y.places):
        if layer.groups == 1:
            write_sums.write(source, address, "0", leaving.sums)
        else:
            with body.loop("g", layer.groups):
                write_sums.write(source, address, "g", leaving.sums)
        leaving.finish()


class _Planes:
    """D by counting the bits that planes of weights and of codes have in common."""

    def __init__(self, body: Body, layer: _Layer, window: Window) -> None:
        """Write the layer's constants."""
        self._body, self._layer, self._leaves_image = body, layer, window.leaves_image
        x, words = layer.x, words_of(layer.count, 1)
        self._codes = body.working("uint32_t", words_of(layer.count, x.field), "codes")
        self._planes = body.working("uint32_t", x.bits * words, "planes")
        self._signs_outside = layer.scale == 2 and self._leaves_image
        self._outside = body.working("uint32_t", words, "outside") if self._signs_outside else ""
        stored = layer.stored(body.named("weight"))
        step, lowest = layer.line
        planes = as_words(stored[:, np.newaxis] >> np.arange(layer.weight_bits)[:, np.newaxis] & 1 == 1)
        totals = "0"
        if layer.zero != 0:
            totals = body.array((step * stored + lowest).sum(1), "int32_t", "totals")
        weight = body.array(planes, "uint32_t", "weight")
        body.use("plane_layer")
        body.line("static const net_plane_layer layer = {")
        body.line(f"    {weight}, {totals},")
        body.line(f"    {layer.channels // layer.groups}, {words}, {layer.weight_bits}, {x.bits},")
        body.line(f"    {step}, (uint32_t){lowest}, {layer.scale}, {layer.zero},")
        body.line("};")

    def write(self, x: str, window: str, group: str, sums: str) -> None:
        """Write how the sums of a group are made, at place p."""
        body, layer, tensor = self._body, self._layer, self._layer.x
        channels, field = tensor.channels // layer.groups, tensor.field
        if self._leaves_image:
            fill = 0 if layer.scale == 2 else layer.zero * (0xFFFFFFFF // ((1 << field) - 1))
            body.call("fill_words", self._codes, words_of(layer.count, field), f"UINT32_C(0x{fill:x})")
        first = "0" if group == "0" else f"{group} * {channels * field}"
        body.call("gather_codes", window, "p", x, tensor.channels * field, first, channels * field, self._codes)
        body.call("split_planes", self._codes, layer.count, field, tensor.bits, self._planes)
        body.call("sum_planes", "&layer", group, self._planes, sums)
        if self._signs_outside:
            body.use("gather_outside")
            with body.block(f"if (net_gather_outside({window}, p, {channels}, {self._outside}))"):
                body.call("add_outside", "&layer", group, self._outside, sums)


class _Values:
    """D by multiplying weights with what codes stand for."""

    def __init__(self, body: Body, layer: _Layer, window: Window) -> None:
        """Write the layer's constants."""
        self._body, self._layer = body, layer
        self._values = body.working("int16_t", layer.count, "values")
        self._field = field_of(layer.weight_bits)
        bits = layer.stored(body.named("weight"))[..., np.newaxis] >> np.arange(self._field) & 1 == 1
        self._weight = body.array(as_words(bits.reshape(layer.channels, -1)), "uint32_t", "weight")

    def write(self, x: str, window: str, group: str, sums: str) -> None:
        """Write how the sums of a group are made, at place p."""
        body, layer, tensor = self._body, self._layer, self._layer.x
        inputs, outputs = tensor.channels // layer.groups, layer.channels // layer.groups
        first = "0" if group == "0" else f"{group} * {inputs}"
        code = (x, tensor.field, tensor.channels, first, inputs, layer.scale, layer.zero)
        body.call("gather_values", window, "p", *code, self._values)
        row = words_of(layer.count, self._field)
        weight, into = self._weight, sums
        if group != "0":
            weight, into = f"{weight} + {group} * {outputs * row}", f"{sums} + {group} * {outputs}"
        step, lowest = layer.line
        grid = (self._field, step, f"(uint32_t){lowest}")
        body.call("sum_values", weight, *grid, self._values, layer.count, outputs, into)
