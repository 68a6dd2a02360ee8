"""Low-bit layers for inference on bitorch_runtime, float tensor to float tensor, inside any PyTorch model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers import (
    QActivation,
    QConv1d,
    QConv2d,
    QLinear,
)
from ...layers.input_quantizer import gives_its_quantizers_values
from ...layers.low_bit import LowBit
from ...layers.qattention import QProjection
from ...layers.weight_sources import computes_tensor, refresh
from ...model_copy import copied
from ...operators.packed import packed_conv2d, packed_linear, runtime
from ...quantizations import (
    ApproxSign,
    GradientDoReFa,
    GradientLUQ,
    GradientSigned,
    InputDoReFa,
    ProgressiveSign,
    Quantization,
    Sign,
    SteHeaviside,
    SwishSign,
)
from ...quantizations.base import Grid, divide
from ...quantizations.own_values import is_as_made
from ...quantizations.sign_grid import SignGrid
from ..graph.quantizer_kind import signed_grid_remedy

if TYPE_CHECKING:
    from typing_extensions import Self

#: Quantizers that the runtime computes. Exact types: a subclass may compute something else.
_IN_RUNTIME: dict[type[Quantization], str] = {
    InputDoReFa: "unit",
    Sign: "sign",
    ApproxSign: "sign",
    SwishSign: "sign",
    ProgressiveSign: "sign",
    SteHeaviside: "heaviside",
}


class NotPackableError(ValueError):
    """A low-bit layer that the runtime cannot compute, and why."""


class _Packed(nn.Module):
    """What the packed layers share: the weight in as many bits as it has, the scale, the bias, the input quantizer.

    `.to(dtype)` changes the dtype of the result, as it does for any layer; scale and bias stay float32, because the
    sums are scaled in float32.
    """

    packed_weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, layer: QLinear | QConv1d | QConv2d) -> None:
        super().__init__()
        _check_layer(layer)
        quantizer = layer.input_quantization
        self.activation_bits, self._kind = _input_grid(quantizer)
        self._zero_point = quantizer.zero_point()
        # Other quantizers, and float64 input, are quantized in PyTorch first.
        self._is_in_runtime = _is_in_runtime(quantizer)
        self.input_quantization = copied(quantizer).requires_grad_(False)
        self.output_dtype = layer.weight.dtype
        with torch.inference_mode(False), torch.no_grad():
            refresh(layer, "bias")
            codes, self.weight_bits, self._weight_grid = _weight_codes(layer)
            _check_sums(codes, self.weight_bits, self.activation_bits)
            scale = layer.weight_scale().float()
            scale = scale if scale.dim() == 0 else scale.flatten()  # [out]
            if self._is_in_runtime:
                scale = layer.input_quantization.scale(layer.weight.new_zeros(())).to(scale.dtype) * scale
            self.out_channels = codes.shape[0]
            packed = runtime().pack_weights(codes.to(torch.int16).numpy(), self.weight_bits, self._weight_grid)
            self.register_buffer("packed_weight", torch.from_numpy(packed))
            self.register_buffer("scale", scale.clone())
            self.register_buffer("bias", None if layer.bias is None else layer.bias.float().clone())
        self.eval()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = {name: getattr(self, name) for name in ("scale", "bias")}
        quantizer = self.input_quantization
        of_quantizer = {name: t.data for name, t in (*quantizer.named_parameters(), *quantizer.named_buffers())}
        self.output_dtype = fn(torch.zeros(1, dtype=self.output_dtype, device=self.scale.device)).dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in kept.items():
            changed = getattr(self, name)
            if value is not None and changed.dtype != value.dtype:
                self._buffers[name] = value.to(changed.device)
        for name, tensor in (*quantizer.named_parameters(), *quantizer.named_buffers()):
            tensor.data = of_quantizer[name].to(tensor.device)
        return self

    def _quantizable(self, x: Tensor, dimensions: str) -> Tensor:
        """Return what the runtime's quantizer turns into the codes of x: x in float32, or codes as values."""
        name = type(self).__name__
        if not x.is_floating_point():
            raise TypeError(f"{name}: the input must be a floating-point tensor, got {x.dtype}; use .float()")
        if x.device.type not in ("cpu", "meta"):
            raise ValueError(f"{name} runs on CPUs, but its input {dimensions} is on {x.device}; use .cpu()")
        if self._is_in_runtime and x.dtype != torch.float64:
            return x if x.dtype == torch.float32 else x.float()
        codes = self.input_quantization.codes(x).float()
        return divide(codes + self._zero_point, 2**self.activation_bits - 1) if self._kind == "unit" else codes

    def _stages(self) -> tuple[Tensor, Tensor | None]:
        """Return the scale and bias that the runtime applies."""
        if self._is_in_runtime:
            return self.scale, self.bias
        return self.scale.new_ones(()), None

    def _finished(self, y: Tensor, x: Tensor, bias_shape: tuple[int, ...]) -> Tensor:
        """Return y as the layer gives it; scaled here where a custom quantizer has the scale of this very input."""
        if not self._is_in_runtime:
            scale = self.input_quantization.scale(x.detach()).detach().float() * self.scale
            y = y * (scale if scale.dim() == 0 else scale.view(bias_shape))
            y = y if self.bias is None else y + self.bias.view(bias_shape)
        return y if self.output_dtype == torch.float32 else y.to(self.output_dtype)

    def _bits_repr(self) -> str:
        return f"weight_bits={self.weight_bits}, activation_bits={self.activation_bits}, bias={self.bias is not None}"


