"""Which layers have a low-bit form, and why others stay float."""

from __future__ import annotations

from typing import TypeGuard

from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized, type_before_parametrizations

from ..layers import (
    QGRU,
    QLSTM,
    QRNN,
    Attention,
    QAttention,
    QConv1d,
    QConv2d,
    QConv3d,
    QConvTranspose1d,
    QConvTranspose2d,
    QConvTranspose3d,
    QEmbedding,
    QEmbeddingBag,
    QGRUCell,
    QLinear,
    QLSTMCell,
    QMultiheadAttention,
    QRNNCell,
    QTransposedLinear,
)
from ..layers.low_bit import Converted
from ..layers.qtransposed_linear import is_transposed_linear
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
    nn.MultiheadAttention: QMultiheadAttention,
    Attention: QAttention,
    nn.LSTM: QLSTM,
    nn.GRU: QGRU,
    nn.RNN: QRNN,
    nn.LSTMCell: QLSTMCell,
    nn.GRUCell: QGRUCell,
    nn.RNNCell: QRNNCell,
}


def low_bit_class(kind: type[nn.Module]) -> type[Converted] | None:
    """Return the class of what a float layer of exactly this class becomes; None where it cannot be converted."""
    return QTransposedLinear if is_transposed_linear(kind) else LOW_BIT.get(kind)


def supported() -> str:
    """Return the names of the float layers that can be converted, for messages."""
    own = ["Attention" if cls is Attention else f"nn.{cls.__name__}" for cls in LOW_BIT]
    return ", ".join([*own, "Conv1D of transformers"])


def is_low_bit(module: nn.Module) -> TypeGuard[Converted]:
    """Return whether a module is the low-bit form of a layer that can be converted."""
    return isinstance(module, tuple(LOW_BIT.values()))  # QTransposedLinear is a QLinear


def holds_weight(module: nn.Module) -> bool:
    """Return whether a module itself, and not a part of it, holds a matrix or larger; a quantizer's is no weight."""
    if isinstance(module, Quantization | ParametrizationList):
        return False
    return any(p.dim() >= 2 for p in own_tensors(module))


def own_tensors(module: nn.Module) -> list[nn.Parameter]:
    """Return the Parameters of a module itself, those among them that its parametrized tensors come from."""
    own = list(module.parameters(recurse=False))
    for part in _parametrizations(module).values():
        own.extend(part.parameters(recurse=False))
    return own


def _parametrizations(module: nn.Module) -> dict[str, nn.Module]:
    """Return what computes the tensors of a layer to which `torch.nn.utils.parametrize` was applied, by their names."""
    return dict(module.get_submodule("parametrizations").named_children()) if is_parametrized(module) else {}


def why_parametrized(module: nn.Module) -> str:
    """Return what to do about a layer to which torch.nn.utils.parametrizations was applied; "" if none was."""
    names = list(_parametrizations(module))
    if not names:
        return ""
    removals = ", ".join(f"remove_parametrizations(layer, {name!r})" for name in names)
    return f"its {' and '.join(names)} is parametrized; first torch.nn.utils.parametrize.{removals}"


def parametrized_layers(model: nn.Module) -> str:
    """Return the layers of a model that are parametrized, with the remedy, in parentheses; "" if there are none."""
    found = [f"{name}: {why}" for name, module in model.named_modules() if (why := why_parametrized(module))]
    return f" ({'; '.join(found)})" if found else ""


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
    owners = attention_parts(model)
    for name, module in model.named_modules():
        if any(is_lazy(p) for p in module._parameters.values()):
            raise ValueError(f"layer {name!r} has no shape yet; run one batch through the model first")
        if not holds_weight(module) and type(module) not in (Attention, QAttention):
            continue
        if name in owners:
            reasons[name] = f"a part of {owners[name]!r}, and becomes what that becomes"
        elif "forward" in module.__dict__:
            reasons[name] = "its forward was replaced on the instance"
        elif low_bit_class(type(module)) is not None or is_low_bit(module):
            reasons[name] = ""
        elif is_parametrized(module) and low_bit_class(type_before_parametrizations(module)) is not None:
            reasons[name] = why_parametrized(module)
        elif isinstance(module, tuple(LOW_BIT)):
            reasons[name] = "a subclass may compute something else"
        else:
            reasons[name] = f"{type(module).__name__} is not supported"
    return reasons


def attention_parts(model: nn.Module) -> dict[str, str]:
    """Return the name of its nn.MultiheadAttention for each module inside one, which that may read and not call."""
    owners: dict[str, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            for part, _ in module.named_modules(prefix=name):
                if part != name:
                    owners.setdefault(part, name)
    return owners


def check_named(name: str, reasons: dict[str, str], argument: str) -> None:
    """Raise if a layer that the user named does not exist or cannot be converted."""
    if name not in reasons:
        raise ValueError(f"{argument} names {name!r}, which is no layer with a weight; there are {', '.join(reasons)}")
    if reasons[name]:
        raise ValueError(f"{argument} names {name!r}, which stays float: {reasons[name]}. Supported are {supported()}")
