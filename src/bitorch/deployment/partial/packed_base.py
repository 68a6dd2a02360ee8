"""What the packed layers share: the weight in as many bits as it has, the scale, the bias, the input's quantizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from ...kept import Kept
from ...layers import QConv1d, QConv2d, QLinear
from ...layers.extensions.reference import WithRecipe
from ...layers.low_bit import LowBit
from ...layers.weight_sources import computes_tensor, refresh
from ...model_copy import copied
from ...operators.last_call import LastCall
from ...operators.packed_programs import runtime
from ...quantizations import Quantization
from ...quantizations.arithmetic import Arithmetic
from ...quantizations.levels import divide
from ...running import as_it_was
from ...same_numbers import same_numbers
from ..asked_arithmetic import Reason, arithmetic_of
from ..packable import Packing, packable, weight_scales

if TYPE_CHECKING:
    from typing_extensions import Self


class NotPackableError(ValueError):
    """A low-bit layer that the runtime cannot compute, and why."""


class Packed(WithRecipe, nn.Module):
    """A low-bit layer for inference: what those of all shapes have in common.

    `.to(dtype)` changes the dtype of the result, as it does for any layer; scale and bias stay float32, because the
    sums are scaled in float32.
    """

    packed_weight: Tensor
    scale: Tensor
    bias: Tensor | None
    input_range: Tensor | None

    def __init__(self, layer: QLinear | QConv1d | QConv2d) -> None:
        super().__init__()
        packing = packing_of(layer)
        quantizer = layer.input_quantization
        self.activation_bits = packing.activation_bits
        # Other quantizers, and float64 input, are quantized in PyTorch first.
        self._is_in_runtime = _is_in_runtime(packing, layer)
        self._kind = _kind(packing, is_in_runtime=self._is_in_runtime, is_unsigned=quantizer.unsigned)
        self._zero_point = _zero_point(packing, quantizer)
        self._pad_code = packing.pad_code
        self.weight_bits, self._weight_grid = packing.weight_bits, packing.weight_grid
        self.input_quantization = copied(quantizer).requires_grad_(False)
        self.output_dtype = layer.weight.dtype
        with torch.inference_mode(False), torch.no_grad():
            refresh(layer, "bias")
            codes = packing.weight
            scale = weight_scales(layer).float()
            if self._is_in_runtime and not quantizer.is_by_row:
                scale = layer.input_quantization.scale(layer.weight.new_zeros(())).to(scale.dtype) * scale
            self.out_channels = codes.shape[0]
            packed = runtime().pack_weights(codes.to(torch.int16).numpy(), self.weight_bits, self._weight_grid)
            self.register_buffer("packed_weight", torch.from_numpy(packed))
            self.register_buffer("scale", scale.clone())
            self.register_buffer("bias", None if layer.bias is None else layer.bias.float().clone())
            # Made of the quantizer's parameters and buffers, which are those of the state_dict.
            found = _input_range(packing.arithmetic) if self._is_in_runtime else None
            self.register_buffer("input_range", found, persistent=False)
        self._range_source: Kept[_Source] = Kept()
        self._last_call: Kept[LastCall] = Kept()
        self._was_loaded = False
        self.input_quantization.eval()
        self.eval()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if "_last_call" in self.__dict__:  # which was of the attributes as they were
            self._last_call.made = None

    def train(self, mode: bool = True) -> Self:
        """Set training or eval mode, which changes nothing: the quantizer stays in eval mode."""
        self.training = mode
        return self

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._was_loaded = True
        super()._load_from_state_dict(*arguments)

    def check_made_from(self, layer: nn.Module) -> None:
        """Raise a ValueError if this is not the packed form of a layer any more: another state_dict was loaded."""
        if not self._was_loaded:
            return
        with as_it_was(layer):
            again = type(self)(layer)  # type: ignore[arg-type]  # the layer that it was made from
        other = again.state_dict()
        if not all(bool(same_numbers(value, other[name]).all()) for name, value in self.state_dict().items()):
            raise ValueError(
                f"another state_dict was loaded into the {type(self).__name__}, whose bits are not those of the "
                f"{type(layer).__name__} that it was made from; convert back first, and load float weights then"
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = {name: getattr(self, name) for name in ("scale", "bias", "input_range")}
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

    def _quantizable(self, x: Tensor, dimensions: str) -> tuple[Tensor, Tensor | None]:
        """Return what the runtime makes codes of: x in float32 and the range, or codes as values, which have none."""
        dtype = x.dtype
        if dtype != torch.float32 or x.device.type != "cpu":
            self._check_input(x, dimensions)
        if self._is_in_runtime and dtype != torch.float64:
            return x if dtype == torch.float32 else x.float(), self._current_range()
        codes = self.input_quantization.codes(x).float()
        if self._kind != "unit":
            return codes, None
        return divide(codes + self._zero_point, 2**self.activation_bits - 1), None

    def _check_input(self, x: Tensor, dimensions: str) -> None:
        name = type(self).__name__
        if not x.is_floating_point():
            raise TypeError(f"{name}: the input must be a floating-point tensor, got {x.dtype}; use .float()")
        if x.device.type not in ("cpu", "meta"):
            raise ValueError(f"{name} runs on CPUs, but its input {dimensions} is on {x.device}; use .cpu()")

    def _current_range(self) -> Tensor | None:
        """Return the range as the quantizer has it now: a state_dict or functional_call may have brought another."""
        found = self._buffers["input_range"]
        if found is None or torch.compiler.is_compiling():
            return found
        source = self._range_source.made
        if source is None or not source.is_as_it_was():
            arithmetic = arithmetic_of(self.input_quantization)
            if isinstance(arithmetic, Reason):
                raise ValueError(f"{type(self).__name__}: {arithmetic}")
            found = self._buffers["input_range"] = _input_range(arithmetic)
            self._zero_point = arithmetic.zero_point
            self._range_source.made = _Source(self.input_quantization)
        return found

    def _stages(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the scale and bias that the runtime applies, for an input x."""
        if self._is_in_runtime:
            return cast(Tensor, self._buffers["scale"]), self._buffers["bias"]
        if self.scale.dim() > 1:  # of groups, which are scaled before they are added
            return self._input_scale(x) * self.scale, self.bias
        return self.scale.new_ones(()), None

    def _input_scale(self, x: Tensor) -> Tensor:
        """Return the scale that a custom quantizer has for this very input."""
        return self.input_quantization.scale(x.detach()).detach().float()

    def _finished(self, y: Tensor, x: Tensor, bias_shape: tuple[int, ...]) -> Tensor:
        """Return y as the layer gives it; scaled here where a custom quantizer has the scale of this very input."""
        if not self._is_in_runtime and self.scale.dim() < 2:
            scale = self._input_scale(x) * self.scale
            y = y * (scale if scale.dim() == 0 else scale.view(bias_shape))
            y = y if self.bias is None else y + self.bias.view(bias_shape)
        return y if self.output_dtype == torch.float32 else y.to(self.output_dtype)

    def _bits_repr(self) -> str:
        return f"weight_bits={self.weight_bits}, activation_bits={self.activation_bits}, bias={self.bias is not None}"


