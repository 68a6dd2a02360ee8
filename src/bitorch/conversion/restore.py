"""Low-bit model to float model, in place, with the same parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping

from torch import nn

from ..in_place import check_module
from ..layers import QActivation
from ..layers.low_bit import Converted
from ..layers.own_mode import check_own_mode
from ..quantizations import Quantization
from ..wrappers import unwrapped_to_change
from .absorb_relus import restore_relus
from .convertible import converted_layers, holds_weight, why_parametrized
from .fast_paths import reopen_fast_paths
from .filters import FilterFn, chosen_by
from .quantize import replace_modules
from .suggestions import nearest
from .table import Conversion, LayerConversion, row_of


def float_(model: nn.Module, filter_fn: FilterFn | Collection[str] | None = None) -> Conversion:
    """Take the low-bit layers out of a model again, in place: nn.Linear, nn.Conv2d and so on instead.

    The float layers hold the same Parameter objects, hooks and settings; AbsorbedReLU becomes nn.ReLU where no low-bit
    layer clips behind it any more. So after `quantize_` and `float_` a model gives its old outputs, bit for bit, and
    has its old state_dict keys; optimizers stay valid. The quantizers are dropped, with the ranges that they learned.

    Args:
        model: any tree of modules. Not itself a low-bit layer, because it could not be replaced in place. Of
            torch.compile, DataParallel and averaged models, what they wrap is changed; on DistributedDataParallel it
            raises.
        filter_fn: which layers to take out: a function of module and name, or a collection of names. None: all.

    Returns:
        A table of all layers that hold a weight, and of quantizers outside layers, which stay.

    Raises:
        ValueError: no low-bit layer, a filter that matches none, a name of none, a layer whose class was derived from
            a low-bit one, or whose forward was replaced. The model is then unchanged.
    """
    model = unwrapped_to_change(model, "float_")
    check_module(model)
    if isinstance(model, Converted):
        raise ValueError(
            f"model is itself a {type(model).__name__}, which cannot be replaced in place; "
            "wrap it: nn.Sequential(model)"
        )
    check_own_mode(model)
    layers = converted_layers(model)
    if not layers:
        raise ValueError("the model has no low-bit layer to take out; it is float already")
    chosen = chosen_by(filter_fn, layers, lambda name: _check_low_bit(name, layers))
    for name in chosen:
        _check_restorable(name, layers[name])
    new: dict[nn.Module, nn.Module] = {layers[name]: layers[name]._as_float() for name in chosen}
    rows = list(_rows(model, layers, new))
    replace_modules(model, new)
    reopen_fast_paths(model)
    return Conversion((*rows, *restore_relus(model)))


def _check_low_bit(name: str, layers: Mapping[str, nn.Module]) -> None:
    if name not in layers:
        raise ValueError(f"filter_fn names {name!r}, which is no low-bit layer; {nearest(name, list(layers))}")


def _check_restorable(name: str, layer: Converted) -> None:
    kind, parametrized = type(layer), why_parametrized(layer)
    if parametrized:
        raise ValueError(f"layer {name!r} cannot be taken out: {parametrized}; or leave it out with filter_fn")
    if "_float_class" not in vars(kind):
        raise ValueError(
            f"layer {name!r} is a {kind.__name__}, and what a class derived from a low-bit one is in float nobody can "
            "tell; leave it out with filter_fn"
        )
    if "forward" in vars(layer):
        raise ValueError(
            f"layer {name!r} has a forward of its own, which would go on calling the low-bit layer; "
            "delete it (`del layer.forward`), or leave the layer out with filter_fn"
        )


def _rows(
    model: nn.Module, layers: Mapping[str, nn.Module], new: Mapping[nn.Module, nn.Module]
) -> Iterator[LayerConversion]:
    parts: set[nn.Module] = set()  # of what has a row
    for name, module in model.named_modules():
        if module in parts:
            continue
        if module in new:
            yield dataclasses.replace(row_of(name, module, new[module], ""), became=type(new[module]).__name__)
        elif name in layers:
            yield row_of(name, module, module, "left out by filter_fn")
        elif isinstance(module, QActivation | Quantization):
            kind = type(module).__name__
            yield LayerConversion(name, kind, (), kind, None, None, None, "stays: it stands outside a layer")
        elif holds_weight(module):
            yield row_of(name, module, module, "float already")
        if isinstance(module, Converted | QActivation | Quantization):
            parts.update(module.modules())
