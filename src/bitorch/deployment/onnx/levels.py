"""Quantizers of activations, as file formats for quantized nets say them: a scale, a zero point, bits, or a sign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...quantizations.arithmetic import is_sign

#: Two scales this near to each other are one, rounded twice.
_SAME = 2.0**-20
#: n·plus is a whole number but for its roundings.
_WHOLE = 1e-3

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Levels:
    """What a quantizer computes: u = x/divide + plus, then clip(round(u/scale) + zero, low, high), or a sign.

    Attributes:
        form: "levels"; "sign", +1 for u ≥ 0 and else −1; or "heaviside", +1 for u > 0.
        bits: of the codes.
        is_signed: whether they go from −2^(bits−1); else from 0.
        divide, plus: [1] or [C], None for nothing.
        scale: what codes are found with, float32.
        zero: the code that 0.0 becomes.
        worth: what one code stands for, float32.
        worth_zero: the code that stands for 0.0.
    """

    form: str
    bits: int
    is_signed: bool
    divide: Floats | None
    plus: Floats | None
    scale: np.float32
    zero: int
    worth: np.float32
    worth_zero: int

    @property
    def is_sign(self) -> bool:
        return self.form != "levels"

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the largest code."""
        if self.is_sign:
            return -1, 1
        lowest = -(2 ** (self.bits - 1)) if self.is_signed else 0
        return lowest, lowest + 2**self.bits - 1

    @property
    def is_plain(self) -> bool:
        """Whether codes stand for what they were found with."""
        return self.is_sign or (self.scale == self.worth and self.zero == self.worth_zero)

    def value(self, stored: int) -> float:
        """What a stored code stands for, as pad_code has it: 0 … 2^bits − 1, or ±1."""
        if self.is_sign:
            return float(stored * self.worth)
        return float((stored + self.bounds[0] - self.worth_zero) * self.worth)

    def key(self) -> tuple[object, ...]:
        """What is equal of equal ones."""
        arrays = (None if a is None else a.tobytes() for a in (self.divide, self.plus))
        numbers = (self.form, self.bits, self.is_signed, self.zero, self.worth_zero)
        return (*numbers, float(self.scale), float(self.worth), *arrays)


def levels_of(settings: Mapping[str, Any], side: str = "") -> Levels:
    """Return what the settings of a quantizer say.

    Args:
        settings: of a node of kind `quantizer`, `low_bit` or `low_bit_matmul`.
        side: what stands in front of their names: "left_" or "right_" of `low_bit_matmul`.
    """
    form, bits, zero = (settings[side + key] for key in ("form", "bits", "zero_point"))
    divide, plus = (_floats(settings[side + key]) for key in ("divide", "plus"))
    step = settings[side + "code_scale"]
    n = np.float32(2**bits - 1)
    if is_sign(form):
        worth = np.float32(1 if step is None else float(step))
        # A division by what is above 0 changes no sign.
        return Levels(form, 1, True, None if plus is None else divide, plus, np.float32(1), 0, worth, 0)
    worth = np.float32(1) / n if step is None else np.float32(float(step))
    unit = form == "unit"
    width = np.float32(1) if divide is None or divide.size > 1 else divide[0]
    is_asked = divide is None or divide.size == 1
    if is_asked and plus is not None and unit and plus.size == 1 and abs(float(n * plus[0]) - zero) < _WHOLE:
        own, divide, plus = zero, None, None
    elif is_asked and plus is None:
        own, divide = 0 if unit else zero, None
    else:  # u is computed by itself
        own, width = 0 if unit else zero, np.float32(1)
    scale = width / n if unit else width
    scale = worth if abs(scale - worth) <= _SAME * worth else scale
    return _centred(Levels("levels", bits, False, divide, plus, np.float32(scale), own, worth, zero))


def _centred(levels: Levels) -> Levels:
    """Levels with the zero in their middle as signed codes, whose zero is 0, which more tools take."""
    middle = 2 ** (levels.bits - 1)
    if levels.bits == 1 or levels.zero != middle or levels.worth_zero != middle:
        return levels
    codes = (levels.divide, levels.plus, levels.scale, 0, levels.worth, 0)
    return Levels("levels", levels.bits, True, *codes)


def _floats(values: Tensor | None) -> Floats | None:
    return None if values is None else values.detach().numpy().astype(np.float32).reshape(-1)
