"""How to prevent that containers of PyTorch read the weights of their layers in place of calling them."""

from __future__ import annotations

from torch import nn

from ..layers.low_bit import Converted

#: The attribute that a container's fast path depends on, and the value that closes it.
_SWITCHES: tuple[tuple[type[nn.Module], str, object], ...] = (
    (nn.TransformerEncoderLayer, "activation_relu_or_gelu", 0),  # nothing else reads it
    (nn.TransformerEncoder, "use_nested_tensor", False),  # nested tensors exist for the layers' fast paths only
)
#: Where a container keeps what the attribute was.
_KEPT = "_fast_path_without_low_bit"


def close_fast_paths(model: nn.Module) -> None:
    """Have the containers that hold low-bit layers call their layers, also in eval mode without gradients."""
    for module, name, closed in _containers(model):
        if _holds_low_bit(module) and _KEPT not in vars(module):
            setattr(module, _KEPT, getattr(module, name))
            setattr(module, name, closed)


def reopen_fast_paths(model: nn.Module) -> None:
    """Undo `close_fast_paths` where no low-bit layer is left."""
    for module, name, _ in _containers(model):
        if not _holds_low_bit(module) and _KEPT in vars(module):
            setattr(module, name, getattr(module, _KEPT))
            delattr(module, _KEPT)


def _containers(model: nn.Module) -> list[tuple[nn.Module, str, object]]:
    return [
        (module, name, closed)
        for module in model.modules()
        for kind, name, closed in _SWITCHES
        if isinstance(module, kind) and hasattr(module, name)
    ]


def _holds_low_bit(container: nn.Module) -> bool:
    return any(isinstance(module, Converted) for module in container.modules())
