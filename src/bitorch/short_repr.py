"""A value in a message: no more than a line of it."""

from __future__ import annotations

import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 120
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 3, 8, 8


def short_repr(value: object) -> str:
    """Return repr(value), shortened where it is long, nested deeply, or holds one value many times."""
    return _SHORT.repr(value)
