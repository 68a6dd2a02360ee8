"""Which layers have a low-bit form, and why others stay float."""

from __future__ import annotations

from typing import TypeGuard

from torch import nn
from torch.nn.parameter import is_lazy

from ..layers import (
    QConv1d,
    QConv2d,
    QConv3d,
    QConvTranspose1d,
    QConvTranspose2d,
    QConvTranspose3d,
    QEmbedding,
    QEmbeddingBag,
    QLinear,
)
from ..layers.low_bit import Converted
from ..quantizations import Quantization

#: Exact types: a subclass may compute something else, so it stays float.
LOW_BIT: dict[type[nn.Module], type[Converted]] = {
    nn.Linear: QLinear,
    nn.Conv1d: QConv1d,
    nn.Conv2d: QConv2d,
    nn.Conv3d: QConv3d,
    nn.ConvTranspose1d: QConvTranspose1d,
    nn.ConvTranspose2d: QConvTranspose2d,
    nn.ConvTranspose3d: QConvTranspose3d,
    nn.Embedding: QEmbedding,
    nn.EmbeddingBag: QEmbeddingBag,
}
#: These read the weights of their children instead of calling them, so a converted child would have no effect.
OPAQUE = (nn.MultiheadAttention, nn.TransformerEncoderLayer)


def supported() -> str:
    """Return the names of the float layers that can be converted, for messages."""
    return ", ".join(f"nn.{cls.__name__}" for cls in LOW_BIT)


def is_low_bit(module: nn.Module) -> TypeGuard[Converted]:
    """Return whether a module is the low-bit form of a layer that can be converted."""
    return isinstance(module, tuple(LOW_BIT.values()))


def holds_weight(module: nn.Module) -> bool:
    """Return whether a module itself, and not a part of it, holds a matrix or larger; a quantizer's is no weight."""
    if isinstance(module, Quantization):
        return False
    return any(p is not None and p.dim() >= 2 for p in module._parameters.values())


def converted_layers(model: nn.Module) -> dict[str, Converted]:
    """Return the low-bit layers by name, without those that are parts of another one."""
    layers: dict[str, Converted] = {}
    parts: set[nn.Module] = set()
    for name, module in model.named_modules():
        if isinstance(module, Converted) and module not in parts:
            layers[name] = module
            parts.update(module.modules())
    return layers


def reasons_to_stay_float(model: nn.Module) -> dict[str, str]:
    """Return, for every module that holds a weight, why it cannot be converted; "" if it can."""
    reasons: dict[str, str] = {}
    opaque: list[str] = []
    for name, module in model.named_modules():
        if any(is_lazy(p) for p in module._parameters.values()):
            raise ValueError(f"layer {name!r} has no shape yet; run one batch through the model first")
        if isinstance(module, OPAQUE):
            opaque.append(f"{name}." if name else "")
        if not holds_weight(module):
            continue
        if any(name.startswith(prefix) for prefix in opaque):
            reasons[name] = "its parent reads the weight without calling it"
        elif "forward" in module.__dict__:
            reasons[name] = "its forward was replaced on the instance"
        elif type(module) in LOW_BIT or is_low_bit(module):
            reasons[name] = ""
        elif isinstance(module, tuple(LOW_BIT)):
            reasons[name] = "a subclass may compute something else"
        else:
            reasons[name] = f"{type(module).__name__} is not supported"
    return reasons


def check_named(name: str, reasons: dict[str, str], argument: str) -> None:
    """Raise if a layer that the user named does not exist or cannot be converted."""
    if name not in reasons:
        raise ValueError(f"{argument} names {name!r}, which is no layer with a weight; there are {', '.join(reasons)}")
    if reasons[name]:
        raise ValueError(f"{argument} names {name!r}, which stays float: {reasons[name]}. Supported are {supported()}")