class PackedLinear(_Packed):
    """A `QLinear` for inference: x is quantized and multiplied with the packed weight by bitorch_runtime.

    Equal to the layer in eval mode bit for bit, NaN included, with −0 equal to 0. The result has no gradient. Runs on
    CPUs, under torch.compile and torch.export too.

    Args:
        layer: a QLinear, or a projection of a QMultiheadAttention, in eval mode. It stays as it is; later changes of
            its weight do not reach this one.

    Raises:
        ValueError: the layer cannot be packed; the message says why. ImportError: bitorch_runtime is not installed.
    """

    def __init__(self, layer: QLinear) -> None:
        if type(layer) not in (QLinear, QProjection):
            raise NotPackableError(f"PackedLinear packs a QLinear, not a {type(layer).__name__}")
        super().__init__(layer)
        self.in_features, self.out_features = layer.in_features, layer.out_features

    def forward(self, input: Tensor) -> Tensor:
        """Return y, shape [..., out_features], for x of shape [..., in_features] and any floating dtype."""
        if input.dim() == 0 or input.shape[-1] != self.in_features:
            raise ValueError(
                f"PackedLinear: the input must have the shape [..., {self.in_features}], got {tuple(input.shape)}"
            )
        x = self._quantizable(input, f"[..., {self.in_features}]")
        scale, bias = self._stages()
        y = packed_linear(
            x if x.dim() == 2 else x.reshape(-1, self.in_features),
            self.packed_weight,
            scale,
            bias,
            self.weight_bits,
            self.activation_bits,
            self._kind,
            self._zero_point,
            self._weight_grid,
        )
        y = y if x.dim() == 2 else y.view(*input.shape[:-1], self.out_features)
        return self._finished(y, input, (-1,))

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self._bits_repr()}"


class _PackedConv(_Packed):
    """What the packed convolutions share; documented at PackedConv2d."""

    def __init__(self, layer: QConv1d | QConv2d) -> None:
        super().__init__(layer)
        pad_code = _pad_code(layer) if layer.padding_mode == "zeros" else 0
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

    def _convolve(self, x: Tensor) -> Tensor:
        """Convolve x [batch, in_channels, H, W], or [batch, in_channels, length] with a height of 1."""
        x = self._padded(x)
        is_1d = len(self.kernel_size) == 1
        if is_1d:
            x = x.unsqueeze(2)
        (top, bottom), (left, right) = [(0, 0), *self.padding][-2:]
        channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        scale, bias = self._stages()
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
        y = self._finished(self._convolve(self._quantizable(x, sizes)), x, (-1, *[1] * dimensions))
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


def _check_layer(layer: LowBit) -> None:
    """Raise if the layer computes something that a packed layer would not, or has values that cannot be packed."""
    if layer.training or layer.input_quantization.training or layer.weight_quantization.training:
        raise ValueError("the layer is in training mode; call .eval() first")
    if "forward" in layer.__dict__:
        raise NotPackableError("its forward was replaced on the instance")
    _check_unwatched(layer)
    activation = layer.activation
    is_plain = type(activation) is QActivation and gives_its_quantizers_values(activation)
    if not is_plain and not isinstance(activation, Quantization):
        raise NotPackableError(f"its activation is a {type(activation).__name__}, not a QActivation as it comes")
    if not _changes_nothing(layer.gradient_quantization):
        raise NotPackableError(f"{layer.gradient_quantization} may change the result, not only the gradient")
    if not layer.exact:
        raise NotPackableError("exact=False computes on values, not on codes")
    for side, quantizer in (("input", layer.input_quantization), ("weight", layer.weight_quantization)):
        if quantizer.exact_max_code is None:
            raise NotPackableError(f"{quantizer}, of the {side}, {quantizer.why_no_codes}")
    if layer.weight.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise NotPackableError(f"{layer.weight.dtype}: the runtime scales in float32")
    if layer.weight.numel() == 0:
        raise NotPackableError(f"its weight is empty: {tuple(layer.weight.shape)}")
    if layer.weight.device.type != "cpu":
        raise ValueError(f"the weight is on {layer.weight.device}, but packed layers run on CPUs; call .cpu() first")
    if layer.weight.isnan().any():
        raise ValueError("the weight holds NaN, for which there is no code; train on from an earlier checkpoint")


