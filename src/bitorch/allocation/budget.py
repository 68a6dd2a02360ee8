"""What a model may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: A tick of a hundred nanoseconds, in which milliseconds are counted, is finer than any two measurements agree.
_TICKS = 10_000


@dataclass(frozen=True)
class Budget:
    """What a model may cost at most, for `allocate`: one of the two.

    Args:
        bytes: of the packed file, header and float layers included.
        milliseconds: of one image in the packed program, on this machine.

    Raises:
        ValueError: none, both, or not above 0. TypeError: bytes that are no int, milliseconds that are no number.
    """

    bytes: int | None = None
    milliseconds: float | None = None

    def __post_init__(self) -> None:
        if (self.bytes is None) == (self.milliseconds is None):
            raise ValueError(
                f"a budget is either bytes or milliseconds, got bytes={self.bytes!r} and "
                f"milliseconds={self.milliseconds!r}"
            )
        if self.bytes is not None and (isinstance(self.bytes, bool) or not isinstance(self.bytes, int)):
            raise TypeError(f"bytes must be an int, got {self.bytes!r}")
        given = self.bytes if self.milliseconds is None else self.milliseconds
        if isinstance(given, bool) or not isinstance(given, int | float):
            raise TypeError(f"milliseconds must be a number, got {given!r}")
        if not 0 < given < math.inf:
            raise ValueError(f"a budget must be above 0 and finite, got {self}")

    @property
    def unit(self) -> str:
        """The name of what is counted: "bytes" or "milliseconds"."""
        return "bytes" if self.milliseconds is None else "milliseconds"

    @property
    def units(self) -> int:
        """The budget in bytes, or in ticks of 100 ns."""
        if self.bytes is not None:
            return self.bytes
        assert self.milliseconds is not None  # as one of the two is given
        return math.floor(self.milliseconds * _TICKS)


def ticks(seconds: float) -> int:
    """Return seconds as ticks of 100 ns."""
    return round(seconds * 1000 * _TICKS)


def amount(units: int, unit: str) -> float:
    """Return bytes as they are, and ticks as milliseconds."""
    return units if unit == "bytes" else units / _TICKS


def amount_text(units: float, unit: str) -> str:
    """Return such as "81,472 bytes" or "0.3182 ms", of an amount."""
    return f"{round(units):,} bytes" if unit == "bytes" else f"{units:.4f} ms"
