"""Bits that a converted layer is to have."""

from __future__ import annotations

from dataclasses import dataclass

from ..quantizations.bits import check_bits


@dataclass(frozen=True)
class Bits:
    """Bits of a low-bit layer, for `set_bits`.

    Args:
        weight, activation, gradient: 1…8, 32 for none, or None to leave them as they are.

    Raises:
        ValueError, TypeError: bits outside the set, or nothing but None.
    """

    weight: int | None = None
    activation: int | None = None
    gradient: int | None = None

    def __post_init__(self) -> None:
        given = {field: value for field, value in vars(self).items() if value is not None}
        if not given:
            raise ValueError("Bits() would change nothing; give weight, activation or gradient")
        for field, value in given.items():
            object.__setattr__(self, field, check_bits(value, field))
