"""What a message offers to somebody who mistyped a name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

_SHOWN = 12


def nearest(word: str, known: Sequence[str]) -> str:
    """Return "did you mean …?" with up to three known names that are like the word, else "there are …" with all."""
    near = [repr(name) for name in difflib.get_close_matches(word, known, n=3)]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"there are {listed(known)}"


def listed(names: Sequence[str]) -> str:
    """Return the names in a row, the first dozen of many."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
