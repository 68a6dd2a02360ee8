"""Transposed convolutions with quantized weight, input and gradient, in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..quantizations import Quantization
from .exact_transposed import (
    TRANSPOSED_CONVOLUTIONS,
    Geometry,
    products_per_output,
    scaled_transposed_convolution,
    swap_channels,
)
from .integer_kernels import Kernels
from .low_bit import LowBit, Values

_Size = int | tuple[int, ...]


class _ConvTranspose(LowBit):
    """What the transposed convolutions share; documented at QConvTranspose2d."""

    in_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: _Size = 0,
        output_padding: _Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: _Size = 1,
        padding_mode: Literal["zeros"] = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        input_quantization: Quantization | str | None = None,
        weight_quantization: Quantization | str | None = None,
        gradient_cancellation_threshold: float | None = None,
        gradient_quantization: Quantization | None = None,
        exact: bool = True,
        kernels: Kernels = "auto",
    ) -> None:
        super().__init__(  # the next class in line is nn.ConvTranspose1d, 2d or 3d
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            output_padding,
            groups,
            bias,
            dilation,
            padding_mode,
            device,
            dtype,
        )
        self._set_quantization(
            input_quantization=input_quantization,
            weight_quantization=weight_quantization,
            gradient_quantization=gradient_quantization,
            gradient_cancellation_threshold=gradient_cancellation_threshold,
            exact=exact,
            kernels=kernels,
        )

    def _quantizer_weight(self) -> Tensor:
        return swap_channels(self.weight, self.groups)

    def _inputs_per_output(self) -> int:
        return products_per_output(self.in_channels // self.groups, self.kernel_size, self.stride, self.dilation)

    def _convolve(self, x: Tensor, output_padding: tuple[int, ...]) -> Tensor:
        assert isinstance(self.padding, tuple)  # a name such as "same" is for convolutions
        geometry = Geometry(self.stride, self.padding, output_padding, self.groups, self.dilation)
        operands = self._operands(x)
        if isinstance(operands, Values):
            convolve = TRANSPOSED_CONVOLUTIONS[len(self.stride) - 1]
            weight = swap_channels(operands.weight, self.groups)
            return self._quantize_gradient(convolve(operands.input, weight, self.bias, *geometry))
        rounding = self._rounding()
        inputs = self._inputs_per_output()
        y = scaled_transposed_convolution(*operands, inputs, geometry, self.bias, rounding).to(self.weight.dtype)
        return y if rounding is not None else self._quantize_gradient(y)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Return y for x of shape [batch, channels, …], or [channels, …] for one sample.

        Args:
            output_size: sizes of the spatial axes of y, or of all its axes; replaces `output_padding`.
        """
        dimensions = len(self.stride)
        size = None if output_size is None else list(output_size)
        padding = tuple(
            self._output_padding(input, size, self.stride, self.padding, self.kernel_size, dimensions, self.dilation)  # type: ignore[operator]  # of nn.ConvTransposeNd
        )
        if input.dim() == dimensions + 1:
            return self._convolve(input.unsqueeze(0), padding).squeeze(0)
        return self._convolve(input, padding)


class QConvTranspose1d(_ConvTranspose, nn.ConvTranspose1d):
    """QConvTranspose2d in one dimension."""

    _float_class = nn.ConvTranspose1d


class QConvTranspose2d(_ConvTranspose, nn.ConvTranspose2d):
    """y = conv_transpose(x_q, w_q) + b in two dimensions, computed on the integer codes and scaled once.

    A drop-in for nn.ConvTranspose2d with the same parameters and state_dict keys, and its initialisation. In backward
    the gradient passes the gradient quantizer, then the convolution, then each quantizer's own gradient.
    The parameter has PyTorch's shape [C_in, C_out/groups, …]. The weight quantizer, `weight_codes()` and
    `weight_scale()` have the output channel first, as at QConv2d: [C_out, C_in/groups, …].
    Nothing is filled in: `padding` crops the output, and an output that no input reaches is b.

    Args:
        in_channels … dtype: as nn.ConvTranspose2d.
        input_quantization: Quantization instance or name; None takes `layers.config.config`'s.
        weight_quantization: Quantization instance or name; None takes `layers.config.config`'s.
        gradient_cancellation_threshold: see QActivation.
        gradient_quantization: Quantization instance such as GradientDoReFa(6), applied to the gradient of the output.
        exact: True computes in float32 also under autocast, so that the output equals the integer reference bit for
            bit. False computes on the values in whatever precision autocast asks for.
        kernels: see QConv2d; there are no integer kernels for transposed convolutions.

    Raises:
        ValueError: an unknown name, kernels="integer", a padding_mode other than "zeros", or more inputs than exact
            sums allow. The inputs of an output are those C_in/groups channels times the taps that meet in it: with
            stride 2, about half of the kernel along each axis.
        TypeError: what is no Quantization.
    """

    _float_class = nn.ConvTranspose2d


class QConvTranspose3d(_ConvTranspose, nn.ConvTranspose3d):
    """QConvTranspose2d in three dimensions."""

    _float_class = nn.ConvTranspose3d
