"""Float model to low-bit model, in place, with the same parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.nn.parameter import is_lazy

from .dorefa_config import DoReFaConfig
from .layers import AbsorbedReLU, QConv1d, QConv2d, QConv3d, QLinear
from .layers.low_bit import LowBit
from .quantizations.bits import FLOAT_BITS
from .text_table import aligned, ruled

FilterFn = Callable[[nn.Module, str], bool]
LowBitLayer = QLinear | QConv1d | QConv2d | QConv3d

#: Exact types: a subclass may compute something else, so it stays float.
_LOW_BIT: dict[type[nn.Module], type[LowBitLayer]] = {
    nn.Linear: QLinear,
    nn.Conv1d: QConv1d,
    nn.Conv2d: QConv2d,
    nn.Conv3d: QConv3d,
}
#: These read the weights of their children instead of calling them, so a converted child would have no effect.
_OPAQUE = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
#: Modules that commute with max(x, 0).
_COMMUTES_WITH_RELU = (
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.Flatten,
    nn.Identity,
)


@dataclass(frozen=True)
class LayerConversion:
    """What became of one layer. Bits are None for a layer that stayed float."""

    name: str
    layer: str
    shape: tuple[int, ...]
    became: str
    weight_bits: int | None
    activation_bits: int | None
    gradient_bits: int | None
    note: str


@dataclass(frozen=True)
class Conversion:
    """What `quantize_` did, one row for each layer with a weight. Printing it shows a table."""

    layers: tuple[LayerConversion, ...]

    def __str__(self) -> str:
        header = ("layer", "was", "weight shape", "is", "W", "A", "G", "note")
        rows = [
            (
                row.name,
                row.layer,
                "×".join(map(str, row.shape)),
                row.became,
                *(
                    "" if bits is None else str(bits)
                    for bits in (row.weight_bits, row.activation_bits, row.gradient_bits)
                ),
                row.note,
            )
            for row in self.layers
        ]
        return ruled(aligned([header, *rows]))


def quantize_(
    model: nn.Module, config: DoReFaConfig, filter_fn: FilterFn | Collection[str] | None = None
) -> Conversion:
    """Replace the model's linear layers and convolutions by low-bit ones, in place.

    The new layers hold the same Parameter objects and add no state_dict keys, so float checkpoints load with
    strict=True before and after, and optimizers built earlier stay valid. A module that is used in several places is
    converted once. Functional calls are left alone. A second call with the same config changes nothing.

    Args:
        model: any tree of modules. Not itself a layer to convert, because it could not be replaced in place.
        config: the bits, and what happens to the first and last layer.
        filter_fn: which layers to convert: a function of module and name, or a collection of names. None: all.
            First and last are found among all layers, whatever the filter says.

    Returns:
        A table of all layers that hold a weight, with what each became or why it stayed float.

    Raises:
        ValueError: a filter that matches no layer, a name that does not exist or whose layer cannot be converted, a
            layer that already has other bits, a layer that is too wide for exact sums. The model is then unchanged.
    """
    plan = _plan(model, config, filter_fn)
    new = {id(step.module): step.replacement for step in plan if step.replacement is not None}
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if id(child) in new:
                parent._modules[name] = new[id(child)]
    rows = [step.row for step in plan]
    if config.absorb_relu:
        rows.extend(_absorb_relus(model))
    return Conversion(tuple(rows))


@dataclass(frozen=True)
class _Step:
    """A layer, what replaces it (None: it stays) and its row of the table."""

    module: nn.Module
    replacement: nn.Module | None
    row: LayerConversion


def _plan(model: nn.Module, config: DoReFaConfig, filter_fn: FilterFn | Collection[str] | None) -> list[_Step]:
    """Decide on every layer, and build the new ones, before the model is touched."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(config, DoReFaConfig):
        raise TypeError(f"config must be a DoReFaConfig, got {type(config).__name__}")
    if type(model) in _LOW_BIT:
        raise ValueError(
            f"model is itself a {type(model).__name__}, which cannot be replaced in place; "
            "wrap it: nn.Sequential(model)"
        )
    reasons = _reasons_to_stay_float(model)
    convertible = {name: module for name, module in model.named_modules() if name in reasons and not reasons[name]}
    if not convertible:
        raise ValueError("the model has no layer that can be converted; supported are " + _supported())
    places = _places(convertible, reasons, config)
    chosen = _chosen(convertible, reasons, filter_fn)
    steps = []
    for name, module in model.named_modules():
        if name not in reasons:
            continue
        if reasons[name]:
            steps.append(_Step(module, None, _row(name, module, module, reasons[name])))
        elif name not in chosen:
            steps.append(_Step(module, None, _row(name, module, module, "left out by filter_fn")))
        else:
            steps.append(_convert(name, module, config, places.get(name, "inner")))
    if not config.is_float and not any(isinstance(step.replacement or step.module, LowBit) for step in steps):
        stays = "; ".join(f"{step.row.name}: {step.row.note}" for step in steps)
        raise ValueError(
            f'no layer would become low-bit ({stays}). Pass first="same" or last="same", or widen filter_fn'
        )
    return steps


def _supported() -> str:
    return ", ".join(f"nn.{cls.__name__}" for cls in _LOW_BIT)


