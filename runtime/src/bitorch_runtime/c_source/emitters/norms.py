"""Normalisations."""

from __future__ import annotations

import math

from ..body import Body
from .stages import write_codes


def normalize(body: Body) -> None:
    """Write normalize: set by set, then what follows at each place."""
    operation, x = body.operation, body.tensor("input")
    rows = min(operation.get("rows", 0), len(x.rows))
    places = math.prod(x.rows[len(x.rows) - rows :]) if rows > 0 else 1
    channels, groups = x.channels, operation.get("groups", 1)
    if "float32" in operation:
        body.overwrite(body.tensor("float32"), x)
    source = body.read(x, "x")
    if "float32" in operation:
        y = f"{body.give(body.tensor('float32'), 'y')} + s * {places * channels}"
    else:
        y = body.working("float", places * channels, "set")
    codes = body.give(body.tensor("codes"), "z") if "codes" in operation else ""
    sums = body.working("double", channels // groups, "sums") if rows > 0 else ""
    with body.loop("s", x.places // places):
        with body.loop("g", groups):
            _write_set(body, f"{source} + s * {places * channels}", y, places if rows > 0 else 0, sums)
        if codes or "weight" in operation or "bias" in operation:
            with body.loop("q", places):
                _write_place(body, f"{y} + q * {channels}", codes, f"(s * {places} + q) * {channels}")


def _write_set(body: Body, x: str, y: str, places: int, sums: str) -> None:
    """Write the normalisation of the channels of group g: of one place where places is 0."""
    operation, channels = body.operation, body.tensor("input").channels
    count = channels // operation.get("groups", 1)
    ways = (int(operation["by"] == "deviation"), int(operation["by"] == "norm"), float(operation["eps"]))
    group = f"g * {count}"
    if places == 0:
        body.call("normalize_place", f"{x} + {group}", count, *ways, f"{y} + {group}")
    else:
        sizes = (places, channels, count)
        body.call("normalize_places", f"{x} + {group}", *sizes, *ways, sums, f"{y} + {group}")


def _write_place(body: Body, row: str, codes: str, first: str) -> None:
    """Write what follows at place q of a set: weight and bias, of all places or of each, and codes."""
    channels = body.tensor("input").channels
    for key, function in (("weight", "multiply_row"), ("bias", "add_row")):
        if key in body.operation:
            own = f" + q * {channels}" if body.named(key).ndim > 1 else ""
            body.call(function, row, f"{body.floats(key)}{own}", channels)
    if codes:
        write_codes(body, body.tensor("codes"), row, codes, first, channels)
