"""Rules: which layers, and what they get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeGuard

from torch import nn

from ..config.low_bit_config import LowBitConfig
from ..short_repr import short_repr
from .bits import Bits
from .bounded_regex import compile_bounded

Match = str | type[nn.Module] | tuple[type[nn.Module], ...]

#: What a text starts with that is a regular expression.
REGEX = "re:"


@dataclass(frozen=True)
class Rule:
    """Layers, and what they get. Of several rules that match a layer the last one decides.

    Args:
        match: a module name ("layer1.0.conv1"); a glob over whole names ("layer3.*", where * passes dots too, ? is any
            character and [ab] one of these); "re:" and a regular expression for the whole name, Python's but for
            references to groups, atomic groups and possessive repeats; or a layer type, or a tuple of them (nn.Conv2d:
            that type exactly, and what `quantize_` makes of it). Case counts.
        config: for `quantize_` a LowBitConfig, or None for layers that stay float; for `set_bits` a Bits, or a tuple
            of weight, activation and (optionally) gradient bits.

    Raises:
        ValueError: an empty match, or one that is no regular expression. TypeError: a match of another type.
    """

    match: Match
    config: LowBitConfig | Bits | tuple[int | None, ...] | None

    def __post_init__(self) -> None:
        if isinstance(self.match, str):
            _check_text(self.match)
            return
        types = self.types
        if not types or not all(isinstance(cls, type) and issubclass(cls, nn.Module) for cls in types):
            raise TypeError(
                "match must be a name, a glob, 're:…', a layer type such as nn.Conv2d or a tuple of them, "
                f"got {self.match!r}"
            )

    @property
    def types(self) -> tuple[type[nn.Module], ...]:
        """The layer types that match, none where `match` is a text."""
        if isinstance(self.match, str):
            return ()
        return self.match if isinstance(self.match, tuple) else (self.match,)

    @property
    def is_name(self) -> bool:
        """Whether `match` is one layer's name, letter by letter."""
        return isinstance(self.match, str) and not self.match.startswith(REGEX) and not set(self.match) & set("*?[")

    def matches(self, name: str) -> bool:
        """Return whether a module's name matches; False where `match` is a type."""
        if not isinstance(self.match, str):
            return False
        if self.match.startswith(REGEX):
            return compile_bounded(self.match.removeprefix(REGEX)).fullmatch(name)
        return name == self.match if self.is_name else fnmatchcase(name, self.match)

    def __str__(self) -> str:
        """Return the match as messages and tables show it."""
        return self.match if isinstance(self.match, str) else ", ".join(cls.__name__ for cls in self.types)


def _check_text(match: str) -> None:
    if match in ("", REGEX):
        raise ValueError(f"match must be a name, a glob such as '*', or 're:…', got {match!r}")
    if match.startswith(REGEX):
        try:
            compile_bounded(match.removeprefix(REGEX))
        except ValueError as error:
            raise ValueError(f"match {short_repr(match)} {error}") from None


def are_rules(given: object) -> TypeGuard[Sequence[object]]:
    """Return whether a value is meant as rules: a list, or a tuple of what looks like rules."""
    if isinstance(given, tuple):
        return all(isinstance(item, Rule) or (isinstance(item, tuple) and len(item) == 2) for item in given)
    return isinstance(given, list)


def as_rules(given: Sequence[object]) -> list[Rule]:
    """Return rules and pairs of match and config as rules.

    Raises:
        ValueError, TypeError: none at all, an item that is no rule, one match twice; naming the rule.
    """
    if not given:
        raise ValueError("the list of rules is empty; a first rule ('*', config) is for all layers")
    rules = [_as_rule(number, item) for number, item in enumerate(given, 1)]
    first: dict[object, int] = {}
    for number, rule in enumerate(rules, 1):
        key = frozenset(rule.types) if rule.types else rule.match
        if key in first:
            raise ValueError(f"rules {first[key]} and {number} have the same match, {rule}; leave one of them out")
        first[key] = number
    return rules


def _as_rule(number: int, item: object) -> Rule:
    if isinstance(item, Rule):
        return item
    if not isinstance(item, tuple) or len(item) != 2:
        raise TypeError(f"rule {number} must be a bitorch.Rule or a pair (match, config), got {item!r}")
    try:
        return Rule(*item)
    except (TypeError, ValueError) as error:
        raise type(error)(f"rule {number}: {error}") from None