def _reasons_to_stay_float(model: nn.Module) -> dict[str, str]:
    """Return, for every module that directly holds a matrix or larger, why it cannot be converted; "" if it can."""
    reasons: dict[str, str] = {}
    opaque: list[str] = []
    for name, module in model.named_modules():
        if any(is_lazy(p) for p in module._parameters.values()):
            raise ValueError(f"layer {name!r} has no shape yet; run one batch through the model first")
        if isinstance(module, _OPAQUE):
            opaque.append(f"{name}." if name else "")
        if not any(p is not None and p.dim() >= 2 for p in module._parameters.values()):
            continue
        if any(name.startswith(prefix) for prefix in opaque):
            reasons[name] = "its parent reads the weight without calling it"
        elif "forward" in module.__dict__:
            reasons[name] = "its forward was replaced on the instance"
        elif type(module) in _LOW_BIT or isinstance(module, LowBit):
            reasons[name] = ""
        elif isinstance(module, tuple(_LOW_BIT)):
            reasons[name] = "a subclass may compute something else"
        else:
            reasons[name] = f"{type(module).__name__} is not supported"
    return reasons


def _places(
    convertible: dict[str, nn.Module], reasons: dict[str, str], config: DoReFaConfig
) -> dict[str, Literal["first", "inner", "last"]]:
    """Return which layers are first and last, by name. A model of one layer has a first layer only."""
    order = list(convertible)
    for field, names in (("first_layers", config.first_layers), ("last_layers", config.last_layers)):
        for name in names:
            _check_named(name, reasons, field)
    places: dict[str, Literal["first", "inner", "last"]] = {}
    for name in config.last_layers or order[-1:]:
        places[name] = "last"
    for name in config.first_layers or order[:1]:
        places[name] = "first"
    return places


def _check_named(name: str, reasons: dict[str, str], argument: str) -> None:
    """Raise if a layer that the user named does not exist or cannot be converted."""
    if name not in reasons:
        raise ValueError(f"{argument} names {name!r}, which is no layer with a weight; there are {', '.join(reasons)}")
    if reasons[name]:
        raise ValueError(f"{argument} names {name!r}, which stays float: {reasons[name]}. Supported are {_supported()}")


def _chosen(
    convertible: dict[str, nn.Module],
    reasons: dict[str, str],
    filter_fn: FilterFn | Collection[str] | None,
) -> set[str]:
    """Return the names of the layers that the filter lets through."""
    if filter_fn is None:
        return set(convertible)
    if callable(filter_fn):
        chosen = {name for name, module in convertible.items() if filter_fn(module, name)}
    elif isinstance(filter_fn, str):
        raise TypeError(f"filter_fn must be a function or a collection of names, got the string {filter_fn!r}")
    else:
        for name in filter_fn:
            _check_named(name, reasons, "filter_fn")
        chosen = set(filter_fn)
    if not chosen:
        raise ValueError(f"filter_fn matches none of the layers that can be converted: {', '.join(convertible)}")
    return chosen


def _convert(name: str, module: nn.Module, config: DoReFaConfig, place: Literal["first", "inner", "last"]) -> _Step:
    quantizers = config.quantizers(place)
    if isinstance(module, LowBit):
        return _Step(module, None, _check_same(name, module, quantizers, config.exact))
    if quantizers is None:
        note = "32 bits" if config.is_float or place == "inner" else f"{place} layer"
        return _Step(module, None, _row(name, module, module, note))
    try:
        replacement = _LOW_BIT[type(module)]._sharing(
            module, **quantizers, gradient_cancellation_threshold=0.0, exact=config.exact
        )
    except ValueError as error:
        raise ValueError(f"layer {name!r}: {error}") from None
    return _Step(module, replacement, _row(name, module, replacement, "" if place == "inner" else f"{place} layer"))


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
    return _row(name, module, module, "low-bit already")


def _row(name: str, was: nn.Module, now: nn.Module, note: str) -> LayerConversion:
    largest = max((p for p in was._parameters.values() if p is not None), key=lambda p: p.numel())
    bits: tuple[int | None, int | None, int | None] = (None, None, None)
    if isinstance(now, LowBit):
        gradient = now.gradient_quantization
        bits = (
            now.weight_quantization.bit_width,
            now.input_quantization.bit_width,
            FLOAT_BITS if gradient is None else gradient.bit_width,
        )
    became = type(now).__name__ if isinstance(now, LowBit) else "float"
    return LayerConversion(name, type(was).__name__, tuple(largest.shape), became, *bits, note)


def _absorb_relus(model: nn.Module) -> list[LayerConversion]:
    """Replace the ReLUs that a low-bit layer's clip makes superfluous; see DoReFaConfig.absorb_relu."""
    rows = []
    for path, parent in model.named_modules():
        if type(parent) is not nn.Sequential:
            continue
        # Not named_children, which leaves out a module's second place.
        children = [(name, child) for name, child in parent._modules.items() if child is not None]
        for index, (name, child) in enumerate(children):
            if type(child) is not nn.ReLU:
                continue
            reader = next((m for _, m in children[index + 1 :] if type(m) not in _COMMUTES_WITH_RELU), None)
            if isinstance(reader, LowBit) and reader.input_quantization.unsigned:
                parent._modules[name] = AbsorbedReLU()
                full_name = f"{path}.{name}" if path else name
                note = "the next layer clips to [0, 1]"
                rows.append(LayerConversion(full_name, "ReLU", (), "AbsorbedReLU", None, None, None, note))
    return rows
