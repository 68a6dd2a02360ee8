"""Linear layers whose weights have a scale for each group of inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitorch_runtime.reference import code_line, unpack_weights

from ..body import Body
from ..tensors import CTensor, field_of, words_of
from .stages import as_words
from .windows import sliding, write_window


@dataclass(frozen=True)
class _Weights:
    """What both have: stored weights in fields of words, and scales.

    Attributes:
        name: of the words.
        field: bits of a field.
        row_words: of a channel.
        step, lowest: the stored m is the weight step·m + lowest.
        scales: their name, and how many groups of how many inputs there are.
        bias: its name, "" where there is none.
    """

    name: str
    field: int
    row_words: int
    step: int
    lowest: int
    scales: tuple[str, int, int]
    bias: str


def _weights(body: Body, x: CTensor) -> _Weights:
    """Write the constants."""
    bits, grid = body.operation["weight_bits"], body.operation.get("weight_grid", "odd")
    step, lowest = code_line(bits, grid)
    stored = (unpack_weights(body.named("weight"), bits, (x.channels,), grid) - lowest) // step
    field, groups = field_of(bits), body.named("scale").shape[1]
    planes = (stored[..., np.newaxis] >> np.arange(field) & 1 == 1).reshape(len(stored), -1)
    name = body.array(as_words(planes), "uint32_t", "weight")
    scales = body.floats("scale"), groups, x.channels // groups
    bias = body.floats("bias") if "bias" in body.operation else ""
    return _Weights(name, field, words_of(x.channels, field), step, lowest, scales, bias)


def linear_weight_only(body: Body) -> None:
    """Write linear_weight_only: codes stay packed, and are looked up as they are multiplied."""
    x, y = body.tensor("input"), body.tensor("output")
    source, out = body.read(x, "x"), body.give(y, "y")
    of = _weights(body, x)
    values = of.step * np.arange(2 ** body.operation["weight_bits"]) + of.lowest
    levels = body.array(values, "float", "levels")
    with body.loop("p", y.places):
        place = f"{out} + p * {y.channels}"
        numbers = f"{source} + p * {x.channels}"
        body.call("sum_groups", of.name, of.row_words, of.field, levels, *of.scales, numbers, y.channels, place)
        if of.bias:
            body.call("add_row", place, of.bias, y.channels)


def linear_groups(body: Body) -> None:
    """Write linear_groups: what the codes of a place stand for, times codes that stay packed."""
    operation, x, y = dict(body.operation), body.tensor("input"), body.tensor("output")
    sign = operation.get("sign_activations", False)
    meaning = (2, 1) if sign else (1, operation.get("zero_point", 0))
    source, out = body.read(x, "x"), body.give(y, "y")
    address = write_window(body, sliding(operation, x, y))
    values = body.working("int16_t", x.channels, "values")
    of = _weights(body, x)
    shape = of.name, of.row_words, of.field, of.step, f"(uint32_t){of.lowest}", *of.scales
    with body.loop("p", y.places):
        place = f"{out} + p * {y.channels}"
        codes = (source, x.field, x.channels, 0, x.channels, *meaning)
        body.call("gather_values", address, "p", *codes, values)
        body.call("sum_code_groups", *shape, values, y.channels, place)
        if of.bias:
            body.call("add_row", place, of.bias, y.channels)
