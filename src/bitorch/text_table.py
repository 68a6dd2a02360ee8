"""Tables of plain text."""

from __future__ import annotations

from collections.abc import Collection, Sequence

#: How many names stand in a line.
_MOST_NAMES = 3


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Return one line for each row, with columns as wide as their widest cell.

    Args:
        rows: of equally many cells, the heading among them; at least one.
        right: indices of the columns that end at the right, as numbers do.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def folded(rows: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """Return which columns go beside each other in lines of this width: the first one always, so that rows have names.

    Args:
        rows: as for `aligned`.
        width: of a line; a column that is too wide by itself stands alone beside the first.
    """
    first, *widths = [2 + max(map(len, column)) for column in zip(*rows, strict=True)]
    blocks = [[0]]
    used = first
    for index, needed in enumerate(widths, start=1):
        if used + needed > width + 2 and len(blocks[-1]) > 1:  # no gap behind the last column
            blocks.append([0])
            used = first
        blocks[-1].append(index)
        used += needed
    return blocks


def ruled(lines: Sequence[str]) -> str:
    """Return the text of a table with a rule under its heading, and nothing behind the last cells."""
    rule = "─" * max(map(len, lines))
    return "\n".join(line.rstrip() for line in (lines[0], rule, *lines[1:]))


def some_names(names: Sequence[str], number: int) -> str:
    """Return the names of low-bit layers, or how many they are where there are more than a line takes.

    Args:
        number: of all low-bit layers.
    """
    if len(names) <= _MOST_NAMES:
        return ", ".join(names)
    return f"all {number} low-bit layers" if len(names) == number else f"{len(names)} layers"
