"""DoReFa-Net: few-bit weights, activations and gradients.

Zhou et al. 2016, "DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with Low Bitwidth Gradients",
https://arxiv.org/abs/1606.06160. Equation numbers are the paper's. Throughout, n = 2^bits − 1 and `round` is half to
even.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from .arithmetic import Arithmetic
from .base import STE, CodeValue, Quantization, as_internal, gradient_inside
from .bits import FLOAT_BITS, check_bits
from .config import config
from .gradients import GradientQuantization, integers_behind, or_one, with_noise_
from .levels import divide, over, sign_plus
from .normalized_tanh import OddCodes, odd_codes
from .own_values import is_as_made

Variant = Literal["bitorch", "paper"]


def _check_variant(variant: str) -> Variant:
    if variant not in get_args(Variant):
        raise ValueError(f"variant must be one of {', '.join(map(repr, get_args(Variant)))}, got {variant!r}")
    return variant  # type: ignore[return-value]  # just checked


class InputDoReFaFunction(STE):
    """BITorch's activation quantizer: round(n·clip(x, 0, 1))/n forward, the unchanged gradient backward."""

    @staticmethod
    def forward(ctx: Any, input_tensor: Tensor, bits: int) -> Tensor:  # type: ignore[override]  # STE with an option
        """Quantize a float tensor of any shape to 2^bits levels in [0, 1]; the dtype stays."""
        x = as_internal(input_tensor, "InputDoReFaFunction")
        if check_bits(bits) == FLOAT_BITS:
            return x.clamp(min=0).to(input_tensor.dtype)
        n = 2**bits - 1
        return divide(x.clamp(0, 1).mul_(n).round_(), n).to(input_tensor.dtype)

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None]:
        """Return the unchanged output gradient, and None for bits."""
        return output_gradient, None


class _UnitCodes(Function):
    """Codes of InputDoReFa. Backward: g·1[0 ≤ x ≤ 1] with clip_gradient, else g."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, n: int, clip_gradient: bool) -> Tensor:
        if clip_gradient:
            ctx.save_for_backward(x)
        return x.clamp(0, 1).mul_(n).round_()

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None, None]:
        for x in ctx.saved_tensors:
            output_gradient = gradient_inside(output_gradient, x, 0, 1)
        return output_gradient, None, None


class _SignCodes(STE):
    """sign⁺(w) with the unchanged gradient."""

    @staticmethod
    def forward(ctx: Any, input_tensor: Tensor) -> Tensor:
        return sign_plus(input_tensor)


class _StraightThroughWeightCodes(Function):
    """Odd codes of a whole weight with the unchanged gradient: tanh and max do not show in backward, as in BITorch."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, n: int) -> Tensor:
        return odd_codes(weight, n)

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None]:
        return output_gradient, None


class WeightDoReFaFunction(STE):
    """BITorch's weight quantizer: 2·round(n·(tanh w / (2·max|tanh w|) + ½))/n − 1, the unchanged gradient backward."""

    @staticmethod
    def forward(ctx: Any, input_tensor: Tensor, n: int) -> Tensor:  # type: ignore[override]  # STE with an option
        """Quantize a float tensor of any shape to the n + 1 levels −1, …, 1, n at least 1; the dtype stays."""
        if n < 1:
            raise ValueError(f"n must be at least 1, as 2^bits − 1 is, got {n}")
        weight = as_internal(input_tensor, "WeightDoReFaFunction")
        if weight.numel() == 0:  # no maximum to divide by, and nothing to divide
            return input_tensor.clone()
        return divide(odd_codes(weight, n), n).to(input_tensor.dtype)

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None]:
        """Return the unchanged output gradient, and None for n."""
        return output_gradient, None