def packing_of(layer: LowBit) -> Packing:
    """Return what a layer is in the runtime; raise if it is nothing there, or not as it stands."""
    check_as_it_stands(layer)
    found = packable(layer)
    if isinstance(found, Reason):
        raise (NotPackableError if found.partial_helps else ValueError)(str(found))
    check_dtype(layer)
    return found


def check_as_it_stands(layer: LowBit) -> None:
    """Raise where a layer has a mode, hooks, a device or a weight that keep it from being packed now."""
    if layer.training or layer.input_quantization.training or layer.weight_quantization.training:
        raise ValueError("the layer is in training mode; call .eval() first")
    if "forward" in layer.__dict__:
        raise NotPackableError("its forward was replaced on the instance")
    _check_unwatched(layer)
    if layer.weight.device.type != "cpu":
        raise ValueError(f"the weight is on {layer.weight.device}, but packed layers run on CPUs; call .cpu() first")
    if layer.weight.isnan().any():
        raise ValueError("the weight holds NaN, for which there is no code; train on from an earlier checkpoint")


def check_dtype(layer: LowBit) -> None:
    """Raise where a weight has more precision than float32."""
    if layer.weight.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise NotPackableError(f"{layer.weight.dtype}: the runtime scales in float32")


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


def _is_in_runtime(packing: Packing, layer: QLinear | QConv1d | QConv2d) -> bool:
    """Whether the operators compute the input's codes."""
    arithmetic = packing.arithmetic
    if isinstance(arithmetic, Arithmetic) and arithmetic.by_row:
        return True
    if not isinstance(arithmetic, Arithmetic) or arithmetic.form == "round" or not arithmetic.keeps_nan:
        return False
    if arithmetic.divide is None and arithmetic.plus is None:
        return True
    if packing.pad_code != 0:  # borders are filled in front of the range
        return False
    channels = layer.in_features if isinstance(layer, QLinear) else layer.in_channels
    spatial = 0 if isinstance(layer, QLinear) else len(layer.kernel_size)
    return arithmetic.shape in (torch.Size(), torch.Size((channels, *[1] * spatial)))


def _zero_point(packing: Packing, quantizer: Quantization) -> int:
    """Return which stored code means 0."""
    arithmetic = packing.arithmetic
    if isinstance(arithmetic, Arithmetic) and arithmetic.by_row:
        return arithmetic.zero_point
    return quantizer.zero_point()


def _input_range(arithmetic: Arithmetic | Reason) -> Tensor | None:
    """Return an arithmetic's divisor and what is added, as the operators take them: [2], or [2, C]; None of neither."""
    if isinstance(arithmetic, Reason) or (arithmetic.divide is None and arithmetic.plus is None):
        return None
    divide = torch.ones(()) if arithmetic.divide is None else arithmetic.divide.float()
    plus = torch.zeros(()) if arithmetic.plus is None else arithmetic.plus.float()
    return torch.stack(torch.broadcast_tensors(divide.flatten(), plus.flatten())).squeeze(1).contiguous()


class _Source:
    """The tensors of a quantizer, and how often each was written to; copies of those that nobody counts it of."""

    def __init__(self, quantizer: nn.Module) -> None:
        kinds = [kind for module in quantizer.modules() for kind in (module._parameters, module._buffers)]
        members = [(kind, name, tensor) for kind in kinds for name, tensor in kind.items() if tensor is not None]
        self._members = [(*member, _stamp(member[2])) for member in members]

    def is_as_it_was(self) -> bool:
        """Whether these are the same tensors, which nobody has written to since."""
        for kind, name, tensor, stamp in self._members:
            if kind.get(name) is not tensor:
                return False
            is_same = torch.equal(tensor, stamp) if isinstance(stamp, Tensor) else tensor._version == stamp
            if not is_same:
                return False
        return True


def _stamp(tensor: Tensor) -> int | Tensor:
    return tensor.clone() if tensor.is_inference() else tensor._version


def _kind(packing: Packing, *, is_in_runtime: bool, is_unsigned: bool) -> str:
    """Return the operators' name of what makes codes of what `_quantizable` returns."""
    if isinstance(packing.arithmetic, Arithmetic) and is_in_runtime:
        return "rows" if packing.arithmetic.by_row else packing.arithmetic.form
    return "unit" if is_unsigned else "sign"
