"""What a search draws a setting from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..short_repr import short_repr
from ..train.content import Part

#: A drawn number is one that can be read, and the same on machines whose logarithms differ in the last bit.
_DIGITS = 6


def rounded(number: float) -> float:
    """Return a number with six significant digits."""
    return float(f"{number:.{_DIGITS}g}")


@dataclass(frozen=True)
class Reals:
    """Numbers from low to high, evenly, or evenly in their logarithm."""

    low: float
    high: float
    log: bool = False

    def at(self, share: float) -> float:
        """Return the number below which this share of the draws lies; share in [0, 1]."""
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return min(max(rounded(math.exp(low + share * (high - low))), self.low), self.high)
        return min(max(rounded(self.low + share * (self.high - self.low)), self.low), self.high)


@dataclass(frozen=True)
class Integers:
    """Whole numbers from low to high, both included."""

    low: int
    high: int

    def at(self, share: float) -> int:
        """Return the number below which this share of the draws lies; share in [0, 1]."""
        return min(self.low + int(share * (self.high - self.low + 1)), self.high)


@dataclass(frozen=True)
class Choice:
    """Values of any kind, each as often as another."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """Return the value below which this share of the draws lies; share in [0, 1]."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


Distribution = Reals | Integers | Choice
_KINDS = ("uniform", "loguniform", "integers", "choice")


def read_values(part: Part) -> tuple[Any, ...]:
    """Return a list of values, each another one; ValueError, which names the place, for anything else."""
    if not isinstance(part.value, list):
        raise ValueError(
            f"{part.place} must be a list of the values to try, got {short_repr(part.value)}; write [{part.value}]"
        )
    if not part.value:
        raise ValueError(f"{part.place} has no value, which makes a search space without a point; give one at least")
    for index, value in enumerate(part.value):
        if value in part.value[:index]:
            raise ValueError(f"{part.place} has {short_repr(value)} twice; leave one of them out")
    return tuple(part.value)


def read_distribution(part: Part) -> Distribution:
    """Return the distribution that a mapping like `{loguniform: [1.0e-4, 1.0e-2]}` says.

    Raises:
        ValueError: naming the place, what stands there, and the rule.
    """
    kinds = list(part.value) if isinstance(part.value, dict) else []
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        raise ValueError(
            f"{part.place} must be one of {', '.join(_KINDS)} with its values, such as "
            f"{{loguniform: [1.0e-4, 1.0e-2]}}, got {short_repr(part.value)}"
        )
    (kind,) = kinds
    inner = part[kind]
    if kind == "choice":
        return Choice(read_values(inner))
    low, high = _ends(inner, whole=kind == "integers")
    if kind == "integers":
        return Integers(int(low), int(high))
    if kind == "loguniform" and low <= 0:
        raise ValueError(f"{inner.place} must begin above 0, because a logarithm is taken, got {low!r}")
    return Reals(low, high, log=kind == "loguniform")


def _ends(part: Part, *, whole: bool) -> tuple[float, float]:
    items = part.list() if isinstance(part.value, list) else []
    if len(items) != 2:
        raise ValueError(
            f"{part.place} must be the lowest and the highest value, [low, high], got {short_repr(part.value)}"
        )
    low, high = (_end(item, whole=whole) for item in items)
    if not low < high:
        raise ValueError(f"{part.place} must rise from its lowest to its highest value, got {short_repr(part.value)}")
    return low, high


def _end(part: Part, *, whole: bool) -> float:
    if whole:
        return part.integer(-(2**53))
    value = part.value
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 as a text; it wants 1.0e-3
        try:
            value = float(value)
        except ValueError:
            raise part.error("a number") from None
    number = Part(value, part.place).number()
    if not math.isfinite(number):
        raise part.error("a finite number")
    return float(number)
