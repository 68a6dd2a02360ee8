"""Which layers may get which bits."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from torch import nn

from ..conversion.rule_matching import deciding_rules
from ..conversion.rules import Match, Rule
from ..conversion.set_bits import set_bits
from ..conversion.table import bits_of
from ..in_place import check_module
from ..layers.low_bit import WeightQuantized
from ..model_copy import copied
from ..quantizations.bits import check_bits

#: Bits of weight and activation; of a layer without quantized input, such as an embedding, None.
Pair = tuple[int, int | None]


@dataclass(frozen=True)
class Refused:
    """Bits that a layer cannot get, and why."""

    layer: str
    bits: Pair
    reason: str


@dataclass(frozen=True)
class Candidates:
    """Layers by name, each with its present bits and those it may get; and the bits that were refused."""

    present: Mapping[str, Pair]
    possible: Mapping[str, tuple[Pair, ...]]
    refused: tuple[Refused, ...]


def pairs_of(bits: object) -> tuple[Pair, ...]:
    """Return the pairs that `bits` asks for, in order and each once.

    Args:
        bits: numbers, of which weights and activations get all pairs; or the pairs themselves.

    Raises:
        TypeError, ValueError: neither, none at all, or outside 1…8 and 32.
    """
    if not isinstance(bits, Sequence) or isinstance(bits, str) or not bits:
        raise TypeError(f"bits must be a sequence such as (1, 2, 4) or ((1, 2), (4, 4)), got {bits!r}")
    if all(isinstance(item, int) for item in bits):
        numbers = [check_bits(number) for number in bits]
        return tuple(dict.fromkeys(product(numbers, numbers)))
    for item in bits:
        if not (isinstance(item, tuple) and len(item) == 2):
            raise TypeError(
                f"bits must be numbers, or pairs of weight and activation bits, got {item!r} among {bits!r}"
            )
    return tuple(dict.fromkeys((check_bits(weight), check_bits(activation)) for weight, activation in bits))


def candidates(model: nn.Module, pairs: Sequence[Pair], layers: Sequence[Match] | None) -> Candidates:
    """Return which low-bit layers, or those of them that match, may get which of the pairs.

    Raises:
        TypeError: no module, matches that are none.
        ValueError: no low-bit layer, a match without one, or no layer that takes any of the pairs.
    """
    check_module(model)
    low_bit = {name: module for name, module in model.named_modules() if isinstance(module, WeightQuantized)}
    if not low_bit:
        raise ValueError("the model has no low-bit layer; bitorch.quantize_ converts layers")
    own = copied(model)  # to try bits on
    chosen = low_bit if layers is None else _matching(low_bit, model, layers)
    present = {name: _pair(layer) for name, layer in chosen.items()}
    possible, refused = {}, []
    for name in chosen:
        found, reasons = _tried(own, name, pairs)
        possible[name] = found
        refused += reasons
    if not any(possible.values()):
        raise ValueError(f"no layer can get any of these bits; {refused[0].layer!r}: {refused[0].reason}")
    return Candidates(present, possible, tuple(refused))


def spelled(pair: Pair) -> str:
    """Return such as W2A4."""
    weight, activation = pair
    return f"W{weight}" if activation is None else f"W{weight}A{activation}"


def order(pair: Pair) -> tuple[int, int]:
    """Return the key by which pairs are sorted."""
    weight, activation = pair
    return weight, 0 if activation is None else activation


def pattern(name: str) -> str:
    """Return the match of a rule that is for one layer only."""
    return glob.escape(name) if name else "*"  # a model that is one layer has no name


def _pair(layer: WeightQuantized) -> Pair:
    weight, activation, _ = bits_of(layer)
    assert weight is not None  # as the layer has a quantized weight
    return weight, activation


def _matching(low_bit: Mapping[str, WeightQuantized], model: nn.Module, layers: object) -> dict[str, WeightQuantized]:
    """Return the low-bit layers that some match is for, in the model's order."""
    if not isinstance(layers, Sequence) or isinstance(layers, str) or not layers:
        raise TypeError(f"layers must be a sequence of names, globs, 're:…' or layer types, got {layers!r}")
    found: set[str] = set()
    for match in layers:
        try:
            found.update(deciding_rules([Rule(match, None)], model, low_bit, {}, "take a match for low-bit layers"))
        except (TypeError, ValueError) as error:
            raise type(error)(f"layers: {error}") from None
    return {name: layer for name, layer in low_bit.items() if name in found}


def _tried(own: nn.Module, name: str, pairs: Sequence[Pair]) -> tuple[tuple[Pair, ...], list[Refused]]:
    """Return the bits that a layer has when it is given the pairs, each once, and those that it refuses."""
    layer = own.get_submodule(name)
    assert isinstance(layer, WeightQuantized)  # as the caller looked
    was = _pair(layer)
    found: dict[Pair, None] = {}
    refused = []
    for pair in pairs:
        try:
            set_bits(own, [(pattern(name), pair)])
        except ValueError as error:
            refused.append(Refused(name, pair, str(error)))
            continue
        found[_pair(layer)] = None
        set_bits(own, [(pattern(name), was)])
    return tuple(found), refused
