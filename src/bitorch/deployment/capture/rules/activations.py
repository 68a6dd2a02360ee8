"""Pact, and layers that only look on: modules without a quantizer that are one call each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ....layers.debug_layers import InputDebug
from ....layers.pact import Pact
from ..problems import PARTIAL, Refusal
from ..reader import Reader
from .numbers import channel_count

#: Of codes in the runtime.
_MOST_BITS = 8


def is_pact(module: object) -> bool:
    """Say whether a module is a Pact that computes what the class computes."""
    return isinstance(module, Pact) and type(module).forward is Pact.forward


def looks_on(module: object) -> bool:
    """Say whether a module shows what passes and lets it pass, whatever it reads of it."""
    return isinstance(module, InputDebug) and type(module).forward is InputDebug.forward


def check(module: nn.Module) -> None:
    """Refuse a Pact that has no counterpart."""
    if not isinstance(module, Pact):
        return
    if module.bits > _MOST_BITS:
        raise Refusal(
            f"it has {module.bits} bits, and codes have at most {_MOST_BITS}",
            f"Use Pact({_MOST_BITS}) or less, or clamp without rounding, {PARTIAL}",
        )
    alpha = float(module.alpha.detach())
    if not 0 < alpha < math.inf:
        raise Refusal(f"its alpha is {alpha:g}, which leaves no range", f"Set it above 0, {PARTIAL}")


def passes(call: Reader, input: Tensor) -> str:
    """The rule of layers that look on."""
    channels = call.channel_axis(input)
    return call.add("identity", call.read(input, channels), channels_at=channels)


def pact(call: Reader, input: Tensor, module: Pact) -> str:
    """The rule of Pact: a clamp, a factor, codes 0 … n that are worth 1 each, and the factor undone."""
    channels = call.channel_axis(input)
    x = call.read(input, channels)
    with torch.no_grad():
        alpha = module.alpha.detach().clone()
        factor = (2**module.bits - 1) / alpha
    shape = call.shape(x)
    factors = factor.expand(channel_count(input, channels)).clone()

    def step(kind: str, of: str, function: Callable[[Tensor], Tensor], name: str, **settings: Any) -> str:
        return call.add(kind, of, function=function, shape=shape, step=name, channels_at=channels, **settings)

    x = step("clamp", x, lambda v: v.clamp(torch.zeros_like(alpha), alpha), "clamp", low=0.0, high=float(alpha))
    x = step("times", x, lambda v: v * factor, "factor", constant=factors)
    codes = {
        "form": "round",
        "bits": module.bits,
        "divide": None,
        "plus": None,
        "zero_point": 0,
        "code_scale": torch.ones(()),
        "keeps_nan": True,
    }
    x = step("quantizer", x, torch.round, "codes", **codes)
    return step("divide", x, lambda v: v / factor, "", constant=factors)
