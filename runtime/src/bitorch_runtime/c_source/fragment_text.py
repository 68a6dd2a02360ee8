"""The functions of C that operations call, in files of their own, `fragments/`.

A file says by `#include "other.c"` which others it needs. Its names begin with `net_` or `NET_`, and with the header's
own name in the header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

_INCLUDE = re.compile(r'^#include "(\w+)\.c"\n', re.MULTILINE)


@cache
def _read(name: str) -> str:
    return (files("bitorch_runtime.c_source") / "fragments" / f"{name}.c").read_text(encoding="utf-8")


def with_needed(names: Iterable[str]) -> list[str]:
    """Return fragments and all that they include, each once, what is included first."""
    found: list[str] = []

    def visit(name: str) -> None:
        if name not in found:
            for other in _INCLUDE.findall(_read(name)):
                visit(other)
            found.append(name)

    for name in names:
        visit(name)
    return found


def text_of(names: Iterable[str]) -> str:
    """Return the C of these fragments, and of those that they include."""
    return "\n".join(_INCLUDE.sub("", _read(name)) for name in with_needed(names))


def renamed(text: str, name: str) -> str:
    """Return C whose names begin with `name` in the place of `net`."""
    prefixes = {"net_": f"{name}_", "NET_": f"{name.upper()}_"}
    return re.sub(r"\b(net_|NET_)", lambda found: prefixes[found[1]], text)
