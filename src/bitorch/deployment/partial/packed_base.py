"""What the packed layers share: the weight in as many bits as it has, the scale, the bias, the input's quantizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...layers import QConv1d, QConv2d, QLinear
from ...layers.low_bit import LowBit
from ...layers.weight_sources import computes_tensor, refresh
from ...model_copy import copied
from ...operators.packed import runtime
from ...quantizations.arithmetic import Arithmetic
from ...quantizations.levels import divide
from ..asked_arithmetic import Reason
from ..packable import Packing, packable

if TYPE_CHECKING:
    from typing_extensions import Self


class NotPackableError(ValueError):
    """A low-bit layer that the runtime cannot compute, and why."""


class Packed(nn.Module):
    """A low-bit layer for inference: what those of all shapes have in common.

    `.to(dtype)` changes the dtype of the result, as it does for any layer; scale and bias stay float32, because the
    sums are scaled in float32.
    """

    packed_weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, layer: QLinear | QConv1d | QConv2d) -> None:
        super().__init__()
        packing = _packing(layer)
        quantizer = layer.input_quantization
        self.activation_bits = packing.activation_bits
        # Other quantizers, and float64 input, are quantized in PyTorch first.
        self._is_in_runtime = _is_in_runtime(packing)
        self._kind = _kind(packing, is_unsigned=quantizer.unsigned)
        self._zero_point = quantizer.zero_point()
        self._pad_code = packing.pad_code
        self.weight_bits, self._weight_grid = packing.weight_bits, packing.weight_grid
        self.input_quantization = copied(quantizer).requires_grad_(False)
        self.output_dtype = layer.weight.dtype
        with torch.inference_mode(False), torch.no_grad():
            refresh(layer, "bias")
            codes = packing.weight
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


def _packing(layer: LowBit) -> Packing:
    """Return what a layer is in the runtime; raise if it is nothing there, or not as it stands."""
    if layer.training or layer.input_quantization.training or layer.weight_quantization.training:
        raise ValueError("the layer is in training mode; call .eval() first")
    if "forward" in layer.__dict__:
        raise NotPackableError("its forward was replaced on the instance")
    _check_unwatched(layer)
    if layer.weight.device.type != "cpu":
        raise ValueError(f"the weight is on {layer.weight.device}, but packed layers run on CPUs; call .cpu() first")
    if layer.weight.isnan().any():
        raise ValueError("the weight holds NaN, for which there is no code; train on from an earlier checkpoint")
    found = packable(layer)
    if isinstance(found, Reason):
        raise (NotPackableError if found.partial_helps else ValueError)(str(found))
    if layer.weight.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise NotPackableError(f"{layer.weight.dtype}: the runtime scales in float32")
    return found


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


def _is_in_runtime(packing: Packing) -> bool:
    """Whether the operators compute the input's codes: they have no range or shift of their own."""
    arithmetic = packing.arithmetic
    if not isinstance(arithmetic, Arithmetic) or arithmetic.form == "round":
        return False
    return arithmetic.divide is None and arithmetic.plus is None and arithmetic.zero_point == 0


def _kind(packing: Packing, *, is_unsigned: bool) -> str:
    """Return the operators' name of what makes codes of what `_quantizable` returns."""
    if isinstance(packing.arithmetic, Arithmetic) and _is_in_runtime(packing):
        return packing.arithmetic.form
    return "unit" if is_unsigned else "sign"
