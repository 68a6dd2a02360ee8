"""A report as one HTML file, with everything in it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from .histogram_plots import activation_plot, weight_plot
from .numbers import bytes_of, count, milliseconds, percent, shape_text
from .report_data import ReportData
from .rows import ActivationRange, Levels, Row
from .tables import COLUMNS, cells, title, total_cells

_FOLDER = Path(__file__).parent
_DEPLOYS = {
    "whole": ("yes", "as one packed file"),
    "partial": ("in parts", "packed layers in PyTorch"),
    "none": ("no", "the notes say why"),
    "unknown": ("not tried", "bitorch_runtime is missing"),
}
#: Columns of several words, which may take two lines.
_WRAPPED = ("clipped", "kernel")
#: Of more levels some may well be missing.
_FEW_LEVELS = 16
#: Share of levels that occur up to which a cell is marked.
_FEW_SEEN = 0.75
#: Share of clipped inputs from which a cell is marked.
_MUCH_CLIPPED = 0.5


def page(report: ReportData) -> str:
    """Return the page: tiles, table, bars of bytes and time, histograms, notes."""
    name = escape(report.model)
    style, script = (_read(f"page.{kind}") for kind in ("css", "js"))
    sections = [
        f"<header><h1>{name}</h1><p class='quiet'>{escape(title(report))}</p></header>",
        _tiles(report),
        _table(report),
        _bars(report.rows),
        _plots(report.rows),
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
        ("parameters", count(totals.parameters), f"{len(report.rows)} rows"),
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


def _time(report: ReportData) -> tuple[str, str]:
    if report.totals.milliseconds is None:
        return "–", "not measured"
    where = {"whole": "packed", "partial": "PyTorch, packed layers"}.get(report.deployment, "PyTorch")
    return milliseconds(report.totals.milliseconds), f"{where}, fastest run"


def _table(report: ReportData) -> str:
    heads = "".join(
        f'<th aria-sort="none"{_class(column.is_number)} title="{escape(column.meaning)}">'
        f'<button type="button">{escape(column.name)}</button></th>'
        for column in COLUMNS
    )
    plotted = {row.name: index for index, row in enumerate(report.rows) if _has_plots(row)}
    rows = "\n".join(_table_row(row, plotted.get(row.name)) for row in report.rows)
    totals = "".join(
        f"<td{_class(column.is_number)}>{escape(text)}</td>"
        for column, text in zip(COLUMNS, total_cells(report.totals), strict=True)
    )
    return (
        '<section><h2>Layers</h2><p class="hint">The table is wider than the window: scroll it sideways.</p>'
        '<div class="frame"><div class="scroll" tabindex="0"><table id="layers">'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n<tfoot><tr>{totals}</tr></tfoot></table></div></div>"
        '<p class="quiet">A click on a heading sorts. Marked are quantizers of up to 16 levels of which a quarter or '
        "more never occurs, and inputs of which half or more is clipped, not counting what a ReLU would clip.</p>"
        "</section>"
    )


def _class(is_number: bool, *others: str) -> str:
    names = [*(["number"] if is_number else []), *others]
    return f' class="{" ".join(names)}"' if names else ""


def _table_row(row: Row, plot: int | None) -> str:
    texts = [escape(text) for text in cells(row)]
    texts[0] = texts[0].replace(".", ".<wbr>").replace("_", "_<wbr>")
    if plot is not None:
        texts[0] = f'<a href="#plots-{plot}">{texts[0]}</a>'
    marks = _marked(row)
    values = _sort_values(row)
    tds = (
        f"<td{_class(column.is_number, *_looks(column.name, marks))}"
        f' data-value="{escape(value)}"'
        f"{_hint(row, column.name)}>{text}</td>"
        for column, text, value in zip(COLUMNS, texts, values, strict=True)
    )
    is_rest = row.kind in ("operations", "bytes") or row.kernel == "fused"
    return f"<tr{' class=' + chr(34) + 'rest' + chr(34) if is_rest else ''}>{''.join(tds)}</tr>"


def _looks(column: str, marks: set[str]) -> list[str]:
    return [*(["warn"] if column in marks else []), *(["wraps"] if column in _WRAPPED else [])]


def _hint(row: Row, column: str) -> str:
    text = row.name if column == "layer" else row.note if column == "kernel" else ""
    return f' title="{escape(text)}"' if text else ""


def _marked(row: Row) -> set[str]:
    """The columns in which a row has something that one should look at."""
    marks = {
        name
        for name, levels in (("W levels", row.weight_levels), ("A levels", row.activation_levels))
        if levels is not None and levels.possible <= _FEW_LEVELS and levels.seen <= _FEW_SEEN * levels.possible
    }
    found = row.activation_range
    if found is not None and found.below is not None and found.above is not None:
        # What is below 0 would be lost to a ReLU, too.
        lost = found.above if found.low == 0 else found.above + found.below
        marks |= {"clipped"} if lost >= _MUCH_CLIPPED else set()
    return marks


def _sort_values(row: Row) -> list[str]:
    """What each cell is sorted by: plain numbers, or its text."""
    numbers: dict[str, float | None] = {
        "parameters": row.parameters,
        "float B": row.float_bytes,
        "packed B": row.packed_bytes,
        "MACs": row.macs,
        "bit-ops": row.bit_operations,
        "W levels": _share_of(row.weight_levels),
        "A levels": _share_of(row.activation_levels),
        "input range": None if row.activation_range is None else row.activation_range.maximum,
        "clipped": _clipped(row.activation_range),
        "ms": row.milliseconds,
        "time": row.share,
    }
    texts = dict(zip((column.name for column in COLUMNS), cells(row), strict=True))
    return [texts[column.name] if column.name not in numbers else _number(numbers[column.name]) for column in COLUMNS]


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)


def _share_of(levels: Levels | None) -> float | None:
    return None if levels is None else levels.seen / levels.possible


def _clipped(found: ActivationRange | None) -> float | None:
    return None if found is None or found.below is None or found.above is None else found.below + found.above


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


def _has_plots(row: Row) -> bool:
    return row.weights is not None or row.activations is not None


def _plots(rows: Sequence[Row]) -> str:
    parts = [_row_plots(index, row) for index, row in enumerate(rows) if _has_plots(row)]
    if not parts:
        return ""
    return (
        "<section><h2>Weights and activations</h2><p class='quiet'>Weights are coloured by the level that they become; "
        "a line stands at the mean of a level's weights, below the level's value. Of what comes to a quantizer the "
        "part from its lowest to its highest level is shaded; the rest is clipped.</p>"
        f"{''.join(parts)}</section>"
    )


def _row_plots(index: int, row: Row) -> str:
    figures = []
    if row.weights is not None:
        text = "weights" if row.weight_levels is None else f"weights: {row.weight_levels} levels occur"
        figures.append(_figure(text, weight_plot(row.weights, f"weights {index}")))
    if row.activations is not None:
        levels = 0 if row.activation_levels is None else row.activation_levels.possible
        svg = activation_plot(row.activations, row.activation_range, levels, f"activations {index}")
        figures.append(_figure(_activation_text(row), svg))
    facts = [row.kind, row.bits, shape_text(row.weight_shape)]
    summary = f"<b>{escape(row.name)}</b><span>{escape(' · '.join(fact for fact in facts if fact))}</span>"
    plots = f'<div class="plots">{"".join(figures)}</div>'
    return f'<details id="plots-{index}"><summary>{summary}</summary>{plots}</details>'


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
    lists = (("Layers", rows), ("Why it is not one packed file", report.problems), ("How to read it", report.notes))
    parts = [
        f"<h2>{escape(head)}</h2><ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"
        for head, texts in lists
        if texts
    ]
    return f"<section>{''.join(parts)}</section>"
