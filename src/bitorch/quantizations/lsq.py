"""Learned step sizes: LSQ for weights and activations, LSQ+ for activations with an offset.

Esser et al. 2019, https://arxiv.org/abs/1902.08153; Bhalgat et al. 2020, LSQ+, https://arxiv.org/abs/2004.09576.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .base import Grid, Quantization, as_internal, gradient_inside, sign_plus
from .bits import FLOAT_BITS, check_bits
from .range_fit import SMALLEST, Fit, fit_symmetric, fit_unsigned, fit_with_offset
from .ranges import FINEST, RangeQuantization, RangeValue, at_least_smallest, codes_at, position


class _InputCodes(Function):
    """Codes of activations; gradients as `InputLSQ` has them."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, step: Tensor, offset: Tensor | None, zero: Tensor | None, n: int, factor: float
    ) -> Tensor:
        width = at_least_smallest(step).to(x.dtype) * n
        ctx.save_for_backward(x, width, zero)
        ctx.n, ctx.factor, ctx.dtypes = n, factor, (step.dtype, None if offset is None else offset.dtype)
        return codes_at(position(x, width, zero, n), zero, n)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None, None]:
        x, width, zero = ctx.saved_tensors
        n = ctx.n
        u = position(x, width, zero, n)
        inside = gradient_inside(output_gradient, u, 0, 1)
        # Stored code less n·u where inside: 0 below and n above. Dot products of what is there already, in place of a
        # tensor for each factor; u is clipped first, so that no 0 meets an infinity.
        of_inside = _dot(inside, u.clamp_(0, 1))
        step_gradient = _dot(output_gradient, codes_at(u, None, n)) - n * of_inside
        of_step, of_offset = ctx.dtypes
        offset_gradient = None
        if zero is not None:
            outside = output_gradient.sum() - inside.sum()
            if of_offset is not None:
                offset_gradient = (ctx.factor * outside).to(of_offset)
            else:  # the bounds are −z·s and (n − z)·s, and move with s
                step_gradient = step_gradient - zero * outside
        return inside, (ctx.factor * step_gradient).to(of_step), offset_gradient, None, None, None


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Σ one·other, without a tensor of products where both lie in memory alike."""
    if one.is_contiguous() and other.is_contiguous():
        return torch.dot(one.flatten(), other.flatten())
    if one.dim() == 4 and all(x.is_contiguous(memory_format=torch.channels_last) for x in (one, other)):
        return torch.dot(one.permute(0, 2, 3, 1).flatten(), other.permute(0, 2, 3, 1).flatten())
    return (one * other).sum()


class InputLSQ(RangeQuantization):
    """Activations to 2^bits levels with a learned step, and with offset=True a learned offset (LSQ+).

    LSQ, with step s, code bounds −Q_N … Q_P and y = x/s:

        x̂ = s·round(clip(y, −Q_N, Q_P))
        ∂x̂/∂x = 1[−Q_N ≤ y ≤ Q_P],   ∂x̂/∂s = round(y) − y inside, −Q_N below, Q_P above

    Unsigned, Q_N = 0 and Q_P = n = 2^bits − 1, or signed, Q_N = 2^(bits−1) and Q_P = 2^(bits−1) − 1: `fit_` takes what
    has the smaller error on the inputs seen. At 1 bit always unsigned: 0 and s; a signed range of more bits keeps its
    upper end then, and is signed again when it gets more bits again.

    LSQ+ with offset β and v = (x − β)/s:

        x̂ = s·round(clip(v, 0, n)) + β
        ∂x̂/∂s = round(v) − v inside, 0 below, n above,   ∂x̂/∂β = 1 where clipped, else 0

    Here β is rounded to a multiple of s, the zero point z = clip(round(−β/s), 0, n), so that 0.0 is a level and a layer
    computes on the integers q − z; the gradients pass that rounding straight through.

    Gradients of s and β are multiplied by 1/√(N·Q_P), N numbers in one sample's input. s is the Parameter `step`,
    β the Parameter `offset`, both 0-dim. `fit_` starts both with the range of least error (LSQ+, section 3),
    where LSQ takes 2·mean|x|/√Q_P. A step at 0 or below counts as 2^-60. bits=32: the identity. The rest: see
    `RangeQuantization`.
    """

    name = "lsq"

    def __init__(self, bits: int, *, offset: bool = False, calibration: str = "mse", percentile: float = 99.9) -> None:
        super().__init__(bits, calibration=calibration, percentile=percentile)
        self.step = nn.Parameter(torch.tensor(float("nan")))
        self.offset = nn.Parameter(torch.tensor(0.0)) if offset else None
        if not offset:
            self.register_buffer("range_zero", torch.tensor(0.0))

    range_zero: Tensor

    def width(self) -> Tensor:
        return at_least_smallest(self.step) * (self.levels() if self.max_code is None else self.max_code)

    def scale(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().scale(x)
        self._check_set()
        return at_least_smallest(self.step).to(as_internal(x, "InputLSQ").dtype)

    def zero(self) -> Tensor:
        n = self.levels() if self.max_code is None else self.max_code
        if self.offset is None:  # at 1 bit it only says that the range is signed with more
            return self.range_zero if n > 1 else torch.zeros_like(self.range_zero)
        return (-self.offset.detach() / at_least_smallest(self.step)).round_().clamp_(0, n)

    def _fitted(self, x: Tensor, n: int) -> Fit:
        if self.offset is not None:
            return fit_with_offset(x, n, self.calibration, self.percentile)
        if n == 1 or not bool((x < 0).any()):
            return fit_unsigned(x, n, self.calibration, self.percentile)
        fits = [fit_symmetric(x, n, self.calibration, self.percentile)]
        if bool((x > 0).any()):
            fits.append(fit_unsigned(x, n, self.calibration, self.percentile))
        return min(fits, key=lambda fit: fit.error)

    def _take(self, fit: Fit, n: int) -> None:
        step = fit.width / n
        self.step.data.fill_(step)
        if self.offset is None:
            self.range_zero.fill_(fit.zero)
        else:
            self.offset.data.fill_(-fit.zero * step)

    def _mark_set(self) -> None:
        super()._mark_set()
        self._is_offset = self._is_offset or self.offset is not None  # it may move away from 0

    def _rescale(self, old: int, new: int) -> None:
        factor = old / new
        if self.offset is None and bool(self.range_zero != 0):
            if 1 in (old, new):  # 0 and s: what is left of the range is its upper part
                factor = max(1, old // 2) / max(1, new // 2)
            self.range_zero.fill_((new + 1) // 2)
        self.step.data.mul_(factor)

    def codes(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().codes(x)
        self._check_set()
        x = as_internal(x, "InputLSQ")
        zero = self.zero().to(x.dtype) if self._is_offset else None
        largest = self.max_code
        if self.offset is None and zero is not None:
            largest //= 2
        features = x.numel() // x.shape[0] if x.dim() > 1 and x.shape[0] > 0 else x.numel()
        factor = 1 / math.sqrt(max(1, features) * largest)
        codes: Tensor = _InputCodes.apply(x, self.step, self.offset, zero, self.max_code, factor)
        return codes

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, offset={self.offset is not None}"


class _WeightCodes(Function):
    """Codes of a weight, 0-dim step or [C_out, 1, …]; ∂(code·s)/∂s as of activations."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, step: Tensor, low: int, high: int, factor: float) -> Tensor:
        s = at_least_smallest(step).to(weight.dtype)
        ctx.save_for_backward(weight, s)
        ctx.bounds, ctx.factor, ctx.dtype = (low, high), factor, step.dtype
        return sign_plus(weight) if low == -high else (weight / s).clamp_(low, high).round_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        weight, s = ctx.saved_tensors
        low, high = ctx.bounds
        y = weight / s
        inside = gradient_inside(output_gradient, y, low, high)
        of_inside = inside * y.clamp_(low, high)  # clipped, so that no 0 meets an infinity
        each = (sign_plus(weight) if low == -high else y.round_()).mul_(output_gradient).sub_(of_inside)
        axes = tuple(range(1, weight.dim())) if s.dim() > 0 else tuple(range(weight.dim()))
        step_gradient = each.sum(axes, keepdim=s.dim() > 0).mul_(ctx.factor)
        return inside, step_gradient.to(ctx.dtype), None, None, None


