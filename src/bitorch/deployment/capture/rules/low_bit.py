"""Modules that mean one thing as a whole: low-bit layers and quantizers, Pact, and layers that look on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ....layers import (
    QGRU,
    QLSTM,
    QRNN,
    QActivation,
    QConv1d,
    QConv2d,
    QConv3d,
    QConvTranspose1d,
    QConvTranspose2d,
    QConvTranspose3d,
    QEmbedding,
    QEmbeddingBag,
    QGRUCell,
    QLinear,
    QLSTMCell,
    QMatmul,
    QRNNCell,
)
from ....layers.bembedding import BEmbedding, BEmbeddingBag
from ....layers.debug_layers import InputDebug
from ....layers.input_quantizer import gives_its_quantizers_values
from ....layers.low_bit import LowBit, Values
from ....layers.pact import Pact
from ....quantizations import GradientQuantization, Quantization
from ....quantizations.arithmetic import Arithmetic
from ...asked_arithmetic import Reason, arithmetic_of
from ...packable import Packing, packable
from ...weight_only import WeightOnly, has_float_inputs, weight_only
from ..problems import PARTIAL, Refusal
from ..reader import Reader
from . import activations, low_bit_matmul, rows
from .asked import computed, refusal
from .embeddings import low_bit_embedding, table_of_bits
from .low_bit_settings import layer_settings, quantizer_settings, weight_only_settings
from .windows import features_axis, leading_axes

_NO_RECURRENT = "the runtime has no recurrent layer", "Deploy the part in front of it"
#: Low-bit layers without a counterpart: the reason, and what to do.
NOT_IN_THE_RUNTIME: dict[type[nn.Module], tuple[str, str]] = {
    QLSTM: _NO_RECURRENT,
    QGRU: _NO_RECURRENT,
    QRNN: _NO_RECURRENT,
    QLSTMCell: _NO_RECURRENT,
    QGRUCell: _NO_RECURRENT,
    QRNNCell: _NO_RECURRENT,
    QEmbeddingBag: ("the runtime has no bags of embeddings", "Use QEmbedding, and mean(1) of what it gives"),
    BEmbeddingBag: ("the runtime has no bags of embeddings", "Use BEmbedding, and mean(1) of what it gives"),
}
_CONVOLUTIONS = (QConv1d, QConv2d, QConv3d)
_TRANSPOSED = (QConvTranspose1d, QConvTranspose2d, QConvTranspose3d)


def takes_second_axis(module: object) -> bool:
    """Say whether a module takes the second axis as channels, whatever the others are."""
    return isinstance(module, _CONVOLUTIONS + _TRANSPOSED)


def is_whole(module: nn.Module) -> bool:
    """Say whether a module is one call on the tape; anything else is recorded by the functions that it calls.

    Quantizers without a grid are not: what they compute is floating-point arithmetic like any other.
    """
    if isinstance(module, QActivation) and gives_its_quantizers_values(module):
        module = module.activation_function
    if isinstance(module, Quantization):
        return module.exact_max_code is not None or isinstance(module, GradientQuantization)
    if activations.is_pact(module) or activations.looks_on(module):
        return True
    is_table = type(module) in (QEmbedding, BEmbedding)
    return isinstance(module, LowBit | QMatmul) or is_table or type(module) in NOT_IN_THE_RUNTIME


def check(module: nn.Module) -> None:
    """Refuse modules that have no counterpart, whatever they are called with."""
    if type(module) in NOT_IN_THE_RUNTIME:
        what, remedy = NOT_IN_THE_RUNTIME[type(module)]
        raise Refusal(what, f"{remedy}, {PARTIAL}")
    if isinstance(module, QEmbedding | BEmbedding | InputDebug):
        return
    if isinstance(module, Pact):
        activations.check(module)
    elif isinstance(module, QMatmul):
        low_bit_matmul.check(module)
    elif isinstance(module, LowBit) and has_float_inputs(module):
        _weight_only(module)
    elif isinstance(module, LowBit):
        computed(_packed(module).arithmetic)
    elif not isinstance(quantizer := _quantizer(module), GradientQuantization):
        computed(arithmetic_of(quantizer))


def rule(call: Reader, input: Tensor, *rest: Any, **options: Any) -> str:
    """The rule of calls of modules that `check` has let through."""
    module = call.call.function
    if isinstance(module, QEmbedding):
        return low_bit_embedding(call, input, module)
    if isinstance(module, BEmbedding):
        return table_of_bits(call, input, module)
    if isinstance(module, InputDebug):
        return activations.passes(call, input)
    if isinstance(module, Pact):
        return activations.pact(call, input, module)
    if isinstance(module, QMatmul):
        return low_bit_matmul.rule(call, module, input, *rest, **options)
    if isinstance(module, QLinear):
        channels = features_axis(input, "a low-bit linear layer")
    else:
        channels = 1 if isinstance(module, LowBit) else _axis_of_quantizer(call, input, _quantizer(module))
    x = call.read(input, channels)
    if isinstance(module, (QLinear, *_CONVOLUTIONS, *_TRANSPOSED)):
        return _layer(call, x, channels, module, input)
    quantizer = _quantizer(module)
    if isinstance(quantizer, GradientQuantization):
        return call.add("identity", x, channels_at=channels)
    arithmetic = computed(arithmetic_of(quantizer))
    _check_channels(input, channels, quantizer, arithmetic)
    if arithmetic.by_row:
        return rows.quantizer_of_rows(call, x, channels, arithmetic)
    return call.add("quantizer", x, channels_at=channels, **quantizer_settings(arithmetic))


def _layer(call: Reader, x: str, channels: int, layer: LowBit, input: Tensor) -> str:
    if has_float_inputs(layer):
        return _float_layer(call, x, channels, layer)
    packing = _packed(layer)
    arithmetic = computed(packing.arithmetic)
    _check_channels(input, channels, layer.input_quantization, arithmetic)
    _check_hooks(layer, call.as_called(input))
    if not isinstance(layer, QLinear):
        leading_axes(call, x, layer.weight.dim() - 2)
    row_axes = tuple(input.shape[2:]), tuple(call.result.shape[2:])
    settings = layer_settings(layer, packing, arithmetic, row_axes)
    if arithmetic.by_row:
        return rows.linear_of_rows(call, x, channels, arithmetic, settings)
    return call.add("low_bit", x, channels_at=channels, **settings)


def _float_layer(call: Reader, x: str, channels: int, layer: LowBit) -> str:
    """A low-bit weight that multiplies floats."""
    found = _weight_only(layer)
    if layer._is_watched():
        raise Refusal(
            "a forward hook sees, and may change, what one of its quantizers takes or gives",
            f"Remove the hook, or do what it does in a module, {PARTIAL}",
        )
    return call.add("weight_only", x, channels_at=channels, **weight_only_settings(layer, found))


def _axis_of_quantizer(call: Reader, x: Tensor, quantizer: Quantization) -> int:
    """The axis that a quantizer alone reads as channels: any, unless it has numbers of its own for each of them."""
    if quantizer.is_by_row:
        return x.dim() - 1
    found = None if isinstance(quantizer, GradientQuantization) else arithmetic_of(quantizer)
    numbers = (found.divide, found.plus) if isinstance(found, Arithmetic) else ()
    axis = x.dim() - max((one.dim() for one in numbers if one is not None), default=0)
    return axis if 0 < axis < x.dim() else call.channel_axis(x)


def _quantizer(module: Any) -> Quantization:
    quantizer = module.activation_function if isinstance(module, QActivation) else module
    assert isinstance(quantizer, Quantization)
    return quantizer


def _check_hooks(layer: LowBit, x: Tensor) -> None:
    """Refuse hooks on the quantizers that change what they take or give; those that look on do no harm."""
    with torch.no_grad():
        if layer._is_watched() and isinstance(layer._operands(x), Values):
            raise Refusal(
                "a forward hook changes what one of its quantizers takes or gives",
                f"Remove the hook, or do what it does in a module, {PARTIAL}",
            )


def _packed(layer: LowBit) -> Packing:
    found = packable(layer)
    if isinstance(found, Reason):
        raise refusal(found)
    return found


def _weight_only(layer: LowBit) -> WeightOnly:
    found = weight_only(layer)
    if isinstance(found, Reason):
        raise refusal(found)
    return found


def _check_channels(x: Tensor, channels: int, quantizer: Quantization, arithmetic: Arithmetic) -> None:
    """Refuse numbers per channel that are not for the axis of the channels."""
    for numbers in (arithmetic.divide, arithmetic.plus):
        dimensions = 0 if numbers is None else numbers.dim()
        if dimensions not in (0, x.dim() - channels):
            verb = "shifts" if numbers is arithmetic.plus else "divides"
            raise Refusal(
                f"{quantizer} {verb} axis {-dimensions} of {['batch', *x.shape[1:]]}, not the channels",
                f"Make it with dimensions={x.dim() - 1 - channels}, {PARTIAL}",
            )
