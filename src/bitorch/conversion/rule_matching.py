"""Which rule decides on which layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from ..layers.low_bit import Converted
from .convertible import low_bit_class, supported
from .rules import Rule
from .suggestions import listed, nearest


def deciding_rules(
    rules: Sequence[Rule], model: nn.Module, layers: Mapping[str, nn.Module], others: Mapping[str, str], remedy: str
) -> dict[str, int]:
    """Return the index of the last rule that matches each layer, by name; a layer that no rule matches is left out.

    A module that stands in several places matches by any of its names, and a part of a layer, such as a projection of
    QMultiheadAttention, also by name and type of that layer.

    Args:
        layers: the layers that rules decide on, by their first names.
        others: why the model's other layers with a weight are not among them, by name.
        remedy: what a message says to somebody whose rule matches others only.

    Raises:
        ValueError: a rule that matches no layer, or none that later rules leave to it; naming the rule.
    """
    known = _addresses(model)
    matched = [[name for name, layer in layers.items() if known[layer].matches(rule)] for rule in rules]
    for index, (rule, found) in enumerate(zip(rules, matched, strict=True)):
        if not found:
            raise ValueError(f"{titled(rules, index)} {_why_nothing(rule, model, layers, others, remedy)}")
    decided = {name: index for index, found in enumerate(matched) for name in found}
    for index, found in enumerate(matched):
        by = sorted({decided[name] for name in found})
        if index not in by:
            later = " and ".join(titled(rules, other) for other in by)
            raise ValueError(
                f"{titled(rules, index)} is overruled everywhere by {later}, because later rules win; "
                "move it behind, or leave it out"
            )
    return decided


def titled(rules: Sequence[Rule], index: int) -> str:
    """Return how messages call a rule: by its number, from 1, and its match."""
    return f"rule {index + 1} ({rules[index]})"


@dataclass
class _Address:
    """The names and types that a module goes by."""

    names: list[str] = field(default_factory=list)
    types: set[object] = field(default_factory=set)

    def matches(self, rule: Rule) -> bool:
        return any(cls in self.types for cls in rule.types) or any(rule.matches(name) for name in self.names)


def _addresses(model: nn.Module) -> dict[nn.Module, _Address]:
    addresses = {module: _Address() for module in model.modules()}
    for name, module in model.named_modules(remove_duplicate=False):
        for part in module.modules() if isinstance(module, Converted) else [module]:
            addresses[part].names.append(name)
            addresses[part].types |= {type(module), getattr(module, "_float_class", None)}
    return addresses


def _why_nothing(
    rule: Rule, model: nn.Module, layers: Mapping[str, nn.Module], others: Mapping[str, str], remedy: str
) -> str:
    """Return why a rule matches none of the layers, and what to do."""
    if rule.types:
        return _why_no_type(rule, layers)
    by_name = dict(model.named_modules(remove_duplicate=False))
    seen = [f"{name}: {reason}" for name, reason in others.items() if rule.matches(name)]
    if seen:
        return f"matches only what it cannot change ({listed(seen)}); {remedy}"
    inside = [name for name in layers if name.startswith(f"{rule.match}.")]
    if rule.match in by_name and inside:
        kind = type(by_name[str(rule.match)]).__name__
        return f"names a {kind}, not a layer; '{rule.match}.*' matches the layers in it: {listed(inside)}"
    return f"matches no layer; {nearest(str(rule.match), list(layers))}"


def _why_no_type(rule: Rule, layers: Mapping[str, nn.Module]) -> str:
    unknown = [cls.__name__ for cls in rule.types if low_bit_class(cls) is None and not issubclass(cls, Converted)]
    if unknown:
        return f"is for {', '.join(unknown)}, which cannot be converted; supported are {supported()}"
    kinds = sorted({type(layer).__name__ for layer in layers.values()})
    return f"matches no layer; the model's layers are of type {', '.join(kinds)}"
