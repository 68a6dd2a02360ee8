"""ReLUs that a low-bit layer's clip makes superfluous."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from torch import nn

from ..layers import AbsorbedReLU
from ..layers.input_quantizer import gives_its_quantizers_values
from ..layers.low_bit import LowBit
from ..quantizations.own_values import codes_are_values
from .table import LayerConversion

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


def absorb_relus(model: nn.Module, layers: Collection[nn.Module]) -> list[LayerConversion]:
    """Replace the ReLUs that the clip of one of the layers makes superfluous; see LowBitConfig.absorb_relu."""
    rows = []
    for place in list(_places_of(model, nn.ReLU)):
        if place.reader in layers and _clips(place.reader):
            place.parent._modules[place.name] = AbsorbedReLU._sharing(place.module)
            note = "the next layer clips to [0, 1]"
            rows.append(LayerConversion(place.full_name, "ReLU", (), "AbsorbedReLU", None, None, None, note))
    return rows


def restore_relus(model: nn.Module) -> list[LayerConversion]:
    """Make nn.ReLU again of each AbsorbedReLU whose reader clips no more."""
    rows = []
    for place in list(_places_of(model, AbsorbedReLU)):
        if not _clips(place.reader):
            assert isinstance(place.module, AbsorbedReLU)
            place.parent._modules[place.name] = place.module._as_float()
            rows.append(LayerConversion(place.full_name, "AbsorbedReLU", (), "ReLU", None, None, None, ""))
    return rows


def _clips(reader: nn.Module | None) -> bool:
    if not isinstance(reader, LowBit) or not gives_its_quantizers_values(reader.activation):
        return False
    quantizer = reader.input_quantization
    return quantizer.clips_negative and codes_are_values(quantizer)


@dataclass(frozen=True)
class _Place:
    """Where a module stands in an nn.Sequential, and the layer behind it that reads max(x, 0) of its output."""

    parent: nn.Module
    name: str
    full_name: str
    module: nn.Module
    reader: nn.Module | None


def _places_of(model: nn.Module, kind: type[nn.Module]) -> Iterator[_Place]:
    for path, parent in model.named_modules():
        if type(parent) is not nn.Sequential:
            continue
        # Not named_children, which leaves out a module's second place.
        children = [(name, child) for name, child in parent._modules.items() if child is not None]
        for index, (name, child) in enumerate(children):
            if type(child) is kind:
                reader = next((m for _, m in children[index + 1 :] if type(m) not in _COMMUTES_WITH_RELU), None)
                yield _Place(parent, name, f"{path}.{name}" if path else name, child, reader)
