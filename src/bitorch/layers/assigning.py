"""Layers whose quantizers can be replaced by assigning to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..giving_way import GivingWay
from ..quantizations import Quantization
from .config import resolve_quantization

#: Names under which some layers have a quantizer, and others would keep one that nothing reads.
_QUANTIZERS = frozenset({"input_quantization", "output_quantization", "gradient_quantization"})


class Assigning(GivingWay):
    """Mixin: what is assigned to the name of a quantizer is checked, and takes effect or leaves the layer as it was.

    A subclass has a method `_assign_NAME` for each attribute that is checked so, and properties with setters for what
    stands for something else. nn.Module would not ask a property, but take a module for a new submodule.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        assign: Callable[[Any, Any], None] | None = getattr(type(self), f"_assign_{name}", None)
        attribute = getattr(type(self), name, None)
        if assign is not None:
            assign(self, value)
        elif isinstance(attribute, property) and attribute.fset is not None:
            attribute.fset(self, value)
        elif name in _QUANTIZERS and isinstance(value, Quantization):
            raise AttributeError(f"{type(self).__name__} has no {name}, so nothing would read it")
        else:
            self._put(name, value)

    def _put(self, name: str, value: Any) -> None:
        """Set an attribute as nn.Module does."""
        super().__setattr__(name, value)

    def _exchange(self, new: Mapping[str, Any], check: Callable[[], object]) -> None:
        """Set attributes, and check; where that raises, those that were there before come back."""
        before = {name: getattr(self, name) for name in new}
        is_fine = False
        try:
            for name, value in new.items():
                self._put(name, value)
            check()
            is_fine = True
        finally:
            if not is_fine:
                for name, value in before.items():
                    self._put(name, value)


def other_name(attribute: str) -> property:
    """Return a property that stands for an attribute under another name: what BITorch calls it."""

    def read(layer: Assigning) -> Any:
        return getattr(layer, attribute)

    def assign(layer: Assigning, value: object) -> None:
        setattr(layer, attribute, value)

    return property(read, assign, doc=f"BITorch's name of `{attribute}`.")


def given_quantizer(value: object, argument: str) -> Quantization:
    """Return the quantizer that is assigned: an instance, or one by its name; errors as `resolve_quantization`."""
    if value is None:
        raise TypeError(f"{argument} must be a Quantization instance or the name of one, got None; Identity() is none")
    return resolve_quantization(value, "", argument)  # type: ignore[arg-type]  # which checks the type
