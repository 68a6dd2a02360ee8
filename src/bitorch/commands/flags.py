"""Settings as the flags of a command line."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..train import Settings

#: Where a run is kept and starts from: of this machine, and no part of what it is.
_PLACES = ("out", "resume", "init")


def flags_text(settings: Settings) -> str:
    """Return the flags that make these settings of the defaults: "--bits 2 2 6 --epochs 6"; paths by their names."""
    parts: list[str] = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name not in _PLACES and value != field.default:
            parts += _flag(field.name.replace("_", "-"), value)
    return shlex.join(parts)


def _flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    values = value if isinstance(value, tuple) else (value,)
    return [f"--{name}", *(each.name if isinstance(each, Path) else str(each) for each in values)]
