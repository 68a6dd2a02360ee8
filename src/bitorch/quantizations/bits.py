"""The bit widths that exist, and the one check of them."""

from __future__ import annotations

import operator

#: Bits that switch a quantizer off.
FLOAT_BITS = 32
ALLOWED_BITS = (1, 2, 3, 4, 5, 6, 7, 8, FLOAT_BITS)


def check_bits(bits: object, argument: str = "bits") -> int:
    """Return bits as an int, or raise: ValueError for a number outside 1…8 and 32, TypeError for what is no integer."""
    allowed = f"1…8, or {FLOAT_BITS} for none"
    if isinstance(bits, bool):
        raise TypeError(f"{argument} must be an integer ({allowed}), got {bits!r}")
    try:
        number = operator.index(bits)  # type: ignore[arg-type]  # any object may come in; that is what is checked
    except TypeError:
        raise TypeError(f"{argument} must be an integer ({allowed}), got {bits!r}") from None
    if number not in ALLOWED_BITS:
        raise ValueError(f"{argument} must be one of {allowed}, got {number}")
    return number