def _is_in_runtime(quantizer: Quantization) -> bool:
    kind = type(quantizer)
    return kind in _IN_RUNTIME and all(is_as_made(quantizer, kind, name) for name in ("codes", "scale"))


def _check_unwatched(layer: LowBit) -> None:
    """Raise if hooks may change what the layer or one of its quantizers takes or gives; some only make its weight."""
    parts: list[nn.Module | None] = [layer.activation, layer.input_quantization, layer.weight_quantization]
    for part in (layer, *parts, layer.gradient_quantization):
        if part is None:
            continue
        before = [hook for hook in part._forward_pre_hooks.values() if part is not layer or not computes_tensor(hook)]
        if part._forward_hooks or before:
            which = "it" if part is layer else f"its {type(part).__name__}"
            raise NotPackableError(f"{which} has forward hooks, which may change its input, weight or result")


def _changes_nothing(gradient: Quantization | None) -> bool:
    """Whether a gradient quantizer is sure to be the identity forward."""
    if gradient is None:
        return True
    kind = type(gradient)
    known = kind in (GradientDoReFa, GradientSigned, GradientLUQ)
    return known and all(is_as_made(gradient, kind, name) for name in ("quantize", "forward"))


def _input_grid(quantizer: Quantization) -> tuple[int, str]:
    """Return the bits of the activations, and the kind of quantizer that makes them of what `_quantizable` returns."""
    largest = quantizer.max_code
    assert largest is not None  # checked before
    if _is_in_runtime(quantizer):
        return largest.bit_length(), _IN_RUNTIME[type(quantizer)]
    if isinstance(quantizer, SignGrid):
        return 1, "sign"
    if not quantizer.unsigned:
        raise NotPackableError(
            f"{quantizer}, of the input, has signed codes; activations are 0 … n, or ±1 of a SignGrid"
        )
    if not 1 <= largest <= 255:
        raise NotPackableError(f"{quantizer}, of the input, has codes up to {largest}; the runtime takes 8 bits")
    return largest.bit_length(), "unit"


def _weight_codes(layer: LowBit) -> tuple[Tensor, int, Grid]:
    """Return the weight codes, their bits and their grid."""
    quantizer = layer.weight_quantization
    codes = quantizer.codes(layer._current_weight())
    assert quantizer.max_code is not None  # checked before
    if quantizer.grid == "signed":
        bits = quantizer.bit_width
        is_wrong, which = (codes < -(1 << bits - 1)) | (codes >= 1 << bits - 1), "signed"
    else:
        bits = max(int(codes.abs().max()), quantizer.max_code).bit_length()
        is_wrong, which = (codes % 2).abs() != 1, "odd"
    if not 1 <= bits <= 8 or bool(is_wrong.any()):
        raise NotPackableError(
            f"{quantizer}, of the weight, has codes other than {which} integers of up to 8 bits"
            + signed_grid_remedy(quantizer, codes)
        )
    return codes, bits, quantizer.grid


def _check_sums(codes: Tensor, weight_bits: int, activation_bits: int) -> None:
    """Raise if the int32 sums could overflow: only custom quantizers, with codes short of 2^bits − 1, get so far."""
    count = codes[0].numel()
    if count * (2**weight_bits - 1) * (2**activation_bits - 1) >= 2**31:
        raise NotPackableError(f"{count} inputs per output could overflow the int32 sums of the runtime")


def _pad_code(layer: QConv1d | QConv2d) -> int:
    """Return the code that borders are filled with, where the runtime can represent it."""
    quantizer = layer.input_quantization
    grid = quantizer.max_code
    if grid is None or not any(map(any, layer._borders())):
        return 0
    code = layer._pad_code(grid)
    if not (0 if quantizer.unsigned else -grid) <= code <= grid:
        raise NotPackableError(f"pad_value={layer.pad_value} is beyond the levels of {quantizer}")
    return code
