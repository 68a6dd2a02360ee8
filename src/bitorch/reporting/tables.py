"""A report as text, as a rich table, as types of JSON and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..text_table import aligned, folded, ruled
from .numbers import bytes_of, clipped_text, count, milliseconds, percent, range_text, shape_text
from .report_data import ReportData
from .rows import Row, Totals

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Column:
    """A column of the tables: its heading, whether it ends at the right, and what the heading means."""

    name: str
    is_number: bool
    meaning: str


COLUMNS = (
    Column("layer", False, "name of the module, or of what is none"),
    Column("kind", False, "class of the module"),
    Column("weight", False, "shape of the weight"),
    Column("output", False, "shape of one image's result"),
    Column("bits", False, "of weights, activations and gradients; none of a float layer"),
    Column("parameters", True, "how many numbers"),
    Column("float B", True, "bytes of parameters and buffers in the float model"),
    Column("packed B", True, "bytes when packed"),
    Column("MACs", True, "multiply-adds of one image"),
    Column("bit-ops", True, "MACs × weight bits × activation bits; float counts as 32"),
    Column("ms", True, "milliseconds of one image"),
    Column("time", True, "share of the milliseconds"),
    Column("W levels", True, "levels of the weight that occur, of those there are"),
    Column("A levels", True, "levels of the input that occur on the example, of those there are"),
    Column("input range", True, "smallest and largest number at the input's quantizer"),
    Column("clipped", True, "share of the input below the lowest and above the highest level"),
    Column("kernel", False, "what computes it"),
)
RIGHT = tuple(index for index, column in enumerate(COLUMNS) if column.is_number)


def cells(row: Row) -> tuple[str, ...]:
    """Return a row's text for each column."""
    return (
        row.name,
        row.kind,
        shape_text(row.weight_shape),
        shape_text(row.output_shape),
        row.bits,
        count(row.parameters),
        bytes_of(row.float_bytes),
        bytes_of(row.packed_bytes),
        count(row.macs),
        count(row.bit_operations),
        milliseconds(row.milliseconds),
        percent(row.share),
        "" if row.weight_levels is None else str(row.weight_levels),
        "" if row.activation_levels is None else str(row.activation_levels),
        range_text(row.activation_range),
        clipped_text(row.activation_range),
        row.kernel if row.kernel else ("–" if row.deploys is False else ""),
    )


def total_cells(totals: Totals) -> tuple[str, ...]:
    """Return the text of the last line for each column."""
    numbers = {
        "layer": "total",
        "parameters": count(totals.parameters),
        "float B": bytes_of(totals.float_bytes),
        "packed B": bytes_of(totals.packed_bytes),
        "MACs": count(totals.macs),
        "bit-ops": count(totals.bit_operations),
        "ms": milliseconds(totals.milliseconds),
        "time": "" if totals.milliseconds is None else "100.0%",
    }
    return tuple(numbers.get(column.name, "") for column in COLUMNS)


def title(report: ReportData) -> str:
    """Return one line about the whole model."""
    how = {
        "whole": "deploys as one packed file",
        "partial": "deploys in parts: packed layers in PyTorch",
        "none": "does not deploy",
        "unknown": "not known whether it deploys",
    }[report.deployment]
    totals = report.totals
    text = f"{report.model}: {how}; {totals.float_bytes:,} bytes float"
    if report.deployment not in ("whole", "partial"):
        return text
    factor = f", {totals.float_bytes / totals.packed_bytes:.1f} times smaller" if totals.packed_bytes else ""
    return f"{text}, {totals.packed_bytes:,} packed{factor}"


def remarks(report: ReportData) -> list[str]:
    """Return what stands under the table: why rows do not deploy, why the model does not, and how to read it."""
    rows = [f"{row.name}: {row.note}" for row in report.rows if row.note]
    problems = [f"not one packed file: {problem}" for problem in report.problems]
    return [*rows, *problems, *report.notes]


def plain_table(report: ReportData, width: int | None = None) -> str:
    """Return title, table, totals and remarks.

    Args:
        width: of a line: columns that do not fit stand in further tables below. None: all columns beside each other.
    """
    rows = [tuple(column.name for column in COLUMNS), *map(cells, report.rows), total_cells(report.totals)]
    blocks = [list(range(len(COLUMNS)))] if width is None else folded(rows, width)
    tables = [_block(rows, columns) for columns in blocks]
    return "\n".join([title(report), "", *tables, *remarks(report)])


def _block(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> str:
    """Return some columns as a table with its totals, if there are any, and an empty line."""
    right = [place for place, column in enumerate(columns) if column in RIGHT]
    lines = aligned([[row[column] for column in columns] for row in rows], right=right)
    has_totals = any(rows[-1][column] for column in columns if column > 0)
    totals = ["─" * max(map(len, lines)), lines[-1].rstrip()] if has_totals else []
    return "\n".join([ruled(lines[:-1]), *totals, ""])


def rich_table(report: ReportData) -> Table:
    """Return the same for rich."""
    from rich.table import Table
    from rich.text import Text  # cells are no markup: a name may hold brackets

    table = Table(
        title=Text(title(report)),
        caption=Text("\n".join(remarks(report))),
        show_footer=True,
        title_justify="left",
        caption_justify="left",
    )
    for column, total in zip(COLUMNS, total_cells(report.totals), strict=True):
        table.add_column(column.name, Text(total), justify="right" if column.is_number else "left")
    for row in report.rows:
        table.add_row(*map(Text, cells(row)))
    return table


def as_dict(report: ReportData) -> dict[str, Any]:
    """Return a report without histograms, in types that JSON has."""
    return {
        "model": report.model,
        "deployment": report.deployment,
        "bytes_are": report.bytes_are,
        "rows": [_row_dict(row) for row in report.rows],
        "totals": asdict(report.totals),
        "notes": list(report.notes),
        "problems": list(report.problems),
        "about": dict(report.about),
    }


def _row_dict(row: Row) -> dict[str, Any]:
    fields = {name: value for name, value in asdict(row).items() if name not in ("weights", "activations")}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def csv_text(report: ReportData) -> str:
    """Return one line for each row, and one for the totals, with plain numbers."""
    rows = [_flat(row) for row in report.rows]
    rows.append({"name": "total", **asdict(report.totals)})
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(row: Row) -> dict[str, Any]:
    """A row with one value for each key: levels and ranges are spread out."""
    fields = _row_dict(row)
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if name in ("weight_levels", "activation_levels"):
            flat |= {f"{name}_{key}": "" if value is None else value[key] for key in ("seen", "possible")}
        elif name == "activation_range":
            keys = ("minimum", "maximum", "low", "high", "below", "above")
            flat |= {f"activation_{key}": "" if value is None else value[key] for key in keys}
        else:
            flat[name] = "×".join(map(str, value)) if isinstance(value, list) else value
    return {name: "" if value is None else value for name, value in flat.items()}
