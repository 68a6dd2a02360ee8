"""The arguments that a quantizer was made with, read off its attributes: what makes another one like it."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def arguments_of(quantizer: nn.Module, **known: object) -> dict[str, Any]:
    """Return the arguments of `__init__` that differ from their defaults, by name; the bits always.

    Args:
        known: values of those that no attribute of their name holds.

    Raises:
        TypeError: no attribute holds an argument; the message says what to do.
    """
    cls = type(quantizer)
    arguments: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(cls).parameters.items()):
        if parameter.kind in _VARIADIC:
            continue
        attribute = "bit_width" if name == "bits" else name
        value = known[name] if name in known else getattr(quantizer, attribute, _Missing)
        if value is _Missing or isinstance(value, Tensor | nn.Module) or inspect.ismethod(value):
            raise TypeError(
                f"{cls.__name__} keeps its argument {name!r} in no attribute of that name, so no other one like it "
                f"can be made; keep self.{attribute}, or define arguments(), which returns a dict of them"
            )
        if name == "bits" or value != parameter.default:
            arguments[name] = value
    return arguments


class _Missing:
    """Stands for what an object does not have."""


def takes_bits(cls: type[nn.Module]) -> bool:
    """Say whether a quantizer's class is made with bits, which are otherwise a part of what it is."""
    return "bits" in inspect.signature(cls).parameters
