"""Where the time of a program goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict, overload

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("op", "output", "kernel", "µs", "share", "MMAC", "GMAC/s")


class Timing(TypedDict):
    """What one operation took, a row of a `Profile`."""

    op: str
    output: str  # the tensor it gives; of an output, the tensor it takes
    kernel: str  # "in operation N": it runs with that one
    seconds: float  # of it, and of those that run with it
    macs: int  # multiply-adds of the batch
    macs_per_second: float  # 0 where there are none
    share: float  # of the time of all operations


class Profile(Sequence[Timing]):
    """The times of a program's operations: a sequence of rows, and a table when printed (with rich, too)."""

    def __init__(self, rows: Sequence[Timing], batch: int) -> None:
        """Keep what was measured.

        Args:
            rows: one per operation, in the order of the program.
            batch: how many images each run had.
        """
        self.rows = list(rows)
        self.batch = batch

    @property
    def seconds(self) -> float:
        """Of all operations."""
        return sum(row["seconds"] for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-adds of all operations, for the batch."""
        return sum(row["macs"] for row in self.rows)

    @property
    def macs_per_second(self) -> float:
        """Of the whole program."""
        return self.macs / self.seconds if self.seconds > 0 else 0.0

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Timing: ...
    @overload
    def __getitem__(self, index: slice) -> list[Timing]: ...
    def __getitem__(self, index: int | slice) -> Timing | list[Timing]:
        return self.rows[index]

    def __repr__(self) -> str:
        return f"Profile({len(self)} operations, batch {self.batch}, {1e3 * self.seconds:.3f} ms)"

    def __str__(self) -> str:
        lines = [COLUMNS, *map(_cells, self.rows), self._total()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(
                cell.ljust(width) if i < 3 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        rule = "-" * max(map(len, text))
        return "\n".join([text[0], rule, *text[1:-1], rule, text[-1]])

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text  # cells are no markup: a name may hold brackets

        total = self._total()
        table = Table(show_footer=True, title=f"batch {self.batch}")
        for i, name in enumerate(COLUMNS):
            table.add_column(name, Text(total[i]), justify="left" if i < 3 else "right")
        for row in self.rows:
            table.add_row(*map(Text, _cells(row)))
        return table

    def _total(self) -> tuple[str, ...]:
        return "total", "", "", *_numbers(self.seconds, 1.0, self.macs, self.macs_per_second)


def _cells(row: Timing) -> tuple[str, ...]:
    numbers = _numbers(row["seconds"], row["share"], row["macs"], row["macs_per_second"])
    return row["op"], row["output"], row["kernel"], *numbers


def _numbers(seconds: float, share: float, macs: int, macs_per_second: float) -> tuple[str, ...]:
    speed = (f"{macs / 1e6:.2f}", f"{macs_per_second / 1e9:.1f}") if macs else ("", "")
    return f"{1e6 * seconds:,.1f}", f"{100 * share:.1f}%", *speed
