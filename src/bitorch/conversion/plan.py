"""What becomes of each layer, decided and built before the model is touched."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from torch import nn

from ..dorefa_config import DoReFaConfig
from ..layers.low_bit import LowBit
from .filters import FilterFn, chosen_by
from .kinds import LOW_BIT, check_named, reasons_to_stay_float, supported
from .table import LayerConversion, row_of


@dataclass(frozen=True)
class Step:
    """A layer, what replaces it (None: it stays) and its row of the table."""

    module: nn.Module
    replacement: nn.Module | None
    row: LayerConversion


def plan_conversion(model: nn.Module, config: DoReFaConfig, filter_fn: FilterFn | Collection[str] | None) -> list[Step]:
    """Decide on every layer, and build the new ones, before the model is touched."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(config, DoReFaConfig):
        raise TypeError(f"config must be a DoReFaConfig, got {type(config).__name__}")
    if type(model) in LOW_BIT:
        raise ValueError(
            f"model is itself a {type(model).__name__}, which cannot be replaced in place; "
            "wrap it: nn.Sequential(model)"
        )
    reasons = reasons_to_stay_float(model)
    convertible = {name: module for name, module in model.named_modules() if name in reasons and not reasons[name]}
    if not convertible:
        raise ValueError("the model has no layer that can be converted; supported are " + supported())
    places = _places(convertible, reasons, config)
    chosen = chosen_by(convertible, reasons, filter_fn)
    steps = []
    for name, module in model.named_modules():
        if name not in reasons:
            continue
        if reasons[name]:
            steps.append(Step(module, None, row_of(name, module, module, reasons[name])))
        elif name not in chosen:
            steps.append(Step(module, None, row_of(name, module, module, "left out by filter_fn")))
        else:
            steps.append(_convert(name, module, config, places.get(name, "inner")))
    if not config.is_float and not any(isinstance(step.replacement or step.module, LowBit) for step in steps):
        stays = "; ".join(f"{step.row.name}: {step.row.note}" for step in steps)
        raise ValueError(
            f'no layer would become low-bit ({stays}). Pass first="same" or last="same", or widen filter_fn'
        )
    return steps


def _places(
    convertible: dict[str, nn.Module], reasons: dict[str, str], config: DoReFaConfig
) -> dict[str, Literal["first", "inner", "last"]]:
    """Return which layers are first and last, by name. A model of one layer has a first layer only."""
    order = list(convertible)
    for field, names in (("first_layers", config.first_layers), ("last_layers", config.last_layers)):
        for name in names:
            check_named(name, reasons, field)
    places: dict[str, Literal["first", "inner", "last"]] = {}
    for name in config.last_layers or order[-1:]:
        places[name] = "last"
    for name in config.first_layers or order[:1]:
        places[name] = "first"
    return places


def _convert(name: str, module: nn.Module, config: DoReFaConfig, place: Literal["first", "inner", "last"]) -> Step:
    quantizers = config.quantizers(place, module)
    if isinstance(module, LowBit):
        return Step(module, None, _check_same(name, module, quantizers, config.exact))
    if quantizers is None:
        note = "32 bits" if config.is_float or place == "inner" else f"{place} layer"
        return Step(module, None, row_of(name, module, module, note))
    try:
        replacement = LOW_BIT[type(module)]._sharing(
            module, **quantizers, gradient_cancellation_threshold=0.0, exact=config.exact
        )
    except ValueError as error:
        raise ValueError(f"layer {name!r}: {error}") from None
    return Step(module, replacement, row_of(name, module, replacement, "" if place == "inner" else f"{place} layer"))


def _check_same(name: str, module: LowBit, quantizers: object, exact: bool) -> LayerConversion:
    """Return the row of a layer that is low-bit already; ValueError if it is not as the config wants it."""
    wanted = quantizers if isinstance(quantizers, dict) else {}
    is_as_wanted = module.exact == exact and all(
        repr(getattr(module, argument)) == repr(wanted.get(argument))
        for argument in ("weight_quantization", "input_quantization", "gradient_quantization")
    )
    if not is_as_wanted:
        raise ValueError(
            f"layer {name!r} is low-bit already, with other quantizers or another `exact` than the config asks for; "
            "leave it out with filter_fn, or convert a fresh float model (parameters load with strict=True)"
        )
    return row_of(name, module, module, "low-bit already")
