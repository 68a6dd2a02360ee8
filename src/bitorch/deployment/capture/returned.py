"""The tensors among what a model returns, by names."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..graph.output_names import unused


@dataclass(frozen=True)
class Returned:
    """What a model returned.

    Attributes:
        tensors: in order.
        names: of each, all different: keys of a dict and fields of a dataclass or named tuple, nested ones with dots
            between; where the model has none, "output", or "output_0", "output_1", …
        named: of each, whether the model names it.
        left_out: what is no tensor, as "cache (DynamicCache)". None is nothing.
    """

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...]
    named: tuple[bool, ...]
    left_out: tuple[str, ...]


def returned(result: object) -> Returned:
    """Find the tensors in nested dicts, dataclasses, tuples and lists.

    Raises:
        ValueError: there are none.
    """
    found: dict[str, tuple[Tensor, bool]] = {}
    left_out = []
    for name, value, is_named in _leaves("", result, is_named=False):
        if isinstance(value, Tensor):
            found[unused(_valid(name), found)] = value, is_named
        elif value is not None:
            left_out.append(f"{name} ({type(value).__name__})")
    if not found:
        raise ValueError(f"the model returns no tensor, but {type(result).__name__}")
    tensors, named = zip(*found.values(), strict=True)
    return Returned(tensors, tuple(found), named, tuple(left_out))


def _leaves(name: str, value: object, *, is_named: bool) -> Iterator[tuple[str, object, bool]]:
    """Yield name, value, and whether the model gave the name, of everything that holds nothing itself."""
    if isinstance(value, Mapping):
        parts = [(str(key), item) for key, item in value.items()]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value)]
        parts = [(field, getattr(value, field)) for field in fields if hasattr(value, field)]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        parts = list(zip(value._fields, value, strict=True))
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            inner = f"{name}.{index}" if name else f"output_{index}"
            yield from _leaves(inner, item, is_named=name != "" and is_named)
        return
    else:
        yield name if name else "output", value, is_named
        return
    for part, item in parts:
        yield from _leaves(f"{name}.{part}" if name else part, item, is_named=True)


def _valid(name: str) -> str:
    """The name as a file can hold it, without control characters."""
    return "".join("_" if unicodedata.category(character) in ("Cc", "Cs") else character for character in name)
