"""Which dialects there are."""

from __future__ import annotations

import difflib

from .dialect import Dialect
from .integer import INTEGER
from .qcdq import QCDQ
from .qonnx import QONNX

DIALECTS: tuple[Dialect, ...] = (INTEGER, QCDQ, QONNX)


def dialect_named(name: str) -> Dialect:
    """Return the dialect of a name.

    Raises:
        ValueError: there is none.
    """
    for dialect in DIALECTS:
        if dialect.name == name:
            return dialect
    names = [dialect.name for dialect in DIALECTS]
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"dialect must be one of {', '.join(map(repr, names))}, got {name!r}{hint}")
