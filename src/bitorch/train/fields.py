"""Values from a command line, a YAML file or Python to the types that a dataclass declares, or a clear error."""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..short_repr import short_repr

#: Names that a message lists.
_MOST_LISTED = 30


def convert_fields(cls: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with the types that cls declares; TypeError or ValueError naming the field that has another."""
    hints = get_type_hints(cls)
    return {name: _convert(name, value, hints[name]) for name, value in fields.items()}


def reject_unknown(names: Iterable[str], known: list[str]) -> None:
    """Raise a ValueError that suggests the nearest known name if there is an unknown one."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            listed = (
                f"there are {', '.join(known)}" if len(known) <= _MOST_LISTED else "bitorch train --help-all lists all"
            )
            hint = f"did you mean {near[0]!r}?" if near else listed
            raise ValueError(f"unknown setting {short_repr(name)}; {hint}")


def plain(value: Any) -> Any:
    """Return a field's value as a type that JSON has."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _convert(name: str, value: Any, hint: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _optional(name, value, [argument for argument in arguments if argument is not type(None)])
    if origin is Literal:
        return _choice(name, value, arguments)
    if origin is tuple:
        return _tuple(name, value, arguments)
    if hint is Path:
        if not isinstance(value, str | PathLike):
            raise TypeError(f"{name} must be a path, got {short_repr(value)}")
        return Path(fspath(value))
    if hint is float:
        return _number(name, value)
    # bool is an int in Python, but not to a person who writes `epochs: true`.
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        kind = {bool: "true or false", int: "an integer", str: "a string"}[hint]
        raise TypeError(f"{name} must be {kind}, got {short_repr(value)}")
    return value


def _optional(name: str, value: Any, hints: list[Any]) -> Any:
    """Convert a value of "… | None", or of a list or one of some words, or None."""
    if value is None:
        return None
    words = [word for hint in hints[1:] for word in get_args(hint)]
    if isinstance(value, list | tuple) and len(value) == 1 and value[0] in words:
        return value[0]  # a command line has lists of one
    return value if value in words else _convert(name, value, hints[0])


def _choice(name: str, value: Any, choices: tuple[Any, ...]) -> str:
    # `precision: 32` is an integer in YAML.
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if text not in choices:
        near = difflib.get_close_matches(str(value)[:40].lower(), choices, n=2)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {short_repr(value)}{hint}")
    return str(text)


def _tuple(name: str, value: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name} must be a list, got {short_repr(value)}")
    if arguments[-1] is not Ellipsis and len(value) != len(arguments):
        raise ValueError(f"{name} must have {len(arguments)} values, got {short_repr(value)}")
    return tuple(_convert(name, item, arguments[0]) for item in value)


def _number(name: str, value: Any) -> float:
    number = value
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 as a string; it wants 1.0e-3
        try:
            number = float(value)
        except ValueError:
            raise TypeError(f"{name} must be a number, got {short_repr(value)}") from None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"{name} must be a number, got {short_repr(value)}")
    if math.isnan(number):
        raise ValueError(f"{name} must be a number, got NaN")
    return float(number)
