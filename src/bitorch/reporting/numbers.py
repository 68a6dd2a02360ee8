"""Numbers as people read them. What is 0 or missing is an empty cell."""

from __future__ import annotations

from collections.abc import Sequence

from .rows import ActivationRange

_PREFIXES = ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def count(value: int) -> str:
    """Return such as "1.92M": three digits."""
    for factor, prefix in _PREFIXES:
        if value >= factor:
            scaled = value / factor
            return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}{prefix}"
    return str(value) if value else ""


def bytes_of(value: int) -> str:
    """Return all digits, in groups of three."""
    return f"{value:,}" if value else ""


def milliseconds(value: float | None) -> str:
    """Return such as "0.0524": what is short has more digits."""
    return "" if value is None else f"{value:.{4 if value < 0.1 else 3}f}"


def percent(share: float | None) -> str:
    """Return such as "12.3%"."""
    return "" if share is None else f"{100 * share:.1f}%"


def shape_text(shape: Sequence[int]) -> str:
    """Return such as "64×3×3×3"."""
    return "×".join(map(str, shape))


def range_text(found: ActivationRange | None) -> str:
    """Return such as "-0.52 … 3.1"."""
    return "" if found is None else f"{found.minimum:.3g} … {found.maximum:.3g}"


def clipped_text(found: ActivationRange | None) -> str:
    """Return such as "12.3% | 0.5%": below and above."""
    if found is None or found.below is None or found.above is None:
        return ""
    return f"{percent(found.below)} | {percent(found.above)}"
