"""Lines that give the codes of thresholds: round(float32(k·D + bias)·scale) + zero for every D that can be reached.

QLinearConv multiplies a sum by one float32 number per channel and rounds half to even, at the speed of 8 bits. So for
each channel a factor k of its weights, an integer bias and a scale are looked for whose staircase is that of the
thresholds, which are integers and leave room. It is proved and not tried out: every step of the formula keeps order, so
codes are equal everywhere if they are on both sides of each threshold and at both ends of what can be reached.

A line goes through the code `zero` where k·D + bias is 0, which the integer bias can only place at multiples of 1/k.
The further off the codes that is, the more such places there are for lines between the same thresholds: 15 thresholds
of a thousand channels leave next to no other choice. It is not free either, as float32 has fewer digits there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_INT32 = 2**31 - 1
#: Codes that lines go through, in the order of trial; all channels of a layer share one.
_ZEROS = (0, 64, 128, 255)
#: Integers beside the bias where a line has most room, that are tried as well.
_BESIDE = (0, -1, 1, -2, 2)
#: Halvings of an interval of slopes; more find nothing that float32 tells apart.
_STEPS = 80


@dataclass(frozen=True)
class Staircases:
    """Codes as numbers of thresholds that are reached, of each channel.

    Attributes:
        thresholds: int64 [C, n], as of kind `thresholds`.
        descending: bool [C].
        low, high: the least and the largest D that can be reached.
        worth: what one code is in the result: 1, or 2 where ±1 is stored as 0 and 2.
        base: the lowest code, before any threshold.
    """

    thresholds: Ints
    descending: NDArray[np.bool_]
    low: int
    high: int
    worth: int = 1
    base: int = 0

    @property
    def levels(self) -> int:
        return int(self.thresholds.shape[1])

    def codes(self, d: Ints) -> Ints:
        """Return the numbers that stand for D, [C, P]."""
        reached = np.where(
            self.descending[:, None, None],
            d[:, :, None] <= self.thresholds[:, None, :],
            d[:, :, None] >= self.thresholds[:, None, :],
        )
        result: Ints = self.worth * (self.base + reached.sum(2))
        return result

    def trimmed(self) -> Staircases:
        """Return those without thresholds that every D passes in all channels, or none: there results are cut off.

        A ReLU in front of a quantizer with a zero point leaves such. One is left in any case.
        """
        rising = self.mirrored()
        always = int((rising.thresholds <= rising.low).all(0).sum())
        never = int((rising.thresholds > rising.high).all(0).sum())
        first = min(always, self.levels - 1)
        end = max(self.levels - never, first + 1)
        return replace(self, thresholds=self.thresholds[:, first:end], base=self.base + first)

    def mirrored(self) -> Staircases:
        """Return those of −D where codes fall, so that all rise."""
        turn = self.descending[:, None]
        low, high = min(self.low, -self.high), max(self.high, -self.low)
        thresholds = np.where(turn, -self.thresholds, self.thresholds)
        rises = np.zeros_like(self.descending)
        return replace(self, thresholds=thresholds, descending=rises, low=low, high=high)

    @property
    def middles(self) -> Floats:
        """Halfway to each code from the one below, [n]."""
        middles: Floats = self.worth * (self.base + np.arange(1, self.levels + 1, dtype=np.float64) - 0.5)
        return middles

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest and the largest result."""
        return self.worth * self.base, self.worth * (self.base + self.levels)


@dataclass(frozen=True)
class Lines:
    """Of each channel a line.

    Attributes:
        factor: int64 [C], of the weights; below 0 where codes fall.
        bias: int64 [C], of the sum.
        scale: float32 [C], above 0.
        zero: what is added behind the rounding, 0 to 255.
    """

    factor: Ints
    bias: Ints
    scale: NDArray[np.float32]
    zero: int = 0

    def value(self, d: Ints) -> Ints:
        """Return what QLinearConv makes of D, [C, P], before it is cut off at 0 and 255."""
        total = (self.factor[:, None] * d + self.bias[:, None]).astype(np.float32)
        value: Ints = np.rint(total * self.scale[:, None]).astype(np.int64) + self.zero
        return value


def proved_lines(staircases: Staircases, most: int) -> Lines | None:
    """Find a line for every channel, or None if there is a channel without one.

    Args:
        most: the largest factor that weights may be multiplied by.
    """
    rising = staircases.mirrored()
    slope, lowest, highest = _widest(rising)
    sign = np.where(staircases.descending, -1, 1)
    for zero in _ZEROS:
        crossing = ((lowest + highest) / 2 - zero) / slope
        found = _all_proved(staircases, rising, crossing, sign, most, zero)
        if found is not None:
            return found
    return None


def _all_proved(
    staircases: Staircases, rising: Staircases, crossing: Floats, sign: Ints, most: int, zero: int
) -> Lines | None:
    """Find lines through one code; `crossing`: where the bias of a factor of 1 would be best."""
    channels = len(sign)
    found = Lines(np.zeros(channels, np.int64), np.zeros(channels, np.int64), np.ones(channels, np.float32), zero)
    is_open = np.ones(channels, bool)
    for factor in range(1, most + 1):
        for beside in _BESIDE:
            tried = _tried(rising, factor, np.rint(factor * crossing) + beside, sign, zero)
            proved = is_open & is_proved(tried, staircases)
            for kept, one in ((found.factor, tried.factor), (found.bias, tried.bias), (found.scale, tried.scale)):
                kept[proved] = one[proved]
            is_open &= ~proved
            if not is_open.any():
                return found
    return None


