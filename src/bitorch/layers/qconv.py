"""Convolutions with quantized weight, input and gradient, in one, two and three dimensions."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..quantizations import Quantization, RangeQuantization
from .config import config
from .deferred_norm import DeferredNorm
from .input_quantizer import quantizer_of
from .integer_kernels import Kernels
from .integer_product import form_of, integer_convolution
from .low_bit import IntegerOperands, Values, WeightQuantized
from .norm_product import normed_convolution
from .products import CONVOLUTIONS, ConvolutionProduct, scaled_convolution
from .qconv_mixin import QConvArgsProviderMixin
from .register import q_conv1d_registry, q_conv2d_registry, q_conv3d_registry

_Size = int | tuple[int, ...]


#: Of a group, that integer kernels are worth while for.
_LEAST_CHANNELS = 16


class _Convolution(WeightQuantized):
    """What all quantized convolutions share: geometry, padding with a value of choice, and BITorch's initialisation."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"]
    bias: Tensor | None
    _pad_value: float
    #: Whether the user has said it, and it is not what goes with the quantizer.
    _is_pad_value_given: bool = False

    def reset_parameters(self) -> None:
        """Initialise the weight with xavier_normal, as BITorch, and the bias with zeros."""
        nn.init.xavier_normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _default_pad_value(self, activation: nn.Module | None) -> float:
        """Return what borders are filled with where the user has not said it."""
        return config.padding_value

    @property
    def pad_value(self) -> float:
        """The value that borders are filled with. It can be set; None is what goes with the quantizer."""
        return self._pad_value

    @pad_value.setter
    def pad_value(self, value: float | None) -> None:
        default = self._default_pad_value(getattr(self, "activation", None))
        new = {"_pad_value": _finite(default if value is None else value), "_is_pad_value_given": value is not None}
        self._exchange(new, self._check_quantizers)

    def _borders(self) -> list[tuple[int, int]]:
        """Return the padding before and after each spatial dimension."""
        if self.padding == "valid":
            return [(0, 0)] * len(self.kernel_size)
        if self.padding == "same":
            totals = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            return [(total // 2, total - total // 2) for total in totals]
        return [(int(p), int(p)) for p in self.padding]

    def _padded(self, x: Tensor, value: float) -> Tensor:
        """Return x with its borders filled: with `value`, or as a padding_mode other than "zeros" says."""
        widths = [width for border in reversed(self._borders()) for width in border]
        if self.padding_mode == "zeros":
            return F.pad(x, widths, value=value) if any(widths) else x
        return F.pad(x, widths, mode=self.padding_mode)

    def _apply_padding(self, x: Tensor) -> Tensor:
        return self._padded(x, self._pad_value)

    def _pad(self, x: Tensor, value: float) -> tuple[Tensor, tuple[int, ...]]:
        """Return the padded x, and the zero padding that is left to the convolution, which can do it without a copy."""
        borders = self._borders()
        if self.padding_mode == "zeros" and value == 0 and all(before == after for before, after in borders):
            return x, tuple(before for before, _ in borders)
        return self._padded(x, value), (0,) * len(borders)

    def _convolve_values(self, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve quantized values, in whatever precision autocast asks for."""
        convolve = CONVOLUTIONS[len(self.kernel_size) - 1]
        x, padding = self._pad(x, self._pad_value)
        return convolve(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _batched(self, x: Tensor) -> bool:
        return x.dim() == len(self.kernel_size) + 2


def _finite(pad_value: float) -> float:
    if not isinstance(pad_value, Real):
        raise TypeError(f"pad_value must be a number, got a {type(pad_value).__name__}")
    if not math.isfinite(pad_value):
        raise ValueError(f"pad_value must be finite, got {pad_value}")
    return float(pad_value)


class _ConvNoAct(_Convolution):
    """A convolution with quantized weight; documented at QConv2d_NoAct."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: _Size | str = 0,
        dilation: _Size = 1,
        groups: int = 1,
        bias: bool = False,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        weight_quantization: Quantization | str | None = None,
        pad_value: float | None = None,
    ) -> None:
        super().__init__(  # the next class in line is nn.Conv1d, 2d or 3d
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )
        self._set_weight_quantization(weight_quantization)
        self._pad_value = 0.0
        self.pad_value = pad_value

    def forward(self, input: Tensor) -> Tensor:
        """Return conv(pad(x), w_q) + b for x of shape [batch, channels, …] or [channels, …]."""
        return self._convolve_values(input, self.weight_quantization(self.weight))


class _Conv(_Convolution, QConvArgsProviderMixin):
    """A convolution with quantized weight, input and gradient; documented at QConv2d."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: _Size | str = 0,
        dilation: _Size = 1,
        groups: int = 1,
        bias: bool = False,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        input_quantization: Quantization | str | None = None,
        weight_quantization: Quantization | str | None = None,
        gradient_cancellation_threshold: float | None = None,
        gradient_quantization: Quantization | None = None,
        pad_value: float | None = None,
        exact: bool = True,
        kernels: Kernels = "auto",
    ) -> None:
        super().__init__(  # the next class in line is nn.Conv1d, 2d or 3d
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )
        self._set_quantization(
            input_quantization=input_quantization,
            weight_quantization=weight_quantization,
            gradient_quantization=gradient_quantization,
            gradient_cancellation_threshold=gradient_cancellation_threshold,
            pad_value=pad_value,
            exact=exact,
            kernels=kernels,
        )

    def _set_quantization(self, *, pad_value: float | None = None, **quantization: object) -> None:
        self._pad_value = 0.0  # a level of every grid, until the input quantizer is known
        super()._set_quantization(**quantization)  # type: ignore[arg-type]  # passed on as they came
        self.pad_value = pad_value

    def _default_pad_value(self, activation: nn.Module | None) -> float:
        assert activation is not None  # these layers have one
        return 0.0 if quantizer_of(activation).unsigned else config.padding_value

    def _is_default_pad_value(self) -> bool:
        return not self._is_pad_value_given and self._pad_value == self._default_pad_value(self.activation)

    def _going_with(self, activation: nn.Module) -> dict[str, Any]:
        return {} if self._is_pad_value_given else {"_pad_value": self._default_pad_value(activation)}

    def _pad_code(self, grid: int) -> int:
        quantizer = self.input_quantization
        if self._pad_value == 0 and quantizer.unsigned:
            return 0
        if isinstance(quantizer, RangeQuantization):
            raise ValueError(
                f"pad_value must be 0 with {type(quantizer).__name__}, whose levels move but keep 0.0; "
                f"got {self._pad_value}"
            )
        code = self._pad_value * grid
        if abs(code - round(code)) > 1e-6 * grid:
            levels = f"multiple of 1/{grid}"
            raise ValueError(
                f"pad_value={self._pad_value} is no {levels}, which the levels of {quantizer} are; "
                f"the nearest is {round(code) / grid:.6g}"
            )
        return round(code)

    def _largest_input_code(self, grid: int) -> int:
        return max(grid, abs(self._pad_code(grid)))

    def _convolve(self, x: Tensor) -> Tensor:
        """Return y, with the gradient quantizer attached, for batched x."""
        integers = self._integer_operands(x)
        if integers is not None:
            return self._convolve_integers(integers)
        operands = self._operands(x)
        if isinstance(operands, Values):
            return self._quantize_gradient(self._convolve_values(*operands))
        grid = self.input_quantization.max_code
        pad_code = float(self._pad_code(grid)) if grid is not None else 0.0
        q, padding = self._pad(operands.input, pad_code)
        product = ConvolutionProduct(self.stride, padding, self.dilation, self.groups)
        rounding = self._rounding()
        y = scaled_convolution(*operands._replace(input=q), product, self.bias, rounding).to(self.weight.dtype)
        return y if rounding is not None else self._quantize_gradient(y)

    def _convolve_integers(self, operands: IntegerOperands) -> Tensor:
        grid = self.input_quantization.max_code
        assert grid is not None  # there are codes
        is_value = operands.form.low is None
        x, padding = self._pad(operands.input, self._pad_value if is_value else float(self._pad_code(grid)))
        product = ConvolutionProduct(self.stride, padding, self.dilation, self.groups)
        if operands.gradient is not None:
            y = integer_convolution(operands._replace(input=x), product, self.bias, self._gradient_quantizer())
            return y.to(self.weight.dtype)
        rounding, sums = self._rounding(), form_of(operands, product).sums
        codes = operands.codes()._replace(input=x)
        y = scaled_convolution(*codes, product, self.bias, rounding, sums).to(self.weight.dtype)
        return y if rounding is not None else self._quantize_gradient(y)

    def _pixels(self, x: Tensor) -> int:
        pixels = 1
        for size, (before, after) in zip(x.shape[2:], self._borders(), strict=True):
            pixels *= size + before + after
        return pixels

    def _border_code(self, grid: int) -> int:
        return self._pad_code(grid)

    def _geometry_obstacle(self) -> str | None:
        if len(self.kernel_size) > 2:
            return "there are no kernels for three dimensions"
        least = min(self.weight.shape[0] // self.groups, self.weight.shape[1])
        if self.groups != 1 and least < _LEAST_CHANNELS:
            return f"floats are faster for groups of {least} channels; {_LEAST_CHANNELS} would do"
        if any(step != 1 for step in self.dilation):
            return f"there are no kernels for a dilation, and it has {self.dilation}"
        return None

    def forward(self, input: Tensor) -> Tensor:
        """Return y for x of shape [batch, channels, …], or [channels, …] for one sample."""
        return self._convolve(input) if self._batched(input) else self._convolve(input.unsqueeze(0)).squeeze(0)


@q_conv1d_registry.of
class QConv1d(_Conv, nn.Conv1d):
    """QConv2d in one dimension."""

    _float_class = nn.Conv1d


@q_conv2d_registry.of
class QConv2d(_Conv, nn.Conv2d):
    """y = conv(x_q, w_q) + b in two dimensions, computed on the integer codes and scaled once: D·(s_x·s_w) + b.

    A drop-in for nn.Conv2d with the same parameters and state_dict keys. The input is quantized, then padded.
    In backward the gradient passes the gradient quantizer, then the convolution, then each quantizer's own gradient.

    Args:
        in_channels … dtype: as nn.Conv2d; bias defaults to False.
        input_quantization: Quantization instance or name; None takes `layers.config.config`'s.
        weight_quantization: Quantization instance or name; None takes `layers.config.config`'s.
        gradient_cancellation_threshold: see QActivation.
        gradient_quantization: Quantization instance such as GradientDoReFa(6), applied to the gradient of the output.
        pad_value: what borders are filled with, a level of the input quantizer or 0. None: 0 for unsigned quantizers
            (InputDoReFa), `layers.config.config.padding_value` for the others.
        exact: True computes in float32 also under autocast, so that the output equals the integer reference bit for
            bit. False computes on the values in whatever precision autocast asks for.
        kernels: "auto" computes on integers by bitorch_runtime's kernels where the layer, its quantizers and the CPU
            allow it, else on floats; see `training_kernels()`. "float" always takes floats. "integer" raises where
            integers cannot be taken. The numbers are the same but for the last bits of the gradients of weight and
            bias.

    Raises:
        ValueError: an unknown name, a pad_value off the grid, more inputs than exact sums allow, or kernels="integer"
            where something is in the way.
        TypeError: what is no Quantization.
    """

    _float_class = nn.Conv2d

    def forward(self, input: Tensor) -> Tensor:
        """Return y for x of shape [batch, channels, rows, columns], or without batch for one sample."""
        if type(input) is not DeferredNorm:
            return super().forward(input)
        of = input.unspent()
        y = None if of is None else normed_convolution(self, of)
        return super().forward(input.value()) if y is None else y


@q_conv3d_registry.of
class QConv3d(_Conv, nn.Conv3d):
    """QConv2d in three dimensions."""

    _float_class = nn.Conv3d


class QConv1d_NoAct(_ConvNoAct, nn.Conv1d):
    """QConv2d_NoAct in one dimension."""

    _float_class = nn.Conv1d


class QConv2d_NoAct(_ConvNoAct, nn.Conv2d):
    """A convolution in two dimensions with quantized weight, whose input is taken as it is.

    Args:
        in_channels … dtype: as nn.Conv2d; bias defaults to False.
        weight_quantization: Quantization instance or name; None takes `layers.config.config`'s.
        pad_value: what borders are filled with; None takes `layers.config.config.padding_value`.
    """

    _float_class = nn.Conv2d


class QConv3d_NoAct(_ConvNoAct, nn.Conv3d):
    """QConv2d_NoAct in three dimensions."""

    _float_class = nn.Conv3d


#: BITorch's names of the classes behind its QConv factories.
QConv1dBase = QConv1d
QConv2dBase = QConv2d
QConv3dBase = QConv3d