class InputDoReFa(Quantization):
    """Activations to 2^bits levels in [0, 1] (eq. 11).

    Forward: round(n·clip(x, 0, 1)) / n. Codes: 0 … n. Scale: 1/n.
    Backward: g·1[0 ≤ x ≤ 1] with variant="paper"; g everywhere with variant="bitorch", where the layer around it
    cancels the gradient instead.
    At 0: code 0, and zero padding is exact. At 1 bit: 0 below and at ½ (ties go to even), 1 above. All zeros: zeros.
    NaN stays NaN, ±inf saturates. bits=32: ReLU, without a grid.

    Args:
        bits: 1…8, or 32 for none; None takes `bitorch.quantizations.config.config.dorefa_bits`.
        variant: "bitorch" or "paper", the gradient above.

    Raises:
        ValueError, TypeError: bits or variant outside the set; an input that is not floating point.
    """

    name = "inputdorefa"
    bit_width = config.dorefa_bits
    unsigned = True

    def __init__(self, bits: int | None = None, *, variant: Variant = "bitorch") -> None:
        super().__init__()
        self.bit_width = check_bits(config.dorefa_bits if bits is None else bits)
        self.variant = _check_variant(variant)

    @property
    def max_code(self) -> int | None:
        return None if self.bit_width == FLOAT_BITS else 2**self.bit_width - 1

    @property
    def clips_negative(self) -> bool:
        return True

    def arithmetic(self) -> Arithmetic | None:
        return None if self.max_code is None else Arithmetic("unit", self.bit_width)

    def set_bits_(self, bits: int) -> None:
        self.bit_width = check_bits(bits)

    def codes(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().codes(x)
        codes: Tensor = _UnitCodes.apply(as_internal(x, "InputDoReFa"), self.max_code, self.variant == "paper")
        return codes

    def scale(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().scale(x)
        return torch.full((), 1 / self.max_code, dtype=as_internal(x, "InputDoReFa").dtype, device=x.device)

    def quantize(self, x: Tensor) -> Tensor:
        """Quantize a float tensor of any shape; see the class for the formula."""
        if self.max_code is None:
            return F.relu(x)
        # A division rounds codes/n correctly; a scale that a subclass defines is multiplied.
        step = None if is_as_made(self, InputDoReFa, "scale") else self.scale(x)
        value: Tensor = CodeValue.apply(self.codes(x), self.max_code, step)
        return value.to(x.dtype)

    def extra_repr(self) -> str:
        return f"bits={self.bit_width}, variant={self.variant!r}"


class WeightDoReFa(Quantization):
    """Weights to 2^bits levels, symmetric and without zero (eq. 7–10). Statistics run over the whole tensor.

    With per_channel=True they run over each output channel (dim 0) alone: the scaled binary weights of BWN and XNOR-Net
    (Rastegari et al. 2016, https://arxiv.org/abs/1603.05279) at 1 bit, α_c = mean|w_c|, and eq. 9 with a maximum of its
    own for each channel from 2 bits on.

    variant="paper":
      1 bit (eq. 7, 8): E·sign⁺(w) with E = mean|w|. Codes ±1, scale E. Backward: g, E being a constant.
      2…8 bits (eq. 9, 10): 2·round(n·(tanh w / (2·max|tanh w|) + ½))/n − 1. Codes: the odd integers −n … n, scale 1/n.
      Backward: the chain rule through tanh and max; only the rounding passes its gradient straight through. Where
      several weights share the maximum they share its gradient evenly.
    variant="bitorch": eq. 9 at every bit width, also 1 (so ±1 without E), and the backward is g.

    At 0: sign⁺(0) = +1 in the paper's 1-bit form. Eq. 9 has no zero level and puts 0 on a tie: half to even gives −1 at
    1 bit and +1/n from 2 bits on. All zeros: that same level (times E = 0 in the paper's 1-bit form), and finite
    gradients.
    NaN stays NaN; ±inf saturates in eq. 9 and makes E infinite in eq. 8. bits=32: unchanged, without a grid.

    Args:
        bits: 1…8, or 32 for none; None takes `bitorch.quantizations.config.config.dorefa_bits`.
        variant: "bitorch" or "paper", see above.
        per_channel: statistics for each output channel; only with variant="paper".

    Raises:
        ValueError, TypeError: bits or variant outside the set; per_channel with variant="bitorch"; a weight that is not
            floating point.
    """

    name = "weightdorefa"
    bit_width = config.dorefa_bits
    is_pointwise = False

    def __init__(self, bits: int | None = None, *, variant: Variant = "bitorch", per_channel: bool = False) -> None:
        super().__init__()
        self.bit_width = check_bits(config.dorefa_bits if bits is None else bits)
        self.variant = _check_variant(variant)
        if per_channel and variant != "paper":
            raise ValueError('per_channel=True needs variant="paper"; BITorch has one maximum for the whole weight')
        self.per_channel = per_channel

    def set_bits_(self, bits: int) -> None:
        self.bit_width = check_bits(bits)

    @property
    def max_code(self) -> int | None:
        return None if self.bit_width == FLOAT_BITS else 2**self.bit_width - 1

    @property
    def _max_value(self) -> int | None:
        """BITorch's name of `max_code`."""
        return self.max_code

    @property
    def _is_mean_scaled(self) -> bool:
        return self.bit_width == 1 and self.variant == "paper"

    def codes(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().codes(x)
        weight = as_internal(x, "WeightDoReFa")
        codes: Tensor
        if self._is_mean_scaled:
            codes = _SignCodes.apply(weight)
        elif x.numel() == 0:  # no maximum to divide by, and nothing to divide
            codes = weight
        elif self.variant == "paper":
            codes = OddCodes.apply(weight, self.max_code, self.per_channel)
        else:
            codes = _StraightThroughWeightCodes.apply(weight, self.max_code)
        return codes

    def scale(self, x: Tensor) -> Tensor:
        if self.max_code is None:
            return super().scale(x)
        weight = as_internal(x.detach(), "WeightDoReFa")
        if self._is_mean_scaled and x.numel() > 0:
            return (
                weight.abs().mean(tuple(range(1, x.dim())), keepdim=True) if self.per_channel else weight.abs().mean()
            )
        return torch.full((), 1 / self.max_code, dtype=weight.dtype, device=x.device)

    def quantize(self, x: Tensor) -> Tensor:
        """Quantize a float weight of any shape; see the class for the formula."""
        if self.max_code is None:
            return x
        is_a_step = self._is_mean_scaled or not is_as_made(self, WeightDoReFa, "scale")
        value: Tensor = CodeValue.apply(self.codes(x), self.max_code, self.scale(x) if is_a_step else None)
        return value.to(x.dtype)

    def extra_repr(self) -> str:
        per_channel = ", per_channel=True" if self.per_channel else ""
        return f"bits={self.bit_width}, variant={self.variant!r}{per_channel}"


class GradientDoReFa(GradientQuantization):
    """Gradients to 2^bits levels per sample, with noise that makes the rounding unbiased (eq. 12).

    Forward: the identity.
    Backward: f(g) = 2m·(round(n·clip(g/(2m) + ½ + N, 0, 1))/n − ½), m = max|g| over all axes but the first, which is
    the batch, and N = U(−½, ½)/n drawn per element. So E[f(g)] = g.
    The levels are m·(2i − n)/n, i = 0 … n. There is no zero level: a zero in a sample not all zero becomes ±m/n.
    At 1 bit: ±m. An all-zero sample (also one whose m is below 2^-120) stays exactly zero. NaN or inf in a sample makes
    that sample NaN. bits=32: the gradient passes unchanged.
    Behind a low-bit layer, an x86-64 CPU with AVX2 computes the backward pass on the codes as integers, which is faster
    than on floats (docs/training-speed.md). Elsewhere few-bit gradients are emulated, and training is no faster.

    Args:
        bits: 1…8, or 32 for none.
        noise: False leaves N out: f becomes deterministic, and biased.
        generator: source of the noise; None takes PyTorch's global one of the gradient's device. torch.compile cannot
            trace a generator object.

    Raises:
        ValueError, TypeError: bits outside the set; an input without a batch axis or not floating point.
    """

    name = "gradientdorefa"

    def _grid(self, largest: Tensor) -> tuple[Tensor, int, int]:
        n = 2**self.bit_width - 1
        return divide(largest, n), 2, n

    def _rounded(self, gradient: Tensor, largest: Tensor, drawn: Tensor | None, out: Tensor | None) -> Tensor:
        """Return (2i − n)/2. With m the maximum, y = g·n/(2m), V = n·N: i = round(y + n/2 + V), 0 … n.

        With noise that is ⌊y + V⌋ + ½, n being odd. Without noise ties are common (g = 0 is one), so there the sum is
        rounded half to even as it stands.
        """
        n = 2**self.bit_width - 1
        y = torch.mul(gradient, over(n / 2, or_one(largest)), out=out)
        if drawn is None:
            return y.add_(n / 2).round_().sub_(n / 2)
        with_noise_(y, drawn).floor_().add_(0.5)
        # |y| is n/2 and two roundings at most, |V| ½ − 2^-16: with 8 bits the sum may be rounded to (n + 1)/2.
        return y if self.bit_width < 8 else y.clamp_(-n / 2, n / 2)

    def gradient_codes(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return i, int8 of the gradient's shape, and m, [batch, 1, …]: f(g) = (2i + 1)·m/n, i = −(n+1)/2 … (n−1)/2.

        Of a sample with NaN or inf m is NaN, and i anything.
        """
        return integers_behind(self, gradient, 0.5)