def _tried(rising: Staircases, factor: int, wanted: Floats, sign: Ints, zero: int) -> Lines:
    """The line through `zero` at −bias/factor, with the scale in the middle of those that pass all thresholds."""
    reach = factor * max(abs(rising.low), abs(rising.high))
    bias = np.clip(wanted, reach - _INT32, _INT32 - reach)
    t = rising.thresholds.astype(np.float64)
    above = factor * np.clip(t, rising.low, rising.high) + bias[:, None]
    below = factor * np.clip(t - 1, rising.low, rising.high) + bias[:, None]
    # above·scale is to be beyond the middle between two codes, and below·scale is not.
    middle = rising.middles - zero
    with np.errstate(divide="ignore"):
        at_above, at_below = middle / above, middle / below
    at_least = [np.where(above > 0, at_above, np.inf), np.where(below < 0, at_below, np.inf)]
    at_most = [np.where(above < 0, at_above, np.inf), np.where(below > 0, at_below, np.inf)]
    never, always, is_high = t > rising.high, t <= rising.low, middle > 0
    least = np.where(is_high, np.where(never, 0, at_least[0]), np.where(always, 0, at_least[1])).max(1)
    most = np.where(is_high, np.where(always, np.inf, at_most[1]), np.where(never, np.inf, at_most[0])).min(1)
    scale = np.where(np.isinf(most), 2 * np.maximum(least, 1), (least + most) / 2)
    scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
    return Lines(sign * factor, bias.astype(np.int64), np.minimum(scale, 2.0**100).astype(np.float32), zero)


@dataclass(frozen=True)
class FloatLines:
    """Of each channel round((float32(D) + offset) / step), both float32 [C]; step is below 0 where codes fall."""

    offset: NDArray[np.float32]
    step: NDArray[np.float32]

    def value(self, d: Ints) -> Ints:
        """Return what QuantizeLinear makes of D, [C, P], before it is cut off at 0 and 255."""
        total = d.astype(np.float32) + self.offset[:, None]
        value: Ints = np.rint(np.clip(total / self.step[:, None], -1e6, 1e6)).astype(np.int64)
        return value


def proved_float_lines(staircases: Staircases) -> FloatLines | None:
    """Find a line of float32 for every channel, which needs no factor; None if there is a channel without one."""
    slope, lowest, highest = _widest(staircases.mirrored())
    sign = np.where(staircases.descending, -1, 1)
    offset = sign * (lowest + highest) / 2 / slope
    found = FloatLines(offset.astype(np.float32), (sign / slope).astype(np.float32))
    return found if bool(is_proved(found, staircases).all()) else None


def is_proved(lines: Lines | FloatLines, staircases: Staircases) -> NDArray[np.bool_]:
    """Say of each channel whether its line gives the staircase's codes for every D that can be reached."""
    above = staircases.thresholds
    next_to = np.where(staircases.descending[:, None], above + 1, above - 1)
    ends = np.broadcast_to([staircases.low, staircases.high], (len(above), 2))
    d = np.clip(np.concatenate([above, next_to, ends], axis=1), staircases.low, staircases.high)
    value = np.clip(np.clip(lines.value(d), 0, 255), *staircases.ends)
    equal: NDArray[np.bool_] = (value == staircases.codes(d)).all(1)
    return equal


def _widest(rising: Staircases) -> tuple[Floats, Floats, Floats]:
    """Return the slope of each channel that leaves most room, and between which ordinates its lines lie.

    A line a·D + c passes on the right side of each threshold T_j if a·T_j + c is above the middle between both codes,
    and a·(T_j − 1) + c below. The room for c at a slope is concave in it, so that halving finds the largest.
    """
    middle = rising.middles
    t = rising.thresholds.astype(np.float64)
    is_met = (t > rising.low) & (t <= rising.high)
    never, always = t > rising.high, t <= rising.low
    # What is never reached bounds the line at the upper end, what always is at the lower one.
    above_at = np.where(is_met, t, float(rising.low))
    below_at = np.where(is_met, t - 1, float(rising.high))

    def ordinates(a: Floats) -> tuple[Floats, Floats]:
        lowest = np.where(never, -np.inf, middle - a[:, None] * above_at).max(1)
        highest = np.where(always, np.inf, middle - a[:, None] * below_at).min(1)
        bounded_low = np.where(np.isinf(lowest), highest - 1, lowest)
        return bounded_low, np.where(np.isinf(highest), bounded_low + 1, highest)

    def room(a: Floats) -> Floats:
        lowest, highest = ordinates(a)
        return highest - lowest

    left = np.full(len(t), 2.0**-24)
    right = np.full(len(t), 2.0 * rising.worth * rising.levels)
    for _ in range(_STEPS):
        third = (right - left) / 3
        rises = room(left + third) < room(right - third)
        left, right = np.where(rises, left + third, left), np.where(rises, right, right - third)
    slope = (left + right) / 2
    return slope, *ordinates(slope)
