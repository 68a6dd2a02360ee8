"""Activations over a range that a few batches have shown, and that then stays."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .base import as_internal, gradient_inside
from .range_fit import Fit, fit_unsigned, fit_with_offset
from .ranges import RangeQuantization, codes_at, position


class _CalibratedCodes(Function):
    """Codes over a fixed range. Backward: g where x lies in it, bounds included, else 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, width: Tensor, zero: Tensor | None, n: int) -> Tensor:
        ctx.save_for_backward(x, width, zero)
        ctx.n = n
        return codes_at(position(x, width, zero, n), zero, n)

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None, None, None]:
        x, width, zero = ctx.saved_tensors
        u = position(x, width, zero, ctx.n)
        return gradient_inside(output_gradient, u, 0, 1), None, None, None


class InputCalibrated(RangeQuantization):
    """Activations to 2^bits levels over a fixed range; see `RangeQuantization` for the formula and the arguments.

    Backward: g·1[0 ≤ u ≤ 1], and the range gets no gradient. `fit_` sets it once: from 0 up where no input is negative,
    else from about the least input to about the largest, shifted by less than half a step so that 0.0 is a level.
    """

    name = "calibrated"

    def __init__(self, bits: int, *, calibration: str = "mse", percentile: float = 99.9) -> None:
        super().__init__(bits, calibration=calibration, percentile=percentile)
        self.register_buffer("range_width", torch.tensor(float("nan")))
        self.register_buffer("range_zero", torch.tensor(0.0))

    range_width: Tensor
    range_zero: Tensor

    def width(self) -> Tensor:
        return self.range_width

    def zero(self) -> Tensor:
        return self.range_zero.round()

    def fitted(self, x: Tensor, n: int) -> Fit:
        fit = fit_with_offset if bool((x < 0).any()) else fit_unsigned
        return fit(x, n, self.calibration, self.percentile)

    def take_(self, fit: Fit, n: int) -> None:
        self.range_width.fill_(fit.width)
        self.range_zero.fill_(fit.zero)

    def rescale_(self, old: int, new: int) -> None:
        self.range_zero.mul_(new / old)  # not rounded, so that it comes back with the bits

    def codes(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().codes(x)
        self._check_set()
        x = as_internal(x, "InputCalibrated")
        zero = self.zero().to(x.dtype) if self._is_offset else None
        codes: Tensor = _CalibratedCodes.apply(x, self.range_width.to(x.dtype), zero, self.max_code)
        return codes
