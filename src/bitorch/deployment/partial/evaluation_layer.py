"""One low-bit layer in a pass of evaluation: packed at its first batch, and called in the place of its forward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from ...layers import QConv1d, QConv2d
from ...layers.kept_codes import are_same
from ...layers.low_bit import LowBit
from ...operators.last_call import is_at_work
from .evaluation_choice import EvaluationChoice, must_be_packed
from .evaluation_forms import EvaluationForm
from .pack_layers import PackedLayer, pack

#: Packing a layer takes as long as so many uses of each of its weights save, and so many products besides.
_USES, _PRODUCTS = 2**11, 2**26


class LayerInPass:
    """A layer with a packed form for the calls of one pass, and what keeps it from that.

    Args:
        name: of the layer.
        layer: it stays as it is.
        choice: see `EvaluationChoice`.
        batches: of the pass; math.inf where nobody knows.
        why: it cannot be packed; "" where nothing is known to be in the way.
    """

    def __init__(self, name: str, layer: LowBit, choice: EvaluationChoice, batches: float, why: str) -> None:
        self.name, self.layer = name, layer
        self._must, self._batches = choice == "packed", batches
        self._why, self._why_not_now = why, "no batch has come to it"
        self._packed: PackedLayer | None = None
        self._made_of: _Numbers | None = None
        self._strides: dict[tuple[object, ...], tuple[int, ...]] = {}

    @property
    def form(self) -> EvaluationForm:
        """What it computes with, after the calls so far."""
        return EvaluationForm(self.name, self._why or ("" if self._packed is not None else self._why_not_now))

    @property
    def is_in_question(self) -> bool:
        """Whether a call may be one of the packed form."""
        return not self._why

    def forward(self, input: Tensor) -> Tensor:
        """Return what the layer's forward returns, bit for bit, but for the sign of a zero."""
        why = self._why or self._call_obstacle(input)
        if why:
            self._why_not_now = why
            return self._by_itself(input)
        packed = self._current(input)
        if packed is None:
            if self._must:
                raise ValueError(must_be_packed(self.name, self._why))
            return self._by_itself(input)
        return _laid_out(packed.forward(input), self._strides_for(input))

    def _by_itself(self, input: Tensor) -> Tensor:
        y: Tensor = type(self.layer).forward(self.layer, input)
        return y

    def _call_obstacle(self, x: Tensor) -> str:
        """Return why a call is not one of packed weights, "" if it is."""
        layer = self.layer
        if torch.is_grad_enabled() or forward_ad._current_level >= 0:
            return "gradients are wanted"
        if layer.training:
            return "it is in training mode"
        if type(x) is not Tensor or is_at_work():
            return "PyTorch looks at what is computed"
        if not x.is_cpu or not x.is_floating_point() or x.numel() == 0 or not self._takes(x):
            return f"its input is {str(x.dtype).removeprefix('torch.')} {list(x.shape)} on {x.device}"
        return "there are hooks on its quantizers" if layer._is_watched() else ""

    def _takes(self, x: Tensor) -> bool:
        """Whether x has the shape that the layer takes; of another one it tells itself."""
        if not isinstance(self.layer, QConv1d | QConv2d):
            return x.dim() > 0 and x.shape[-1] == self.layer._inputs_per_output()
        axes = len(self.layer.kernel_size)
        return x.dim() in (axes + 1, axes + 2) and x.shape[-axes - 1] == self.layer.in_channels

    def _is_batch(self, x: Tensor) -> bool:
        return x.dim() == len(self.layer.kernel_size) + 2 if isinstance(self.layer, QConv1d | QConv2d) else x.dim() > 1

    def _current(self, x: Tensor) -> PackedLayer | None:
        """Return the packed form, made now if this is the first call; None where there is none, or not any more."""
        if self._made_of is None:
            self._pack(x)
        elif not self._made_of.are_of(self.layer):
            self._packed, self._why = None, "its numbers have changed within the pass"
        return self._packed

    def _pack(self, x: Tensor) -> None:
        if not self._must and self.layer.weight.numel() * (self._uses(x) * self._batches - _USES) < _PRODUCTS:
            self._why = "packing takes longer than what a pass of so few inputs saves"
            return
        with torch.inference_mode(False), torch.no_grad():
            here = vars(self.layer).pop("forward", None)  # which a layer that is packed must not have
            try:
                self._packed = pack(self.layer)
                self._made_of = _Numbers.of(self.layer)
            except ValueError as error:  # NotPackableError among them
                self._why = str(error)
            finally:
                if here is not None:
                    vars(self.layer)["forward"] = here

    def _uses(self, x: Tensor) -> int:
        """Return how many outputs of a channel a call has."""
        layer = self.layer
        if not isinstance(layer, QConv1d | QConv2d):
            return x.numel() // x.shape[-1]
        images = x if self._is_batch(x) else x.unsqueeze(0)
        return len(images) * layer._pixels(images) // math.prod(layer.stride)

    def _strides_for(self, x: Tensor) -> tuple[int, ...]:
        """Return the strides of the layer's own output for x: PyTorch's order of sums depends on them."""
        is_batch = self._is_batch(x)
        some = x[:2] if is_batch else x
        key = (is_batch, x.dtype, *some.shape, *x.stride()[is_batch:])
        if key not in self._strides:
            y = self._by_itself(some)
            self._strides[key] = y.stride()[is_batch:]
        strides = self._strides[key]
        return (0, *strides) if is_batch else strides


class _Numbers(NamedTuple):
    """What a packed form is made of."""

    codes: Tensor
    scale: Tensor
    quantizer: nn.Module
    small: tuple[Tensor, ...]

    @classmethod
    def of(cls, layer: LowBit) -> _Numbers:
        read, quantizer = layer._read_codes(), layer.input_quantization
        assert read.scale is not None  # there are codes
        small = tuple(tensor.detach().clone() for tensor in _small_tensors(layer))
        return cls(read.numbers, read.scale, quantizer, small)

    def are_of(self, layer: LowBit) -> bool:
        """Whether a layer has these numbers."""
        read, quantizer = layer._read_codes(), layer.input_quantization
        if quantizer is not self.quantizer:
            return False
        if read.numbers is not self.codes and not are_same(read.numbers, self.codes):
            return False
        assert read.scale is not None  # there are codes
        is_same_scale = read.scale is self.scale or are_same(read.scale, self.scale)
        return is_same_scale and _are_all_same(_small_tensors(layer), self.small)


def _small_tensors(layer: LowBit) -> tuple[Tensor, ...]:
    """Return the bias, where there is one, and what the input's quantizer holds."""
    bias: Tensor | None = layer.bias  # type: ignore[assignment]  # of all layers with products
    quantizer = layer.input_quantization
    return *(() if bias is None else (bias,)), *quantizer.parameters(), *quantizer.buffers()


def _are_all_same(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return len(some) == len(others) and all(map(are_same, some, others))


def _laid_out(y: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Return y with these strides; 0 in front stands for that of a batch axis, whose samples are dense."""
    if y.dim() > 0 and strides[0] == 0:
        strides = (math.prod(y.shape[1:]), *strides[1:])
    if y.stride() == strides:
        return y
    if all(size <= 1 or one == other for size, one, other in zip(y.shape, y.stride(), strides, strict=True)):
        return y.as_strided(y.shape, strides)
    return torch.empty_strided(y.shape, strides, dtype=y.dtype).copy_(y)
