"""Low-bit layers for inference on bitorch_runtime, float tensor to float tensor, inside any PyTorch model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kept import Kept
from ...layers import QConv1d, QConv2d, QLinear
from ...layers.watched import is_watched
from ...operators.last_call import is_plain
from ...operators.packed import PackedLinearCall, packed_conv2d, packed_linear
from ...operators.packed_together import Together
from ...quantizations.levels import divide
from ..packable import LINEAR
from .packed_base import NotPackableError, Packed


class PackedLinear(Packed):
    """A `QLinear` for inference: x is quantized and multiplied with the packed weight by bitorch_runtime.

    Equal to the layer in eval mode bit for bit, NaN included, with −0 equal to 0. The result has no gradient. Runs on
    CPUs, under torch.compile and torch.export too.

    Args:
        layer: a QLinear, or a part of attention or of a recurrent layer, in eval mode. It stays as it is; later changes
            of its weight do not reach this one.

    Raises:
        ValueError: the layer cannot be packed; the message says why. ImportError: bitorch_runtime is not installed.
    """

    def __init__(self, layer: QLinear) -> None:
        if type(layer) not in LINEAR:
            raise NotPackableError(f"PackedLinear packs a QLinear, not a {type(layer).__name__}")
        super().__init__(layer)
        if self.scale.dim() > 1 and layer.input_quantization.is_by_row and not self._is_in_runtime:
            raise NotPackableError(
                f"its input quantizer {layer.input_quantization} has a step for each row, and codes that are left to "
                "PyTorch, beside weights in groups"
            )
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self._together: Kept[Together] = Kept()

    def forward(self, input: Tensor) -> Tensor:
        """Return y, shape [..., out_features], for x of shape [..., in_features] and any floating dtype."""
        if input.dim() == 0 or input.shape[-1] != self.in_features:
            raise ValueError(
                f"PackedLinear: the input must have the shape [..., {self.in_features}], got {tuple(input.shape)}"
            )
        if self._kind == "rows" and input.dtype == torch.float64:
            return self._rows_of_doubles(input)
        x, input_range = self._quantizable(input, "[..., in_features]")
        scale, bias = self._stages(input)
        y = packed_linear(
            x,
            cast(Tensor, self._buffers["packed_weight"]),
            scale,
            bias,
            self.weight_bits,
            self.activation_bits,
            self._kind,
            self._zero_point,
            self._weight_grid,
            input_range,
            last_call=self._last_call,
        )
        return self._finished(y, input, (-1,))

    def _rows_of_doubles(self, x: Tensor) -> Tensor:
        """Return y of a float64 input, whose codes and steps are made in PyTorch."""
        self._check_input(x, "[..., in_features]")
        shares = divide(self.input_quantization.codes(x).float() + self._zero_point, 2**self.activation_bits - 1)
        y = packed_linear(
            shares, self.packed_weight, self.scale, None, self.weight_bits, self.activation_bits, "unit",
            self._zero_point, self._weight_grid,
        )  # fmt: skip
        y = y * self.input_quantization.scale(x).float()
        return (y if self.bias is None else y + self.bias).to(self.output_dtype)

    def together(self, others: Sequence[nn.Module], input: Tensor) -> list[Tensor] | None:
        """Return what this layer and others give for one input, by one call; None where each has to be called."""
        layers: list[PackedLinear] = [self]
        for layer in others:
            if not isinstance(layer, PackedLinear):
                return None
            layers.append(layer)
        if not is_plain(input) or input.dtype != torch.float32 or is_watched(*layers):
            return None
        if not all(layer._can_be_together(input) for layer in layers):
            return None
        calls = [layer._call(input) for layer in layers]
        made = self._together.made
        results = None if made is None else made.run(calls)
        if results is None:
            made = self._together.made = Together(calls)
            results = made.run(calls)
        return results

    def _can_be_together(self, input: Tensor) -> bool:
        is_plain_layer = self._is_in_runtime and self.output_dtype == torch.float32
        return is_plain_layer and self.in_features == input.shape[-1] and not self.packed_weight.is_inference()

    def _call(self, input: Tensor) -> PackedLinearCall:
        buffers, input_range = self._buffers, self._current_range()  # first: it sets the zero point
        return PackedLinearCall(
            input, cast(Tensor, buffers["packed_weight"]), cast(Tensor, buffers["scale"]), buffers["bias"],
            self.weight_bits, self.activation_bits, self._kind, self._zero_point, self._weight_grid, input_range,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self._bits_repr()}"


class _PackedConv(Packed):
    """What the packed convolutions share; documented at PackedConv2d."""

    def __init__(self, layer: QConv1d | QConv2d) -> None:
        super().__init__(layer)
        pad_code = self._pad_code
        if layer.input_quantization.unsigned and not 0 <= pad_code < 2**self.activation_bits:
            raise NotPackableError(
                f"pad_value={layer.pad_value} is beyond the levels of its input quantizer {layer.input_quantization}; "
                "deployed whole, it is packed"
            )
        self.in_channels = layer.in_channels
        self.kernel_size, self.stride, self.dilation = layer.kernel_size, layer.stride, layer.dilation
        self.groups = layer.groups
        self.padding_mode = layer.padding_mode
        self._pad_value = pad_code / (2**self.activation_bits - 1)
        borders = layer._borders()
        is_native = layer.padding_mode == "zeros" and pad_code == 0
        none = [(0, 0)] * len(borders)
        #: Padding before and after each dimension: what the runtime adds, and what PyTorch adds before.
        self.padding = borders if is_native else none
        self._explicit_padding = none if is_native else borders

    def _padded(self, x: Tensor) -> Tensor:
        widths = [width for border in reversed(self._explicit_padding) for width in border]
        if not any(widths):
            return x
        if self.padding_mode == "zeros":
            return F.pad(x, widths, value=self._pad_value)
        return F.pad(x, widths, mode=self.padding_mode)

    def _convolve(self, x: Tensor, input_range: Tensor | None) -> Tensor:
        """Convolve x [batch, in_channels, H, W], or [batch, in_channels, length] with a height of 1."""
        x = self._padded(x)
        is_1d = len(self.kernel_size) == 1
        if is_1d:
            x = x.unsqueeze(2)
        (top, bottom), (left, right) = [(0, 0), *self.padding][-2:]
        channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        scale, bias = self._stages(x)
        y = packed_conv2d(
            x.permute(0, 2, 3, 1) if channels_last else x,
            self.packed_weight,
            scale,
            bias,
            (1, *self.kernel_size)[-2:],
            (1, *self.stride)[-2:],
            (top, left, bottom, right),
            (1, *self.dilation)[-2:],
            self.groups,
            self.weight_bits,
            self.activation_bits,
            self._kind,
            channels_last,
            self._zero_point,
            self._weight_grid,
            input_range,
            last_call=self._last_call,
        )
        y = y.permute(0, 3, 1, 2) if channels_last else y
        return y.squeeze(2) if is_1d else y

    def forward(self, input: Tensor) -> Tensor:
        """Return y for x of shape [batch, in_channels, …], or [in_channels, …] for one sample; any floating dtype."""
        dimensions = len(self.kernel_size)
        sizes = "[batch, {}, {}]".format(self.in_channels, "length" if dimensions == 1 else "height, width")
        if input.dim() not in (dimensions + 1, dimensions + 2) or input.shape[-dimensions - 1] != self.in_channels:
            raise ValueError(
                f"{type(self).__name__}: the input must have the shape {sizes}, or the same without batch, "
                f"got {tuple(input.shape)}"
            )
        x = input if input.dim() == dimensions + 2 else input.unsqueeze(0)
        y = self._finished(self._convolve(*self._quantizable(x, sizes)), x, (-1, *[1] * dimensions))
        return y if input.dim() == dimensions + 2 else y.squeeze(0)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"dilation={self.dilation}, groups={self.groups}, {self._bits_repr()}"
        )


class PackedConv2d(_PackedConv):
    """A `QConv2d` for inference: x is quantized and convolved with the packed weight by bitorch_runtime.

    Equal to the layer in eval mode bit for bit, NaN included, with −0 equal to 0. The result has no gradient. Runs on
    CPUs, under torch.compile and torch.export too. The first image of a size plans for it; plans of the last 16 sizes
    are kept.

    Args:
        layer: a QConv2d in eval mode, which stays as it is; later changes of its weight do not reach this one.

    Raises:
        ValueError: the layer cannot be packed; the message says why. ImportError: bitorch_runtime is not installed.
    """

    def __init__(self, layer: QConv2d) -> None:
        if type(layer) is not QConv2d:
            raise NotPackableError(f"PackedConv2d packs a QConv2d, not a {type(layer).__name__}")
        super().__init__(layer)


class PackedConv1d(_PackedConv):
    """PackedConv2d in one dimension, of a `QConv1d`."""

    def __init__(self, layer: QConv1d) -> None:
        if type(layer) is not QConv1d:
            raise NotPackableError(f"PackedConv1d packs a QConv1d, not a {type(layer).__name__}")
        super().__init__(layer)
