"""Other bits for a model that is low-bit already, in place."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TypeVar

from torch import nn

from ..in_place import check_module
from ..layers import QActivation
from ..layers.low_bit import Converted, LowBit, WeightQuantized
from ..layers.own_mode import check_own_mode
from ..lost_zeros import lost_zeros
from ..model_copy import copied
from ..quantizations import GradientDoReFa, Quantization
from ..quantizations.bits import FLOAT_BITS
from ..wrappers import unwrapped_to_change
from .bits import Bits
from .convertible import holds_weight, parametrized_layers, why_parametrized
from .rule_matching import deciding_rules, titled
from .rules import Match, Rule, are_rules, as_rules
from .table import Conversion, bits_of, row_of

_Module = TypeVar("_Module", bound=nn.Module)

#: Bits of weight, activation and gradient; None, or a missing last one, leaves them as they are.
BitsLike = Bits | tuple[int | None, int | None] | tuple[int | None, int | None, int | None]


def set_bits(model: nn.Module, rules: BitsLike | Sequence[Rule | tuple[Match, BitsLike]]) -> Conversion:
    """Change the bits of low-bit layers in place: the same layers, Parameters and quantizers, whose ranges are kept.

    With 32 bits a quantizer does nothing, or, of activations that are never negative, is a ReLU. Where gradients are
    float a layer gets a GradientDoReFa when they shall have bits. Layers without quantized input, such as embeddings,
    take the weight's bits only. Nothing else changes, and a later call can take it back.

    Args:
        model: any tree of modules with low-bit layers, or one such layer. Of torch.compile, DataParallel and averaged
            models, what they wrap is changed; on DistributedDataParallel it raises.
        rules: for all low-bit layers `Bits(weight=2)`, or a tuple of weight, activation and (optionally) gradient bits.
            Or a list of rules, each a `Rule` or a pair of match and one of these. The last rule that matches a layer
            decides; a layer that none matches keeps its bits.

    Returns:
        A table of all layers that hold a weight, with their bits now, and what they were.

    Raises:
        ValueError: no low-bit layer; a rule that matches none or is overruled everywhere; bits outside 1…8 and 32, bits
            that a layer is too wide for, a quantizer whose bits are part of what it is, such as Sign, or that layers
            with different bits share; a layer to which torch.nn.utils.parametrizations was applied. The model is then
            unchanged.
    """
    model = unwrapped_to_change(model, "set_bits")
    check_module(model)
    check_own_mode(model)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, WeightQuantized)}
    if not layers:
        raise ValueError(
            f"the model has no low-bit layer{parametrized_layers(model)}; bitorch.quantize_ converts layers"
        )
    wanted = _wanted(model, layers, rules)
    before = {name: bits_of(layer) for name, layer in layers.items()}
    _check_shared(layers, wanted)
    for name, (bits, _) in wanted.items():
        _check(name, layers[name], bits)
    for name, (bits, _) in wanted.items():
        _set(layers[name], bits)
    return _table(model, wanted, before)


#: Of each layer that gets bits: these, and the rule as tables show it, None without rules.
_Wanted = dict[str, tuple[Bits, str | None]]


def _wanted(model: nn.Module, layers: Mapping[str, WeightQuantized], given: object) -> _Wanted:
    """Return what each layer is to have; layers that no rule matches are left out."""
    if not are_rules(given):
        bits = _as_bits(given, "rules")
        return dict.fromkeys(layers, (bits, None))
    rules = as_rules(given)
    given_bits = [_as_bits(rule.config, titled(rules, index)) for index, rule in enumerate(rules)]
    others = {
        name: ", ".join(filter(None, [f"a float {type(module).__name__}", why_parametrized(module)]))
        for name, module in model.named_modules()
        if not isinstance(module, Converted) and holds_weight(module)
    }
    remedy = "bitorch.quantize_ converts float layers; or change the match, or leave the rule out"
    decided = deciding_rules(rules, model, layers, others, remedy)
    return {name: (given_bits[index], f"{index + 1}: {rules[index]}") for name, index in decided.items()}


def _as_bits(given: object, where: str) -> Bits:
    if isinstance(given, Bits):
        return given
    is_bits = isinstance(given, tuple) and len(given) in (2, 3) and all(b is None or isinstance(b, int) for b in given)
    if not is_bits:
        raise TypeError(
            f"{where} must be Bits, or a tuple of weight, activation and (optionally) gradient bits, got {given!r}"
            + ("; or a list of rules such as [('*', (2, 2)), ('layer3.*', (4, 4))]" if where == "rules" else "")
        )
    try:
        return Bits(*given)  # type: ignore[misc]  # a tuple, as was just checked
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from None


def _quantizers(layer: WeightQuantized) -> dict[str, Quantization]:
    """Return the quantizers of a layer that it has, by the fields of `Bits`."""
    quantizers = {"weight": layer.weight_quantization}
    if isinstance(layer, LowBit):
        quantizers["activation"] = layer.input_quantization
        if layer.gradient_quantization is not None:
            quantizers["gradient"] = layer.gradient_quantization
    return quantizers


def _new_bits(quantizer: Quantization, bits: int | None) -> int:
    return quantizer.bit_width if bits is None else bits


def _check_shared(layers: Mapping[str, WeightQuantized], wanted: _Wanted) -> None:
    """Raise a ValueError if one quantizer would get two numbers of bits."""
    seen: dict[Quantization, tuple[str, int]] = {}
    for name, layer in layers.items():
        for field, quantizer in _quantizers(layer).items():
            bits = _new_bits(quantizer, getattr(wanted[name][0], field) if name in wanted else None)
            other, other_bits = seen.setdefault(quantizer, (name, bits))
            if other_bits != bits:
                raise ValueError(
                    f"layers {other!r} and {name!r} share one {type(quantizer).__name__}, which cannot have both "
                    f"{other_bits} and {bits} bits; give both layers the same, or each a quantizer of its own"
                )


def _check(name: str, layer: WeightQuantized, bits: Bits) -> None:
    """Raise a ValueError that names the layer if it cannot have the bits, trying them on copies of its quantizers."""
    parametrized = why_parametrized(layer)
    if parametrized:
        raise ValueError(f"layer {name!r}: {parametrized}")
    trial = _sharing(layer)
    trial._put("weight_quantization", copied(layer.weight_quantization))
    if isinstance(layer, LowBit) and isinstance(trial, LowBit):
        trial._put("activation", _trial_activation(layer.activation))
        if layer.gradient_quantization is not None:
            trial._put(
                "gradient_quantization", copy.copy(layer.gradient_quantization)
            )  # its random generator stays one
    try:
        _set(trial, bits)
        if isinstance(trial, LowBit):
            trial._max_codes()
    except ValueError as error:
        raise ValueError(f"layer {name!r}: {error}") from None


def _trial_activation(activation: nn.Module) -> nn.Module:
    if not isinstance(activation, QActivation):
        return copied(activation)
    trial = _sharing(activation)
    trial.activation_function = copied(activation.activation_function)
    return trial


def _sharing(module: _Module) -> _Module:
    """Return a copy that shares parameters and submodules, but not the dicts that hold them."""
    shallow = object.__new__(type(module))  # copy.copy would call the class, which FSDP has changed
    shallow.__dict__.update(module.__dict__, _modules=dict(module._modules))
    return shallow


def _set(layer: WeightQuantized, bits: Bits) -> None:
    for field, quantizer in _quantizers(layer).items():
        new = _new_bits(quantizer, getattr(bits, field))
        if quantizer.bit_width != new:
            quantizer.set_bits_(new)
    gradient = bits.gradient
    if isinstance(layer, LowBit) and layer.gradient_quantization is None and gradient not in (None, FLOAT_BITS):
        layer.gradient_quantization = GradientDoReFa(gradient).train(layer.training)


def _spelled(bits: Sequence[int | None]) -> str:
    return " ".join(f"{letter}{number}" for letter, number in zip("WAG", bits, strict=True) if number is not None)


def _changed(layer: WeightQuantized, before: Sequence[int | None]) -> str:
    lost = lost_zeros(layer)
    return f"was {_spelled(before)}" + ("" if lost is None else f"; {lost}")


def _table(model: nn.Module, wanted: _Wanted, before: Mapping[str, Sequence[int | None]]) -> Conversion:
    has_rules = any(rule is not None for _, rule in wanted.values())
    rows = []
    for name, module in model.named_modules():
        if isinstance(module, WeightQuantized):
            if name not in wanted:
                note, rule = "no rule", "" if has_rules else None
            else:
                note = "unchanged" if before[name] == bits_of(module) else _changed(module, before[name])
                rule = wanted[name][1]
            rows.append(row_of(name, module, module, note, rule))
        elif not isinstance(module, Converted) and holds_weight(module):
            rows.append(row_of(name, module, module, "float"))
    return Conversion(tuple(rows))
