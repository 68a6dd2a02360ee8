"""What becomes of each layer, decided and built before the model is touched."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from ..config.low_bit_config import LowBitConfig
from ..in_place import check_module
from ..layers import Attention, QMultiheadAttention
from ..layers.own_mode import check_own_mode
from ..lost_zeros import lost_zeros
from ..quantizations import Quantization
from .convertible import (
    attention_parts,
    check_named,
    is_low_bit,
    low_bit_class,
    parametrized_layers,
    reasons_to_stay_float,
    supported,
)
from .filters import FilterFn, chosen_by
from .layer_configs import (
    Decision,
    check_filter,
    decisions,
    rules_or_config,
)
from .low_bit_form import is_as_wanted, low_bit_form
from .step import Step
from .table import LayerConversion, row_of
from .tied import with_shared_quantizers

Place = Literal["first", "inner", "last"]


def plan_conversion(model: nn.Module, config: object, filter_fn: FilterFn | Collection[str] | None) -> list[Step]:
    """Decide on every layer, and build the new ones, before the model is touched."""
    check_module(model)
    configs = rules_or_config(config)
    if low_bit_class(type(model)) is not None:
        raise ValueError(
            f"model is itself a {type(model).__name__}, which cannot be replaced in place; "
            "wrap it: nn.Sequential(model)"
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            "model is a TorchScript module, whose layers cannot be replaced; convert it before torch.jit.script"
        )
    check_own_mode(model)
    reasons = reasons_to_stay_float(model)
    convertible = {name: module for name, module in model.named_modules() if name in reasons and not reasons[name]}
    if all(isinstance(module, Attention) for module in convertible.values()):
        raise ValueError(
            f"the model has no layer that can be converted{parametrized_layers(model)}; supported are {supported()}"
        )
    decided = decisions(configs, model, convertible, reasons)
    _check_ends(decided, reasons)
    chosen = chosen_by(filter_fn, convertible, lambda name: check_named(name, reasons, "filter_fn"))
    check_filter(decided, chosen)
    order = [name for name, module in convertible.items() if not isinstance(module, Attention)]
    steps = [
        _step(name, module, reasons[name], decided.get(name), name in chosen, order)
        for name, module in model.named_modules()
        if name in reasons
    ]
    _check_some_low_bit(steps, decided)
    return _with_parts(with_shared_quantizers(steps), model)


def _with_parts(steps: Sequence[Step], model: nn.Module) -> list[Step]:
    """Return the steps with rows that say what parts of an attention become with it."""
    owners, replacements = attention_parts(model), {step.row.name: step.replacement for step in steps}
    result = []
    for step in steps:
        name = step.row.name
        new = replacements.get(owners.get(name, ""))
        if name in owners and new is not None:
            part = new.get_submodule(name.removeprefix(f"{owners[name]}."))
            step = dataclasses.replace(step, row=row_of(name, step.module, part, f"with {owners[name]!r}"))
        result.append(step)
    return result


def _check_ends(decided: Mapping[str, Decision], reasons: dict[str, str]) -> None:
    """Raise if a config names first or last layers that do not exist or cannot be converted."""
    for decision in decided.values():
        if decision.config is not None:
            for field in ("first_layers", "last_layers"):
                for name in getattr(decision.config, field):
                    check_named(name, reasons, field)


def _check_some_low_bit(steps: Sequence[Step], decided: Mapping[str, Decision]) -> None:
    if all(decision.config is None or decision.config.is_float for decision in decided.values()):
        return
    if not any(is_low_bit(step.replacement or step.module) for step in steps):
        stays = "; ".join(f"{step.row.name}: {step.row.note}" for step in steps)
        raise ValueError(
            f'no layer would become low-bit ({stays}). Pass first="same" or last="same", or widen filter_fn'
        )


def _step(
    name: str, module: nn.Module, reason: str, decision: Decision | None, is_chosen: bool, order: Sequence[str]
) -> Step:
    if decision is None:
        return Step(module, None, row_of(name, module, module, reason))
    absorbs = decision.config is not None and decision.config.absorb_relu
    if not is_chosen:
        return Step(module, None, row_of(name, module, module, "left out by filter_fn", decision.rule), absorbs, True)
    if decision.config is None:
        return Step(module, None, _stays(name, module, decision), is_left_out=True)
    place = "inner" if decision.is_named else _place(name, decision.config, order)
    step = _convert(name, module, decision.config, place, decision.rule)
    return dataclasses.replace(step, absorbs_relu=absorbs)


def _stays(name: str, module: nn.Module, decision: Decision) -> LayerConversion:
    """Return the row of a layer that a rule, or none, leaves as it is; ValueError if it was to be float and is not."""
    if not is_low_bit(module):
        return row_of(name, module, module, "" if decision.rule else "no rule", decision.rule)
    if decision.rule:
        raise ValueError(
            f"layer {name!r} is low-bit already, but rule {decision.rule} leaves it float; "
            f"bitorch.float_(model, [{name!r}]) takes it out"
        )
    return row_of(name, module, module, "low-bit already, no rule", decision.rule)


def _place(name: str, config: LowBitConfig, order: Sequence[str]) -> Place:
    """Return a layer's place. Of a model of one layer that is the first."""
    if name in config.first_layers or (not config.first_layers and name == order[0]):
        return "first"
    if name in config.last_layers or (not config.last_layers and name == order[-1]):
        return "last"
    return "inner"


def _convert(name: str, module: nn.Module, config: LowBitConfig, place: Place, rule: str | None) -> Step:
    def quantizers_of(layer: nn.Module) -> Mapping[str, Quantization | None] | None:
        return config.attention_quantizers(layer) if isinstance(layer, Attention) else config.quantizers(place, layer)

    settings: dict[str, Any] = {"exact": config.exact, "pad_value": config.pad_value, "kernels": config.kernels}
    if is_low_bit(module):
        if not is_as_wanted(module, quantizers_of, **settings):
            raise ValueError(
                f"layer {name!r} is low-bit already, with other quantizers, another `pad_value`, `exact` or `kernels` "
                "than the config asks for; change its bits with bitorch.set_bits, take it out with bitorch.float_, "
                "leave it out with filter_fn, or convert a fresh float model (parameters load with strict=True)"
            )
        return Step(module, None, row_of(name, module, module, "low-bit already", rule))
    try:
        replacement = low_bit_form(module, quantizers_of, **settings)
    except ValueError as error:
        raise ValueError(f"layer {name!r}: {error}") from None
    if replacement is None:
        is_meant = config.is_float or place == "inner"
        note = "32 bits" if is_meant else f"{place} layer"
        return Step(module, None, row_of(name, module, module, note, rule), is_left_out=is_meant)
    lost = lost_zeros(replacement)
    notes = [] if place == "inner" or isinstance(module, Attention) else [f"{place} layer"]
    if isinstance(replacement, QMultiheadAttention) and replacement.attention is not None:
        notes.append(f"attention of {config.attention_bits} bit{'s' if config.attention_bits > 1 else ''}")
    note = "; ".join(notes if lost is None else [*notes, str(lost)])
    return Step(module, replacement, row_of(name, module, replacement, note, rule))
