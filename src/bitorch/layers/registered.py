"""Layers that know with what they are constructed, and in whose places an engine may put its own."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from .config import config, resolve_quantization
from .extensions.class_registry import ClassRegistry
from .extensions.layer_recipe import LayerRecipe
from .extensions.reference import WithRecipe, reference_of
from .low_bit import LowBit

#: Where a layer keeps its arguments, but for its quantizers, which may have been exchanged since.
_CONSTRUCTED_WITH = "_constructed_with"
_QUANTIZATION = (
    "input_quantization",
    "weight_quantization",
    "gradient_cancellation_threshold",
    "gradient_quantization",
    "pad_value",
    "exact",
)


class _Signature:
    """That of the constructor: __new__, which passes all on, would hide it."""

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")  # a layer that was built has that of its call
        signature = inspect.signature(owner.__init__)  # type: ignore[misc]  # of the class, not of an instance
        return signature.replace(parameters=list(signature.parameters.values())[1:])


class Registered(WithRecipe, LowBit):
    """Mixin of layers that have a registry: QLinear, QConv1d, QConv2d and QConv3d.

    Attributes:
        class_: the class itself, as BITorch's factories have it.
    """

    class_: ClassVar[type[nn.Module]]
    #: Of the class itself; those derived from it inherit nothing of it.
    _registry: ClassVar[ClassRegistry]
    #: What a recipe has first, by position, and what torch takes besides, with what is meant where it is not given.
    _required_arguments: ClassVar[tuple[str, ...]]
    _other_arguments: ClassVar[Mapping[str, object]]

    if not TYPE_CHECKING:  # for whom the constructor has the signature
        __signature__ = _Signature()

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            registry = vars(cls).get("_registry")
            is_construction = bool(args or kwargs)  # copies and pickles come without
            if registry is None or registry.reference is not cls or not is_construction:
                return super().__new__(cls)
            other = registry.instead_of(args, kwargs)
            if other is not None:
                return other
            new = super().__new__(cls)
            given = frozenset(kwargs).intersection(_QUANTIZATION)
            own = {name: value for name, value in kwargs.items() if name not in given}
            new.__dict__[_CONSTRUCTED_WITH] = (args, own, given)
            return new

    @property
    def recipe(self) -> LayerRecipe:
        """The arguments with which a layer like this one is constructed, its quantizers being the ones it has now.

        Arguments are as they were given, unless the layer's attributes say otherwise by now. Of a layer that was made
        from a float one they are what the layer has.
        """
        if reference_of(self) is not None:
            return super().recipe
        recorded = self.__dict__.get(_CONSTRUCTED_WITH)
        if recorded is None:
            live = self._live_arguments()
            args = tuple(live.pop(name) for name in self._required_arguments)
            return LayerRecipe(self, args, {**live, **self._live_quantization(_QUANTIZATION[:3])})
        args, kwargs, given = recorded
        return LayerRecipe(self, *self._up_to_date(args, kwargs, self._live_quantization(given)))

    def _live_arguments(self) -> dict[str, Any]:
        weight = self.weight
        live = {"bias": self.bias is not None, "device": weight.device, "dtype": weight.dtype}
        names = (*self._required_arguments, *self._other_arguments)
        return {name: live[name] if name in live else getattr(self, name) for name in names}

    def _up_to_date(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], quantization: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return arguments as they were given where the layer is still like that; device and dtype in any case."""
        live = self._live_arguments()
        del live["device"], live["dtype"]

        def current(name: str, value: Any) -> Any:
            return value if name not in live or _means(value, live[name]) else live[name]

        by_position = (*self._required_arguments, *self._other_arguments)[: len(args)]
        changed = {
            name: live[name]
            for name, default in self._other_arguments.items()
            if name in live and name not in by_position and name not in kwargs and not _means(default, live[name])
        }
        by_name = {name: current(name, value) for name, value in kwargs.items()}
        positional = tuple(current(name, value) for name, value in zip(by_position, args, strict=True))
        return positional, {**by_name, **changed, **quantization}

    def _live_quantization(self, given: Collection[str]) -> dict[str, Any]:
        """Return the arguments that were given, as they are now, and those that are not what is meant by default."""
        live = {name: getattr(self, name) for name in _QUANTIZATION if name != "pad_value" or hasattr(self, name)}
        return {name: value for name, value in live.items() if name in given or not self._is_default(name, value)}

    def _is_default(self, name: str, value: Any) -> bool:
        if name in ("input_quantization", "weight_quantization"):
            meant = resolve_quantization(None, getattr(config, name), name)
            return type(value) is type(meant) and repr(value) == repr(meant)
        if name == "gradient_cancellation_threshold":
            return bool(value == config.gradient_cancellation_threshold)
        if name == "pad_value":
            return self._is_default_pad_value()
        return value is None if name == "gradient_quantization" else bool(value)

    def _is_default_pad_value(self) -> bool:
        return True


def _means(given: Any, live: Any) -> bool:
    """Whether an argument of torch's gives an attribute: a number stands for as many as there are dimensions."""
    if isinstance(live, tuple):
        return live == ((given,) * len(live) if isinstance(given, int) else tuple(given))
    return bool(given) is live if isinstance(live, bool) else bool(given == live)


def arguments_by_name(recipe: LayerRecipe, class_: type[Registered]) -> dict[str, Any]:
    """Return what torch takes of a recipe's arguments, by name, with defaults where they were not given.

    Raises:
        IndexError: a required one is missing.
    """
    required = class_._required_arguments
    found = {name: recipe.required_arg(position, name) for position, name in enumerate(required)}
    for position, (name, default) in enumerate(class_._other_arguments.items(), len(required)):
        found[name] = recipe.get_arg(position, name, default)
    return found
