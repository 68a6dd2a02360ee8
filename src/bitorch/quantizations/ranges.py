"""What the activation quantizers with a range of their own share: calibrated, PACT, LSQ and LSQ+."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .arithmetic import Arithmetic
from .base import CodeValue, Quantization, as_internal
from .bits import FLOAT_BITS, check_bits
from .range_fit import SMALLEST, Fit, check_calibration, fit_with_offset

#: Bits of the grid that a range is found for while the quantizer is switched off.
FINEST = 8


class RangeQuantization(Quantization):
    """Base of activation quantizers to 2^bits levels over a range that was learned or observed.

    With n = 2^bits − 1, a width α > 0 (from the lowest level to the highest) and a zero point z in 0 … n:

        u = x/α + z/n,   stored code q = round(n·clip(u, 0, 1)),   code q − z,   value (q − z)·α/n

    so 0.0 is a level, zero padding is exact, and a layer computes on integers. At 1 bit: two levels. All zeros: zeros.
    NaN stays NaN, ±inf saturates. bits=32: no grid; the identity, or ReLU where negative numbers are clipped anyway.

    A subclass says where its range is, `width` and `zero`, takes one that was found, `take_`, defines `codes`, with the
    gradients (`base.codes_of`), and where a range does not depend on the bits alone `rescale_`; `fitted` says how it is
    found. With codes of another formula it defines `arithmetic`.

    The range is unset at first, and quantizing is an error until `fit_` (`bitorch.calibrate` calls it) or a state_dict
    has set it. A state_dict without it, of a float model, loads with strict=True and leaves it as it is.

    Args:
        bits: 1…8, or 32 for none.
        calibration: how `fit_` finds the range: "mse", the least mean squared error, or "percentile".
        percentile: share of the inputs, in percent, that the range holds; above 50, at most 100.

    Raises:
        ValueError, TypeError: bits, calibration or percentile outside their sets; an input that is not floating point.
    """

    unsigned = True
    #: Whether training may move the zero point; where it may not and is 0, nothing is added.
    moves_zero: bool = False

    def __init__(self, bits: int, *, calibration: str = "mse", percentile: float = 99.9) -> None:
        super().__init__()
        self.bit_width = check_bits(bits)
        self.calibration = check_calibration(calibration, percentile)
        self.percentile = percentile
        self._is_set = False
        #: Whether the zero point may differ from 0; a Python value, so that a compiled graph does without the addition.
        self._is_offset = False
        #: The bits that the range belongs to; kept in the state_dict, because a step depends on them.
        self.register_buffer("range_bits", torch.tensor(min(self.bit_width, FINEST), dtype=torch.uint8))

    range_bits: Tensor

    @property
    def is_set(self) -> bool:
        """Whether the range is known."""
        return self._is_set

    @property
    def max_code(self) -> int | None:
        return None if self.bit_width == FLOAT_BITS else 2**self.bit_width - 1

    def levels(self) -> int:
        """Return n of the bits that the range belongs to."""
        return (1 << int(self.range_bits)) - 1

    def width(self) -> Tensor:
        """Return α, a 0-dim tensor without gradient."""
        raise NotImplementedError(f"{type(self).__name__} does not define width()")

    def zero(self) -> Tensor:
        """Return z, a 0-dim float tensor without gradient that holds an integer."""
        raise NotImplementedError(f"{type(self).__name__} does not define zero()")

    def fitted(self, x: Tensor, n: int) -> Fit:
        """Return the grid for numbers that were seen, [count]: from about the least to about the largest, with a 0."""
        return fit_with_offset(x, n, self.calibration, self.percentile)

    def take_(self, fit: Fit, n: int) -> None:
        """Store a grid in the parameters or buffers."""
        raise NotImplementedError(f"{type(self).__name__} does not define take_(fit, n)")

    def rescale_(self, old: int, new: int) -> None:
        """Change parameters and buffers from n = old to n = new, the range being the same."""

    def fit_(self, x: Tensor) -> None:
        """Set the range by numbers that were seen, any shape.

        Raises:
            ValueError: none were seen, some are not finite, or the range collapses because all are about 0 (or, for
                quantizers that clip them, below); the range is then as before.
        """
        if x.numel() == 0:
            raise ValueError("there are no inputs to find a range for")
        seen = as_internal(x.detach(), type(self).__name__).flatten().float()
        if not bool(seen.isfinite().all()):
            raise ValueError("some inputs are NaN or infinite, so there is no range for them")
        bits = FINEST if self.bit_width == FLOAT_BITS else self.bit_width
        fit = self.fitted(seen, 2**bits - 1)
        self.range_bits.fill_(bits)
        self.take_(fit, 2**bits - 1)
        self._mark_set()

    def _mark_set(self) -> None:
        self._is_set = True
        self._is_offset = self.moves_zero or bool(self.zero() != 0)

    def set_bits_(self, bits: int) -> None:
        self.bit_width = check_bits(bits)
        self._follow_bits()

    def _follow_bits(self) -> None:
        """Bring the range to the bits in force, if it belongs to others; without a grid it waits."""
        old, new = int(self.range_bits), self.bit_width
        if self._is_set and new not in (FLOAT_BITS, old):
            self.rescale_(2**old - 1, 2**new - 1)
            self.range_bits.fill_(new)
            self._mark_set()

    def zero_point(self) -> int:
        return int(self.zero()) if self._is_offset else 0

    def scale(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().scale(x)
        self._check_set()
        return self.width().to(as_internal(x, type(self).__name__).dtype) / self.max_code

    def arithmetic(self) -> Arithmetic | None:
        if self.max_code is None or self.not_ready() is not None:
            return None
        zero = self.zero_point()
        return Arithmetic(
            "unit",
            self.bit_width,
            divide=self.width(),
            plus=None if zero == 0 else self.zero() / self.max_code,
            zero_point=zero,
            step=self.scale(torch.zeros(1)),
        )

    def not_ready(self) -> tuple[str, str] | None:
        if not self._is_set:
            return f"the range of {self} is not set", "Call bitorch.calibrate(model, batches), or load it"
        width = self.width()
        if not bool((width > 2 * SMALLEST * self.levels()) & width.isfinite()):
            return (
                f"the range of {self} has collapsed to zero in training",
                "Train on from an earlier checkpoint with a lower learning rate, or calibrate again",
            )
        return None

    def _check_set(self) -> None:
        if not self._is_set:
            raise RuntimeError(
                f"the range of {type(self).__name__} is not set; call bitorch.calibrate(model, batches) with a few "
                "batches of inputs, or load a checkpoint that has it"
            )

    def quantize(self, x: Tensor) -> Tensor:
        """Quantize a float tensor of any shape; see the class for the formula."""
        if self.max_code is None:
            return F.relu(x) if self.clips_negative else x
        codes = self.codes(x)
        value: Tensor = CodeValue.apply(codes, self.max_code, self.scale(x))
        return value.to(x.dtype)

    def _loaded(self) -> None:
        self._is_set = bool(self.width().isfinite())
        if self._is_set:
            self._mark_set()
            self._follow_bits()

    def extra_repr(self) -> str:
        how = self.calibration if self.calibration == "mse" else f"{self.calibration} {self.percentile:g}"
        return f"bits={self.bit_width}, calibration={how}"

    def limits(self) -> tuple[float, float]:
        """Return the lowest and the highest level; ordinary floats, for people."""
        n = self.levels()
        step, zero = float(self.width()) / n, self.zero_point()
        return 0.0 - zero * step, (n - zero) * step


def at_least_smallest(x: Tensor) -> Tensor:
    """Return x in the internal dtype, but SMALLEST where it is less (negative, too); NaN stays."""
    # The number itself: with dynamic=True torch.compile takes a float that has a name for an input, and fails.
    return as_internal(x.detach(), "a range").clamp(min=2.0**-60)


def position(x: Tensor, width: Tensor, zero: Tensor | None, n: int) -> Tensor:
    """Return u = x/α + z/n in a new tensor. The deployed network computes the same roundings."""
    u = x / width
    return u if zero is None else u.add_(zero / n)


def codes_at(u: Tensor, zero: Tensor | None, n: int) -> Tensor:
    """Return round(n·clip(u, 0, 1)) − z, in place of u."""
    q = u.clamp_(0, 1).mul_(n).round_()
    return q if zero is None else q.sub_(zero)
