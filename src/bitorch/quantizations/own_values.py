"""Whether a quantizer's codes stand for the values that a call of it gives.

They do as the library's classes come. A user may put other values in their place and leave the codes as they are: by
overriding `quantize` or `forward` in a subclass or a mixin, or by replacing it on an instance or on a class. What was
said last and most specifically counts: values below the class that defines the codes are the user's.

Layers ask in every forward pass, so the answer for a class is kept, with what it was found for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from ..giving_way import GivesWay, GivingWay

#: What decides on the value of a call, and what the layers compute on in its place.
_VALUES = ("quantize", "forward", "__call__")
_CODES = ("codes", "scale")

#: Where a definition was found: its index in the method resolution order, −1 on the instance; whether it was put there
#: after the class was made.
_Found = tuple[int, bool]


class Remembering(GivingWay):
    """Base of classes with values and codes that note what they define when they are made: so replacements show."""

    if TYPE_CHECKING:
        quantize: Callable[..., Any]
        codes: Callable[..., Any]
        scale: Callable[..., Any]

    _own_as_made: ClassVar[Mapping[str, object]]
    _as_made: ClassVar[tuple[object, ...]]
    _codes_are_values: ClassVar[bool]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = {name: cls.__dict__[name] for name in (*_VALUES, *_CODES) if name in cls.__dict__}
        cls._own_as_made = own  # not inherited: each class gets one
        cls._as_made = tuple(getattr(cls, name) for name in (*_VALUES, *_CODES))
        cls._codes_are_values = _are_values(cls, {})


def codes_are_values(quantizer: Remembering) -> bool:
    """Say whether `codes` times `scale` is what a call gives, as far as the definitions tell."""
    instance, cls = quantizer.__dict__, type(quantizer)
    if _has_other_zero_point(quantizer):
        return False
    if torch.compiler.is_compiling():  # guards an attribute that is read, but not what is looked for in a dict
        _ = quantizer.quantize, quantizer.forward, quantizer.codes, quantizer.scale
    if "quantize" in instance or "forward" in instance or "codes" in instance or "scale" in instance:
        return _are_values(cls, instance)
    made = cls._as_made
    if (
        cls.quantize is made[0]
        and cls.forward is made[1]
        and (cls.__call__ is made[2] or cls.__call__ is nn.Module.__call__)  # which torch.export replaces while it runs
        and cls.codes is made[3]
        and cls.scale is made[4]
    ):
        return cls._codes_are_values
    return _are_values(cls, instance)


def is_as_made(quantizer: Remembering, cls: type[Remembering], name: str) -> bool:
    """Say whether a method is still the one that a class of the library was made with."""
    resolved = getattr(type(quantizer), name)
    return name not in quantizer.__dict__ and resolved is cls._as_made[(*_VALUES, *_CODES).index(name)]


def _are_values(cls: type[Remembering], instance: dict[str, Any]) -> bool:
    if _lacks_codes(cls, instance):
        return False
    codes = _find(cls, instance, "codes")
    return not any(_overrides(_find(cls, instance, name), codes) for name in _VALUES)


def has_codes(quantizer: Remembering) -> bool:
    """Say whether there are methods `codes`, `scale` and `zero_point`."""
    return not _has_other_zero_point(quantizer) and not _lacks_codes(type(quantizer), quantizer.__dict__)


def _has_other_zero_point(quantizer: Remembering) -> bool:
    """Whether a tensor or module has the name of the method, which then cannot be called."""
    name = "zero_point"
    return name in quantizer._parameters or name in quantizer._buffers or name in quantizer._modules


def _lacks_codes(cls: type[Remembering], instance: dict[str, Any]) -> bool:
    return any(_is_missing(cls, instance, name) for name in _CODES)


def _overrides(value: _Found, codes: _Found) -> bool:
    """Whether a definition of the values was made after, and without, that of the codes."""
    is_patched = value[1] and not (codes[1] and codes[0] <= value[0])
    return value[0] < codes[0] or is_patched


def _find(cls: type[Remembering], instance: dict[str, Any], name: str) -> _Found:
    if name in instance:
        return -1, False
    for index, owner in enumerate(cls.__mro__):
        if name in owner.__dict__:
            made = owner.__dict__.get("_own_as_made")
            return index, made is not None and made.get(name) is not owner.__dict__[name]
    raise AttributeError(f"{cls.__name__} has no {name}")


def _is_missing(cls: type[Remembering], instance: dict[str, Any], name: str) -> bool:
    """Whether there is nothing to call: only what `Quantization` says, or a number or tensor of that name."""
    if name in instance:
        return not callable(instance[name])
    return isinstance(inspect.getattr_static(cls, name), GivesWay)
