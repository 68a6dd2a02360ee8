"""An allocation as rules that a training takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import nn

from ..allocation.allocate import Allocation
from ..allocation.candidates import pattern
from ..config.low_bit_config import LowBitConfig
from ..conversion.convertible import is_low_bit, low_bit_class
from ..conversion.rules import Rule


def allocated_rules(found: Allocation, base: Sequence[Rule], model: nn.Module) -> list[Rule]:
    """Return rules for `quantize_`: those that a net was made by, and one for each layer that got bits.

    Args:
        found: what each layer gets.
        base: the rules that the net was made by, each with a LowBitConfig or None.
        model: the net.
    """
    layers = {name: m for name, m in model.named_modules() if low_bit_class(type(m)) or is_low_bit(m)}
    decided = {name: _deciding(base, name, module) for name, module in layers.items()}
    own = []
    for layer in found.layers:
        index = decided[layer.layer]
        config = None if index is None else base[index].config
        if not isinstance(config, LowBitConfig):
            raise ValueError(f"no rule of the net gives layer {layer.layer!r} its bits, so none can be changed")
        weight, activation = layer.bits
        if activation is not None:
            config = dataclasses.replace(config, activation_bits=activation)
        own.append(Rule(pattern(layer.layer), dataclasses.replace(config, weight_bits=weight)))
    named = {layer.layer for layer in found.layers}
    # A rule that decides nothing any more is an error in a file of rules.
    left = {index for name, index in decided.items() if name not in named}
    return [*(rule for index, rule in enumerate(base) if index in left), *own]


def _deciding(rules: Sequence[Rule], name: str, module: nn.Module) -> int | None:
    """Return the number of the last rule that matches a layer."""
    types = {type(module), getattr(module, "_float_class", None)}
    found = [i for i, rule in enumerate(rules) if rule.matches(name) or any(cls in types for cls in rule.types)]
    return found[-1] if found else None
