"""What commands print."""

from __future__ import annotations

import sys
from collections.abc import Mapping

FAILED = 1
USER_ERROR = 2


def print_error(message: object, code: int = USER_ERROR) -> int:
    """Print an error as users see it, and return the exit code."""
    print(f"error: {message}", file=sys.stderr)
    return code


def print_table(title: str, rows: Mapping[str, str]) -> None:
    """Print two columns; rows without a value are left out."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), show_header=False, title_justify="left")
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(value))  # as it is: rich would take [batch, 1, 8, 8] for a style
    Console().print(table)
