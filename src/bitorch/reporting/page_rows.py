"""The rows of a report as its page shows them: a BatchNorm stands inside the layer whose results it normalizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from .rows import Row

#: Of more levels some may well be missing.
_FEW_LEVELS = 16
#: Share of levels that occur up to which a cell is marked.
_FEW_SEEN = 0.75
#: Share of clipped inputs from which a cell is marked.
_MUCH_CLIPPED = 0.5


@dataclass(frozen=True)
class PageRow:
    """A layer with what is counted with it.

    Attributes:
        row: with the parameters, bytes, multiply-adds and milliseconds of all.
        inside: the rows that are counted with it.
    """

    row: Row
    inside: tuple[Row, ...] = ()

    @property
    def kind(self) -> str:
        """Such as "QConv2d + BatchNorm2d"."""
        return " + ".join([self.row.kind, *(row.kind for row in self.inside)])


def page_rows(rows: Sequence[Row]) -> list[PageRow]:
    """Return the rows with every BatchNorm in the one before it, where that has a matrix or kernels.

    The rows are in the order of calls, so what stands before a BatchNorm is what it normalizes, or what gave the sum
    that it normalizes; deployment computes it with that one's operation.
    """
    result: list[PageRow] = []
    for row in rows:
        before = result[-1] if result else None
        if before is not None and row.kind.startswith("BatchNorm") and len(before.row.weight_shape) > 1:
            result[-1] = PageRow(_together(before.row, row), (*before.inside, row))
        else:
            result.append(PageRow(row))
    return result


def _together(row: Row, inner: Row) -> Row:
    times = [each.milliseconds for each in (row, inner) if each.milliseconds is not None]
    shares = [each.share for each in (row, inner) if each.share is not None]
    return dataclasses.replace(
        row,
        parameters=row.parameters + inner.parameters,
        float_bytes=row.float_bytes + inner.float_bytes,
        packed_bytes=row.packed_bytes + inner.packed_bytes,
        macs=row.macs + inner.macs,
        bit_operations=row.bit_operations + inner.bit_operations,
        milliseconds=sum(times) if times else None,
        share=sum(shares) if shares else None,
    )


def marked(row: Row) -> set[str]:
    """Return the columns in which a row has something that one should look at."""
    marks = {
        name
        for name, levels in (("W levels", row.weight_levels), ("A levels", row.activation_levels))
        if levels is not None and levels.possible <= _FEW_LEVELS and levels.seen <= _FEW_SEEN * levels.possible
    }
    return marks | ({"clipped"} if _lost(row) >= _MUCH_CLIPPED else set())


def worst(rows: Sequence[PageRow]) -> tuple[PageRow, str] | None:
    """Return the row with plots that one should look at first, and why; None where no row has plots.

    First comes the one with the most levels that never occur, then the one of whose input most is clipped, then the
    slowest, then the largest.
    """
    shown = [each for each in rows if has_plots(each.row)]
    if not shown:
        return None
    for value, reason in (
        (_missing, "the largest share of levels that never occur"),
        (lambda row: lost if (lost := _lost(row)) >= _MUCH_CLIPPED else 0.0, "most of the input clipped"),
        (lambda row: 0.0 if row.milliseconds is None else row.milliseconds, "the most time"),
    ):
        first = max(shown, key=lambda each: value(each.row))
        if value(first.row) > 0:
            return first, reason
    return max(shown, key=lambda each: each.row.packed_bytes), "the most bytes"


def has_plots(row: Row) -> bool:
    """Say whether there is a histogram."""
    return row.weights is not None or row.activations is not None


def _missing(row: Row) -> float:
    """The larger share of a quantizer's few levels that never occur, where it is marked."""
    levels = {"W levels": row.weight_levels, "A levels": row.activation_levels}
    found = [levels[name] for name in marked(row) & levels.keys()]
    return max((1 - each.seen / each.possible for each in found if each is not None), default=0.0)


def _lost(row: Row) -> float:
    """The share of the input that is clipped, without what a ReLU would take, too: what is below a range from 0."""
    found = row.activation_range
    if found is None or found.below is None or found.above is None:
        return 0.0
    return found.above if found.low == 0 else found.above + found.below
