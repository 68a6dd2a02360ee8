"""A report as one HTML file, with everything in it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..quantizations.bits import FLOAT_BITS
from .histogram_plots import activation_plot, weight_plot
from .numbers import bytes_of, count, milliseconds, percent, shape_text
from .page_rows import PageRow, has_plots, page_rows, worst
from .page_table import table
from .report_data import ReportData
from .rows import Row
from .tables import title

_FOLDER = Path(__file__).parent
_DEPLOYS = {
    "whole": ("yes", "as one packed file"),
    "partial": ("in parts", "packed layers in PyTorch"),
    "none": ("no", "the notes say why"),
    "unknown": ("not tried", "bitorch_runtime is missing"),
}
#: What stands under "How to read this", before the report's own notes.
_HOW = {
    "rows": "A layer with the BatchNorm behind it; then operations that belong to no layer, and the file's header. A "
    "click on a heading sorts, a click on a layer's name shows its plots.",
    "bits": "W1A2G6: 1 bit for each weight, 2 for each input, 6 for each gradient in training. A float layer has none.",
    "bytes": "Of the float layer → of the packed one. The packed ones add up to the size of the file.",
    "MACs, bit-ops": "Multiply-adds of one image, and those × bits of weights × bits of inputs: 1024 for two floats.",
    "W levels, A levels": "3/4: of four values of the weights, or inputs, one never occurs. Bits are wasted.",
    "clipped": "How much of the input is below | above what the quantizer can show. Below a range that begins at 0 it "
    "is what a ReLU would take away, and no loss.",
    "marked": "Quantizers of up to 16 levels of which a quarter or more never occurs; inputs of which half or more is "
    "clipped, not counting what a ReLU would clip.",
}


def page(report: ReportData) -> str:
    """Return the page: tiles, what it is about, table, how to read it, bars of bytes and time, histograms, notes."""
    name = escape(report.model)
    style, script = (_read(f"page.{kind}") for kind in ("css", "js"))
    rows = page_rows(report.rows)
    sections = [
        f"<header><h1>{name}</h1><p class='quiet'>{escape(title(report))}</p></header>",
        _tiles(report),
        _about(report),
        table(rows, report.totals),
        _how(report),
        _bars([each.row for each in rows]),
        _plots(rows),
        _notes(report),
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{name}: what each layer costs</title>",
            '<link rel="icon" href="data:,">',
            f"<style>\n{style}</style></head>",
            "<body><main>",
            *sections,
            "</main>",
            f"<script>\n{script}</script>",
            "</body></html>\n",
        ]
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _tiles(report: ReportData) -> str:
    totals = report.totals
    smaller = f"{totals.float_bytes / totals.packed_bytes:.1f}× smaller" if totals.packed_bytes else ""
    share = percent(totals.bit_operations / (totals.macs * 1024)) if totals.macs else ""
    deploys, how = _DEPLOYS[report.deployment]
    estimated = "estimated, " if report.deployment in ("none", "unknown") else ""
    tiles = [
        ("bytes packed", bytes_of(totals.packed_bytes), f"{estimated}{smaller} than float: {totals.float_bytes:,}"),
        ("parameters", count(totals.parameters), _low_bit(report)),
        ("MACs per image", count(totals.macs), "multiply-adds"),
        ("bit-operations", count(totals.bit_operations), f"{share} of all float's"),
        ("ms per image", *_time(report)),
        ("deploys", deploys, how),
    ]
    boxes = (
        f'<div class="tile"><span>{escape(label)}</span><b>{escape(value)}</b><span>{escape(note)}</span></div>'
        for label, value, note in tiles
    )
    return f'<section class="tiles">{"".join(boxes)}</section>'


def _low_bit(report: ReportData) -> str:
    layers = [row for row in report.rows if len(row.weight_shape) > 1]
    low = sum(row.weight_bits not in (None, FLOAT_BITS) for row in layers)
    return f"{low} of {len(layers)} layers low-bit"


def _time(report: ReportData) -> tuple[str, str]:
    if report.totals.milliseconds is None:
        return "–", "not measured"
    where = {"whole": "packed", "partial": "PyTorch, packed layers"}.get(report.deployment, "PyTorch")
    return milliseconds(report.totals.milliseconds), f"{where}, fastest run"


def _about(report: ReportData) -> str:
    """What the net is, how good, and when, where and with what it was measured."""
    if not report.about:
        return ""
    facts = (f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in report.about.items())
    return f'<section><dl class="about">{"".join(facts)}</dl></section>'


def _how(report: ReportData) -> str:
    terms = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in _HOW.items())
    notes = "".join(f"<li>{escape(text)}</li>" for text in report.notes)
    return f'<section class="how"><h2>How to read this</h2><dl>{terms}</dl><ul>{notes}</ul></section>'


def _bars(rows: Sequence[Row]) -> str:
    """Bytes and time of each row as bars of one scale each."""
    shown = [row for row in rows if row.packed_bytes or row.milliseconds]
    most_bytes = max((row.packed_bytes for row in shown), default=0)
    most_time = max((row.milliseconds for row in shown if row.milliseconds is not None), default=0.0)
    lines = ['<span class="head">layer</span><span class="head">packed bytes</span><span class="head">ms</span>']
    for row in shown:
        time = 0.0 if row.milliseconds is None else row.milliseconds
        lines.append(
            f'<span class="name">{escape(row.name)}</span>'
            + _bar("bytes", row.packed_bytes, most_bytes, bytes_of(row.packed_bytes))
            + _bar("time", time, most_time, milliseconds(row.milliseconds))
        )
    return f'<section><h2>Where the bytes and the time go</h2><div class="bars">{"".join(lines)}</div></section>'


def _bar(kind: str, value: float, most: float, text: str) -> str:
    # The longest leaves room for its number.
    width = f"calc((100% - 62px) * {value / most:.4f})" if most and value else "0"
    bar = f'<i style="width:{width}"></i>' if value else ""
    return f'<span class="bar {kind}">{bar}<em>{escape(text)}</em></span>'


def _plots(rows: Sequence[PageRow]) -> str:
    found = worst(rows)
    if found is None:
        return ""
    first, reason = found
    parts = [_row_plots(index, each, is_open=each is first) for index, each in enumerate(rows) if has_plots(each.row)]
    return (
        "<section><h2>Weights and activations</h2><p class='quiet'>Weights are coloured by the level that they become; "
        "a line stands at the mean of a level's weights, below the level's value. Of what comes to a quantizer the "
        "part from its lowest to its highest level is shaded; the rest is clipped. Open is the layer with "
        f"{escape(reason)}: {escape(first.row.name)}.</p>{''.join(parts)}</section>"
    )


def _row_plots(index: int, each: PageRow, *, is_open: bool) -> str:
    row, figures = each.row, []
    if row.weights is not None:
        text = "weights" if row.weight_levels is None else f"weights: {row.weight_levels} levels occur"
        figures.append(_figure(text, weight_plot(row.weights, f"weights {index}")))
    if row.activations is not None:
        levels = 0 if row.activation_levels is None else row.activation_levels.possible
        svg = activation_plot(row.activations, row.activation_range, levels, f"activations {index}")
        figures.append(_figure(_activation_text(row), svg))
    facts = [each.kind, row.bits, shape_text(row.weight_shape)]
    summary = f"<b>{escape(row.name)}</b><span>{escape(' · '.join(fact for fact in facts if fact))}</span>"
    plots = f'<div class="plots">{"".join(figures)}</div>'
    opened = " open" if is_open else ""
    return f'<details id="plots-{index}"{opened}><summary>{summary}</summary>{plots}</details>'


def _activation_text(row: Row) -> str:
    text = "input" if row.activation_levels is None else f"input: {row.activation_levels} levels occur"
    found = row.activation_range
    if found is None or found.below is None or found.above is None:
        return text
    return f"{text}, {percent(found.below)} clipped below, {percent(found.above)} above"


def _figure(text: str, svg: str) -> str:
    return f"<figure><figcaption>{escape(text)}</figcaption>{svg}</figure>"


def _notes(report: ReportData) -> str:
    rows = [f"{row.name}: {row.note}" for row in report.rows if row.note]
    lists = (("Notes on layers", rows), ("Why it is not one packed file", report.problems))
    parts = [
        f"<h2>{escape(head)}</h2><ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"
        for head, texts in lists
        if texts
    ]
    return f"<section>{''.join(parts)}</section>" if parts else ""
