"""ReLUs that a low-bit layer's clip makes superfluous."""

from __future__ import annotations

from torch import nn

from ..layers import AbsorbedReLU
from ..layers.low_bit import LowBit
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


def absorb_relus(model: nn.Module) -> list[LayerConversion]:
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
            if isinstance(reader, LowBit) and reader.input_quantization.clips_negative:
                parent._modules[name] = AbsorbedReLU()
                full_name = f"{path}.{name}" if path else name
                note = "the next layer clips to [0, 1]"
                rows.append(LayerConversion(full_name, "ReLU", (), "AbsorbedReLU", None, None, None, note))
    return rows
