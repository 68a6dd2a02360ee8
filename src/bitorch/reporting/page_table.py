"""The table of a report's page: fewer columns than the text has, so that all are seen at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from .numbers import bytes_of, milliseconds, percent
from .page_rows import PageRow, has_plots, marked
from .rows import Levels, Row, Totals
from .tables import COLUMNS, Column, cells, total_cells

PAGE_COLUMNS = (
    Column("layer", False, "name of the module, or of what is none"),
    Column("kind", False, "class of the module, and of the BatchNorm that is counted with it"),
    Column("weight", False, "shape of the weight"),
    Column("output", False, "shape of one image's result"),
    Column("bits", False, "of weights, activations and gradients; none of a float layer"),
    Column("parameters", True, "how many numbers"),
    Column("bytes", True, "of the float model's parameters and buffers → when packed; sorted by the latter"),
    Column("MACs", True, "multiply-adds of one image"),
    Column("bit-ops", True, "MACs × weight bits × activation bits; float counts as 32"),
    Column("ms", True, "milliseconds of one image, and their share"),
    Column("W levels", True, "levels of the weight that occur, of those there are"),
    Column("A levels", True, "levels of the input that occur on the example, of those there are"),
    Column("input range", True, "smallest and largest number at the input's quantizer"),
    Column("clipped", True, "share of the input below the lowest and above the highest level"),
    Column("kernel", False, "what computes it"),
)
#: Columns whose text may take two lines.
_WRAPPED = ("kind", "bytes", "input range", "clipped", "kernel")
_ARROW = " → "


def page_cells(each: PageRow) -> tuple[str, ...]:
    """Return a row's text for each column."""
    row = each.row
    own = {
        "kind": each.kind,
        "bytes": _bytes(row.float_bytes, row.packed_bytes),
        "ms": _time(row.milliseconds, row.share),
    }
    return _in_columns({**dict(zip((column.name for column in COLUMNS), cells(row), strict=True)), **own})


def page_totals(totals: Totals) -> tuple[str, ...]:
    """Return the text of the last line for each column."""
    texts = dict(zip((column.name for column in COLUMNS), total_cells(totals), strict=True))
    return _in_columns({**texts, "bytes": _bytes(totals.float_bytes, totals.packed_bytes)})


def _in_columns(texts: Mapping[str, str]) -> tuple[str, ...]:
    """Return the page's columns of texts by name of column, those of the text's table among them."""
    return tuple(texts[column.name] for column in PAGE_COLUMNS)


def _bytes(before: int, after: int) -> str:
    if not before and not after:
        return ""
    return f"{before:,}{_ARROW}{after:,}" if before else bytes_of(after)


def _time(value: float | None, share: float | None) -> str:
    return milliseconds(value) if share is None else f"{milliseconds(value)} ({percent(share)})"


def table(rows: Sequence[PageRow], totals: Totals) -> str:
    """Return the section with the table, which page.js sorts."""
    heads = "".join(
        f'<th aria-sort="none"{_class(column.is_number)} title="{escape(column.meaning)}">'
        f'<button type="button">{escape(column.name)}</button></th>'
        for column in PAGE_COLUMNS
    )
    lines = "\n".join(_line(index, each) for index, each in enumerate(rows))
    foot = "".join(
        f"<td{_class(column.is_number, *_wraps(column.name))}>{_broken(column.name, text)}</td>"
        for column, text in zip(PAGE_COLUMNS, page_totals(totals), strict=True)
    )
    return (
        '<section><h2>Layers</h2><p class="hint">The table is wider than the window: scroll it sideways.</p>'
        '<div class="frame"><div class="scroll" tabindex="0"><table id="layers">'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n<tfoot><tr>{foot}</tr></tfoot></table></div></div>"
        "</section>"
    )


def _line(index: int, each: PageRow) -> str:
    row = each.row
    marks, values = marked(row), _sort_values(each)
    cells = []
    for column, text, value in zip(PAGE_COLUMNS, page_cells(each), values, strict=True):
        shown = _broken(column.name, text)
        if column.name == "layer" and has_plots(row):
            shown = f'<a href="#plots-{index}">{shown}</a>'
        looks = _class(column.is_number, *(["warn"] if column.name in marks else []), *_wraps(column.name))
        cells.append(f'<td{looks} data-value="{escape(value)}"{_hint(row, column.name)}>{shown}</td>')
    is_rest = row.kind in ("operations", "bytes") or row.kernel == "fused"
    return f"<tr{_class(False, *(['rest'] if is_rest else []))}>{''.join(cells)}</tr>"


def _broken(column: str, text: str) -> str:
    """The text as HTML, with where its line may be broken."""
    html = escape(text)
    if column == "layer":
        return html.replace(".", ".<wbr>").replace("_", "_<wbr>")
    # What belongs together stays on one line.
    return html.replace(" + ", "<wbr> +\u00a0") if column == "kind" else html.replace(_ARROW, "<wbr> →\u00a0")


def _wraps(column: str) -> list[str]:
    return ["wraps"] if column in _WRAPPED else []


def _class(is_number: bool, *others: str) -> str:
    names = [*(["number"] if is_number else []), *others]
    return f' class="{" ".join(names)}"' if names else ""


def _hint(row: Row, column: str) -> str:
    text = row.name if column == "layer" else row.note if column == "kernel" else ""
    return f' title="{escape(text)}"' if text else ""


def _sort_values(each: PageRow) -> list[str]:
    """What each cell is sorted by: plain numbers, or its text."""
    row = each.row
    numbers: dict[str, float | None] = {
        "parameters": row.parameters,
        "bytes": row.packed_bytes,
        "MACs": row.macs,
        "bit-ops": row.bit_operations,
        "ms": row.milliseconds,
        "W levels": _share_of(row.weight_levels),
        "A levels": _share_of(row.activation_levels),
        "input range": None if row.activation_range is None else row.activation_range.maximum,
        "clipped": _clipped(row),
    }
    texts = dict(zip((column.name for column in PAGE_COLUMNS), page_cells(each), strict=True))
    return [texts[c.name] if c.name not in numbers else _number(numbers[c.name]) for c in PAGE_COLUMNS]


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)


def _share_of(levels: Levels | None) -> float | None:
    return None if levels is None else levels.seen / levels.possible


def _clipped(row: Row) -> float | None:
    found = row.activation_range
    return None if found is None or found.below is None or found.above is None else found.below + found.above
