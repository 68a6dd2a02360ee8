"""The results as tables: one per layer for the terminal, and a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from layers_cases import Bits, Layer
from layers_names import BFLOAT, BINARY, BINARY_ALONE, FEW_BITS, FLOAT, INT8, OURS_FLOAT
from layers_results import Results, Row

OVERVIEW = ("W1A1", "W1A1±", "W1A2", "W1A4", "W2A2", "W3A3", "W4A4", "W8A8")


def headers(ceilings: Mapping[str, float]) -> list[str]:
    bound = ["% of bound"] if ceilings else []
    return ["", "µs", "least", "whole call", "10¹² MAC/s", "× float32", "× bfloat16", "× int8", *bound, "kernel"]


def cells(row: Row, rows: Mapping[str, Row], ceilings: Mapping[str, float]) -> list[str]:
    """A row of a layer's table; `rows` are all of that layer, by contestant."""
    bound = [_percent_of_bound(row, ceilings)] if ceilings else []
    return [
        row.contestant,
        _microseconds(row.seconds),
        _microseconds(row.least),
        _microseconds(row.call),
        "–" if row.rate is None else f"{row.rate / 1e12:.3f}",
        *(_times(ratio(row, other)) for other in (rows.get(FLOAT), rows.get(BFLOAT), faster_int8(rows))),
        *bound,
        row.kernel,
    ]


def faster_int8(rows: Mapping[str, Row]) -> Row | None:
    """The faster of the int8 engines at a layer."""
    candidates = [rows[name] for name in INT8 if name in rows]
    return min(candidates, key=lambda row: row.seconds or 0.0, default=None)


def ratio(row: Row, other: Row | None) -> float | None:
    """How many times faster than the other."""
    if other is None or row.seconds is None or other.seconds is None:
        return None
    return other.seconds / row.seconds


def layer_table(results: Results, layer: str, ceilings: Mapping[str, float]) -> Table:
    rows = results.of(layer)
    table = Table(title=f"{layer}: {_describe(Layer.parse(layer))}")
    for header in headers(ceilings):
        table.add_column(header, justify="left" if header in ("", "kernel") else "right")
    previous: Row | None = None
    for row in rows.values():
        if previous is not None and is_ours(row) != is_ours(previous):
            table.add_section()
        table.add_row(*cells(row, rows, ceilings))
        previous = row
    return table


def markdown(results: Results, picture: str, ceilings: Mapping[str, float]) -> str:
    """The page docs/kernels.md points to."""
    threads = "one thread" if results.threads == 1 else f"{results.threads} threads"
    parts = [
        f"# Layers, measured ({threads})",
        "Written by the command below; what the columns mean is in [kernels.md](../kernels.md).",
    ]
    machine = (
        f"- {key}: `{text}`" if key == "command" else f"- {key}: {text}" for key, text in results.machine.items()
    )
    parts.append("\n".join(machine))
    parts.append(f"![How many times faster than the faster int8 engine, by bits of weights and activations]({picture})")
    parts += ["## Overview, µs", _overview(results)]
    for layer in results.layers():
        rows = results.of(layer)
        lines = [cells(row, rows, ceilings) for row in rows.values()]
        parts += [
            f"## {layer}",
            f"{_describe(Layer.parse(layer)).capitalize()}.",
            _markdown_table(headers(ceilings), lines),
        ]
    return "\n\n".join(parts) + "\n"


def is_low_bit(row: Row) -> bool:
    """Whether the row is bitorch-runtime's at low bits: those are named by their bits alone."""
    return row.contestant.startswith("W")


def is_ours(row: Row) -> bool:
    return row.contestant == OURS_FLOAT or is_low_bit(row)


def _overview(results: Results) -> str:
    names = [FLOAT, BFLOAT, *INT8, *FEW_BITS.values(), BINARY, BINARY_ALONE, OURS_FLOAT, *OVERVIEW]
    names = [name for name in names if any(row.contestant == name for row in results.rows)]
    lines = []
    for layer in results.layers():
        rows = results.of(layer)
        lines.append([layer, *(_microseconds(rows[name].seconds) if name in rows else "–" for name in names)])
    return _markdown_table(["layer", *names], lines)


def _markdown_table(header: list[str], lines: list[list[str]]) -> str:
    left = ("", "layer", "kernel")
    rule = ["---" if name in left else "---:" for name in header]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *lines])


def _describe(layer: Layer) -> str:
    work = f"{layer.macs / 1e6:.1f} million multiply-adds"
    if layer.linear:
        return f"linear, {layer.in_channels} to {layer.out_channels} features, {layer.batch} at a time, {work}"
    kind = "depthwise convolution" if layer.groups > 1 else "convolution"
    before, after = (
        f"{layer.size}×{layer.size}×{layer.in_channels}",
        f"{layer.out_size}×{layer.out_size}×{layer.out_channels}",
    )
    return f"{layer.kernel}×{layer.kernel} {kind}, {before} to {after}, {work}"


def _percent_of_bound(row: Row, ceilings: Mapping[str, float]) -> str:
    method = row.kernel.split()[0]
    if not is_ours(row) or row.rate is None or method not in ceilings:
        return ""
    bits = Bits.parse(row.contestant)
    products = {"popcount": bits.weight * bits.activation, "tables": bits.weight}.get(method, 1)
    return f"{100 * row.rate * products / ceilings[method]:.0f}"


def _microseconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{1e6 * seconds:.1f}" if seconds < 1e-3 else f"{1e6 * seconds:.0f}"


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
