"""Modules that mean one thing as a whole: low-bit layers and quantizers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ....layers import (
    QActivation,
    QConv1d,
    QConv2d,
    QConv3d,
    QConvTranspose1d,
    QConvTranspose2d,
    QConvTranspose3d,
    QEmbedding,
    QEmbeddingBag,
    QLinear,
    QMultiheadAttention,
)
from ....layers.input_quantizer import gives_its_quantizers_values
from ....layers.low_bit import LowBit, Values
from ....quantizations import (
    GradientQuantization,
    Quantization,
    RangeQuantization,
    RSign,
    WeightDoReFa,
)
from ....quantizations.range_fit import SMALLEST
from ...graph.quantizer_kind import form, is_uniform, signed_grid_remedy
from ..builder import Reader
from ..problems import PARTIAL, Refusal
from .low_bit_settings import layer_settings, quantizer_settings
from .windows import features_axis

_NO_TRANSPOSED = "the runtime has no transposed convolution", "Deploy the part in front of it"
_NO_EMBEDDING = "the runtime has no embedding", "Deploy the part behind it"
#: Low-bit layers without a counterpart: the reason, and what to do.
NOT_IN_THE_RUNTIME: dict[type[nn.Module], tuple[str, str]] = {
    QConv3d: ("the runtime has no convolution in three dimensions", "Use QConv2d"),
    QConvTranspose1d: _NO_TRANSPOSED,
    QConvTranspose2d: _NO_TRANSPOSED,
    QConvTranspose3d: _NO_TRANSPOSED,
    QMultiheadAttention: ("the runtime has no attention", "Deploy the part in front of it"),
    QEmbedding: _NO_EMBEDDING,
    QEmbeddingBag: _NO_EMBEDDING,
}
_DIMENSIONS: dict[type[nn.Module], int] = {QConv1d: 1, QConv2d: 2}


def is_whole(module: nn.Module) -> bool:
    """Say whether a module is one call on the tape; anything else is recorded by the functions that it calls.

    Quantizers without a grid are not: what they compute is floating-point arithmetic like any other.
    """
    if isinstance(module, QActivation) and gives_its_quantizers_values(module):
        module = module.activation_function
    if isinstance(module, Quantization):
        return module.exact_max_code is not None or isinstance(module, GradientQuantization)
    return isinstance(module, LowBit) or type(module) in NOT_IN_THE_RUNTIME


def check(module: nn.Module) -> None:
    """Refuse modules that have no counterpart, whatever they are called with."""
    if type(module) in NOT_IN_THE_RUNTIME:
        what, remedy = NOT_IN_THE_RUNTIME[type(module)]
        raise Refusal(what, f"{remedy}, {PARTIAL}")
    if isinstance(module, LowBit):
        _check_low_bit(module)
        _check_pointwise(module.input_quantization)
    else:
        _check_pointwise(_quantizer(module))


def rule(call: Reader, input: Tensor, *rest: Any, **options: Any) -> str:
    """The rule of calls of modules that `check` has let through."""
    module = call.call.function
    if isinstance(module, QLinear):
        channels = features_axis(input, "a low-bit linear layer")
    elif isinstance(module, LowBit):
        channels = 1
    else:
        channels = _axis_of_quantizer(call, input, module)
    x = call.read(input, channels)
    if isinstance(module, LowBit):
        _check_shift(call, input, module.input_quantization, channels)
        _check_hooks(module, input)
        if not isinstance(module, QLinear) and len(call.shape(x)) != _DIMENSIONS[type(module)] + 1:
            raise Refusal(
                f"{type(module).__name__} gets {['batch', *call.shape(x)]}", "Give images with a batch dimension"
            )
        assert isinstance(module, (QLinear, QConv1d, QConv2d))  # `check` has looked
        return call.add("low_bit", x, channels_at=channels, **layer_settings(module))
    if isinstance(module, GradientQuantization):
        return call.add("identity", x, channels_at=channels)
    _check_shift(call, input, _quantizer(module), channels)
    return call.add("quantizer", x, channels_at=channels, **quantizer_settings(_quantizer(module)))


def _axis_of_quantizer(call: Reader, x: Tensor, module: Any) -> int:
    """The axis that a quantizer alone reads as channels: any, unless it shifts each channel by a number of its own."""
    quantizer = None if isinstance(module, GradientQuantization) else _quantizer(module)
    axis = x.dim() - 1 - quantizer.dimensions if type(quantizer) is RSign else 0
    return axis if axis > 0 else call.channel_axis(x)


def _quantizer(module: Any) -> Quantization:
    quantizer = module.activation_function if isinstance(module, QActivation) else module
    assert isinstance(quantizer, Quantization)
    return quantizer


def _check_low_bit(layer: LowBit) -> None:
    kind = type(layer)
    if kind not in (QLinear, *_DIMENSIONS):
        raise Refusal(
            f"{kind.__name__} is a subclass of a low-bit layer, and may compute something else",
            f"Use QConv1d, QConv2d or QLinear itself, {PARTIAL}",
        )
    if not layer.exact:
        raise Refusal(
            "a layer with exact=False computes on floats, whose sums depend on the machine",
            "Set layer.exact = True; the parameters stay",
        )
    if not gives_its_quantizers_values(layer.activation):
        raise Refusal(
            f"its activation is a {type(layer.activation).__name__} with a forward of its own",
            f"Use QActivation itself, with a quantizer, {PARTIAL}",
        )
    for which, quantizer in (("weight", layer.weight_quantization), ("input", layer.input_quantization)):
        if quantizer.exact_max_code is None:
            raise Refusal(
                f"its {which} quantizer {quantizer} {quantizer.why_no_codes}, so there are no codes to compute on",
                f"{_with_codes(quantizer)}, or a float layer instead, {PARTIAL}",
            )
    _check_weight(layer)
    if isinstance(layer, (QConv1d, QConv2d)):
        _check_borders(layer)


def _with_codes(quantizer: Quantization) -> str:
    if quantizer.max_code is None:
        return "Use one that has (1 to 8 bits)"
    return "Define max_code, codes and scale beside it, for the same values"


def _check_hooks(layer: LowBit, x: Tensor) -> None:
    """Refuse hooks on the quantizers that change what they take or give; those that look on do no harm."""
    with torch.no_grad():
        if layer._is_watched() and isinstance(layer._operands(x), Values):
            raise Refusal(
                "a forward hook changes what one of its quantizers takes or gives",
                f"Remove the hook, or do what it does in a module, {PARTIAL}",
            )


def _check_weight(layer: LowBit) -> None:
    quantizer = layer.weight_quantization
    with torch.no_grad():
        codes = quantizer.codes(layer.weight)
    bits = quantizer.bit_width
    if quantizer.grid == "signed":
        outside, which = (codes < -(2 ** (bits - 1))) | (codes > 2 ** (bits - 1) - 1), "those of a signed integer"
    else:
        outside, which = (codes.abs() > 2**bits - 1) | (codes % 2 == 0), "the odd integers up to 2^bits - 1"
    # NaN passes here: it is told with all other parameters that are not finite
    if not 1 <= bits <= 8 or bool(outside.any()):
        raise Refusal(
            f"its weight quantizer {quantizer} has other codes than {which} of 1 to 8 bits"
            + signed_grid_remedy(quantizer, codes),
            f"Use WeightDoReFa, WeightLSQ, WeightTWN or Sign, {PARTIAL}",
        )


def _check_borders(layer: QConv1d | QConv2d) -> None:
    quantizer = layer.input_quantization
    grid = quantizer.max_code
    assert grid is not None  # just checked
    if layer.padding_mode != "zeros" or not any(map(any, layer._borders())):
        return
    if not (0 if quantizer.unsigned else -grid) <= layer._pad_code(grid) <= grid:
        raise Refusal(
            f"pad_value={layer.pad_value} is beyond the levels of its input quantizer {quantizer}",
            f"Use a pad_value from {0 if quantizer.unsigned else -1} to 1",
        )


def _check_shift(call: Reader, x: Tensor, quantizer: Quantization, channels: int) -> None:
    """Refuse an RSign whose channels are not those of the image."""
    if type(quantizer) is RSign and x.dim() - 1 - quantizer.dimensions != channels:
        raise Refusal(
            f"{quantizer} shifts axis {-1 - quantizer.dimensions} of {['batch', *x.shape[1:]]}, not the channels",
            f"Make it with dimensions={x.dim() - 1 - channels}, {PARTIAL}",
        )


def _check_pointwise(quantizer: Quantization) -> None:
    if isinstance(quantizer, RSign):  # an addition and a sign: see split.py
        if type(quantizer) is not RSign:
            raise Refusal(
                f"{type(quantizer).__name__} is a subclass of RSign, and may compute something else",
                f"Use RSign itself, {PARTIAL}",
            )
        return
    if isinstance(quantizer, WeightDoReFa):
        raise Refusal(
            "WeightDoReFa scales by statistics of a whole tensor, so an image's codes would depend on its neighbours",
            "Use InputDoReFa or Sign for activations",
        )
    if isinstance(quantizer, RangeQuantization):
        _check_range(quantizer)
    elif quantizer.exact_max_code is not None and form(quantizer) is None:
        raise Refusal(
            f"{quantizer} computes neither round(n·clip(x, 0, 1)) / n nor a sign, which are what the runtime has",
            f"Use InputDoReFa or Sign, or a class of your own with the same values and another gradient, {PARTIAL}",
        )


def _check_range(quantizer: RangeQuantization) -> None:
    if not quantizer.is_set:
        raise Refusal(f"the range of {quantizer} is not set", "Call bitorch.calibrate(model, batches), or load it")
    if not bool((quantizer.width() > 2 * SMALLEST * quantizer.levels()) & quantizer.width().isfinite()):
        raise Refusal(
            f"the range of {quantizer} has collapsed to zero in training",
            "Train on from an earlier checkpoint with a lower learning rate, or calibrate again",
        )
    if not is_uniform(quantizer):
        raise Refusal(
            f"{quantizer} is a subclass of a quantizer with a range, and has other codes than those of the range",
            f"Use one with the same codes and another gradient, {PARTIAL}",
        )
