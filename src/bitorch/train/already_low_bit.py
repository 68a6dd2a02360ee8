"""A net that comes with low-bit layers, as a function of the user's own may return it: they stay as they are."""

from __future__ import annotations

import dataclasses
from collections import Counter

from torch import nn

from ..conversion.convertible import reasons_to_stay_float
from ..conversion.quantize import quantize_
from ..conversion.rules import Rule
from ..conversion.table import Conversion, row_of
from .bits_in_force import bits_in_force
from .settings import Settings

_NAMES_SHOWN = 3


def make_low_bit(model: nn.Module, settings: Settings, rules: list[Rule] | None) -> Conversion:
    """Quantize a net as the settings say, in place. One that has low-bit layers keeps them, and nothing is changed.

    Raises:
        ValueError: see `quantize_`; also rules or settings about bits for a net that has its own.
    """
    found = bits_in_force(model)
    if not found:
        return quantize_(model, settings.config if rules is None else rules)
    own = common_bits(model)
    default = dataclasses.replace(Settings(), model=settings.model, bits=settings.bits).config
    if rules is not None or settings.bits not in (Settings.bits, own) or settings.config != default:
        names = ", ".join([*list(found)[:_NAMES_SHOWN], *(["…"] if len(found) > _NAMES_SHOWN else [])])
        raise ValueError(
            f"model {settings.model} has low-bit layers already ({names}), which stay as they are, so bits, rules and "
            "what goes with them have nothing to say; leave them out, or let it return a float model"
        )
    return kept(model)


def kept(model: nn.Module) -> Conversion:
    """Return the table of a net that was not changed."""
    modules = dict(model.named_modules())
    reasons = reasons_to_stay_float(model)
    low_bit = bits_in_force(model)
    rows = (
        row_of(name, modules[name], modules[name], "as it came" if name in low_bit else reason or "float, as it came")
        for name, reason in reasons.items()
    )
    return Conversion(tuple(rows))


def common_bits(model: nn.Module) -> tuple[int, int, int] | None:
    """Return the bits of weights, activations and gradients that most low-bit layers have; None without any."""
    ((bits, _),) = Counter(bits_in_force(model).values()).most_common(1) or ((None, 0),)
    return bits
