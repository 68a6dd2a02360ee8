"""An affine quantizer as a user writes one: step and zero point are learned, the formula is PyTorch's usual one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bitorch.quantizations import RangeQuantization
from bitorch.quantizations.arithmetic import Arithmetic
from bitorch.quantizations.base import codes_of
from bitorch.quantizations.range_fit import Fit


class Affine(RangeQuantization):
    """x̂ = s·(clip(round(x/s) + z, 0, n) − z)."""

    name = "affine"
    moves_zero = True

    def __init__(self, bits: int, *, calibration: str = "mse", percentile: float = 99.9) -> None:
        super().__init__(bits, calibration=calibration, percentile=percentile)
        self.step = nn.Parameter(torch.tensor(float("nan")))
        self.offset = nn.Parameter(torch.tensor(0.0))

    def width(self) -> Tensor:
        return self.step.detach() * self.levels()

    def zero(self) -> Tensor:
        return self.offset.detach().round().clamp(0, self.levels())

    def scale(self, x: Tensor) -> Tensor:
        return self.step.detach()

    def take_(self, fit: Fit, n: int) -> None:
        self.step.data.fill_(fit.width / n)
        self.offset.data.fill_(fit.zero)

    def rescale_(self, old: int, new: int) -> None:
        self.step.data.mul_(old / new)
        self.offset.data.mul_(new / old)

    def arithmetic(self) -> Arithmetic | None:
        return Arithmetic(
            "round", self.bit_width, divide=self.step, zero_point=self.zero_point(), step=self.scale(self.step)
        )

    def codes(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().codes(x)
        n, zero, y = self.max_code, self.zero(), x / self.step
        codes = (y.detach().round() + zero).clamp(0, n) - zero
        z = self.offset + (zero - self.offset).detach()
        value = ((y + (y.round() - y).detach() + z).clamp(0, n) - z) * self.step
        return codes_of(value, codes)