class WeightLSQ(Quantization):
    """Weights to 2^bits levels with a learned step, for the layer or for each output channel (LSQ).

        ŵ = s·round(clip(w/s, −Q_N, Q_P)),   Q_N = 2^(bits−1),   Q_P = 2^(bits−1) − 1
        ∂ŵ/∂w = 1[−Q_N ≤ w/s ≤ Q_P],   ∂ŵ/∂s = round(w/s) − w/s inside, −Q_N below, Q_P above

    The gradient of s is multiplied by 1/√(N·Q_P), N weights that share it. s starts at 2·mean|w|/√Q_P.
    At 1 bit, which the paper has not: ŵ = s·sign⁺(w), Q_N = Q_P = 1, and s starts at mean|w|.
    Codes: −Q_N … Q_P with a zero level (grid "signed"); ±1 at 1 bit (grid "odd"). Scale: s.
    At 0: code 0; +1 at 1 bit. All zeros: the same, and the step starts as for weights of about 1/(2√K), K inputs per
    output, so that they can leave 0; at 1 bit, where no level is 0, it starts at 2^-60. A step at 0 or below counts as
    2^-60. NaN stays NaN, ±inf saturates.
    bits=32: unchanged, without a grid.

    The Parameter `step`, float32, 0-dim or [channels], is set by `initialize_`: a layer does so when it gets the
    quantizer, and when it loads a state_dict without the step, as that of a float model.

    Args:
        bits: 1…8, or 32 for none.
        channels: None for one step; else the number of output channels, dim 0 of the weight.

    Raises:
        ValueError, TypeError: bits outside the set, channels below 1; a weight that is not floating point, or has
            another number of channels.
    """

    name = "weightlsq"

    def __init__(self, bits: int, channels: int | None = None) -> None:
        super().__init__()
        self.bit_width = check_bits(bits)
        if channels is not None and channels < 1:
            raise ValueError(f"channels must be at least 1, or None for one step per layer, got {channels}")
        self.channels = channels
        self.step = nn.Parameter(torch.full(() if channels is None else (channels,), float("nan")))
        #: The bits that the step belongs to; kept in the state_dict.
        self.register_buffer("step_bits", torch.tensor(min(self.bit_width, FINEST), dtype=torch.uint8))
        self._is_set = False

    step_bits: Tensor

    @property
    def grid(self) -> Grid:  # type: ignore[override]  # of the class it is the default
        return "odd" if self.bit_width == 1 else "signed"

    @property
    def max_code(self) -> int | None:
        return None if self.bit_width == FLOAT_BITS else -_bounds(self.bit_width)[0]

    def initialize_(self, weight: Tensor) -> None:
        if weight.device.type == "meta":
            return
        w = as_internal(weight.detach(), "WeightLSQ").float()
        self._check_channels(w)
        if w.numel() == 0:
            return
        sizes = w.abs().mean() if self.channels is None else w.abs().flatten(1).mean(1)
        usual = 0.5 / math.sqrt(math.prod(w.shape[1:]))
        bits = FINEST if self.bit_width == FLOAT_BITS else self.bit_width
        sizes = torch.where(sizes > SMALLEST, sizes, usual if bits > 1 else SMALLEST)
        self.step.data.copy_(sizes * _start(bits))
        self.step_bits.fill_(bits)
        self._is_set = True

    def set_bits_(self, bits: int) -> None:
        """Change the bits; the step changes as its start would, so what was learned stays as a factor."""
        self.bit_width = check_bits(bits)
        self._follow_bits()

    def _follow_bits(self) -> None:
        old, new = int(self.step_bits), self.bit_width
        if self._is_set and new not in (FLOAT_BITS, old):
            self.step.data.mul_(_start(new) / _start(old))
            self.step_bits.fill_(new)

    def _loaded(self) -> None:
        self._is_set = bool(self.step.isfinite().all())
        self._follow_bits()

    def _check_channels(self, weight: Tensor) -> None:
        if self.channels is not None and weight.shape[0] != self.channels:
            raise ValueError(
                f"WeightLSQ has a step for each of {self.channels} channels, but the weight {list(weight.shape)} has "
                f"{weight.shape[0]} in dim 0"
            )

    def _shaped(self, x: Tensor) -> Tensor:
        """The step as it broadcasts against a weight."""
        if not self._is_set:
            raise RuntimeError("WeightLSQ has no step yet; call initialize_(weight), or give it to a layer")
        return self.step if self.channels is None else self.step.view(-1, *[1] * (x.dim() - 1))

    def codes(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().codes(x)
        weight = as_internal(x, "WeightLSQ")
        self._check_channels(weight)
        low, high = _bounds(self.bit_width)
        shared = weight.numel() if self.channels is None else weight[0].numel()
        factor = 1 / math.sqrt(max(1, shared) * _positive(self.bit_width))
        codes: Tensor = _WeightCodes.apply(weight, self._shaped(weight), low, high, factor)
        return codes

    def scale(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().scale(x)
        return at_least_smallest(self._shaped(x)).to(as_internal(x, "WeightLSQ").dtype)

    def quantize(self, x: Tensor) -> Tensor:
        """Quantize a float weight, [C_out, …]; see the class for the formula."""
        if self.max_code is None:
            return x
        value: Tensor = RangeValue.apply(self.codes(x), self.scale(x))
        return value.to(x.dtype)

    def extra_repr(self) -> str:
        return f"bits={self.bit_width}, channels={self.channels}"


def _start(bits: int) -> float:
    """Where a step starts, in units of mean|w|."""
    return 2 / math.sqrt(_positive(bits)) if bits > 1 else 1.0


def _positive(bits: int) -> int:
    """Q_P."""
    return max(1, (1 << bits - 1) - 1)


def _bounds(bits: int) -> tuple[int, int]:
    """−Q_N and Q_P."""
    return (-1, 1) if bits == 1 else (-(1 << bits - 1), (1 << bits - 1) - 1)
