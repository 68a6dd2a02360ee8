"""The layers of a model in another mode, in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from ..in_place import check_module
from ..runtime_mode import RuntimeMode
from ..wrappers import unwrapped_to_change
from .extensions.replacing import Request, open_modules, replace_layers
from .register import all_layer_registries

if TYPE_CHECKING:
    import torch


def convert(module: Any, new_mode: int, device: torch.device | str | None = None, verbose: bool = False) -> Any:
    """Put the implementations of a mode in the places of a model's QLinear, QConv1d, QConv2d and QConv3d, in place.

    CPU packs them: they compute on bits what they compute in eval mode, and have no gradient. The layers of an engine,
    if one is registered for the mode, are asked first. DEFAULT and RAW bring the layers back, with their Parameters,
    quantizers and hooks: weights that an engine's layer has trained, under the same names and in the same shapes, come
    back with them. Layers keep their training flag. What holds a layer otherwise than as a submodule still holds the
    one before. Parts of QMultiheadAttention and of recurrent layers are packed where they can be; other layers, and
    those of classes derived from these, stay, the latter with a warning.

    Args:
        module: any tree of modules. Of torch.compile, DataParallel and averaged models, what they wrap is changed; on
            DistributedDataParallel it raises.
        new_mode: a mode, or a sum of them.
        device: where the new layers shall be; None leaves it to the implementation.
        verbose: prints a line for each layer that is exchanged.

    Returns:
        The module. If that is itself a layer to exchange, what comes in its place: `layer = convert(layer, …)`.

    Raises:
        RuntimeError: a layer that no implementation for this mode takes, with what each has answered. Then nothing is
            changed.
        ValueError: no such mode; a packed layer into which another state_dict was loaded, so that it has no way back.
        TypeError: no module.
        ImportError: bitorch_runtime, which CPU needs, is not installed.
    """
    check_module(module)
    if not RuntimeMode.is_combined_mode(new_mode):
        raise ValueError(f"new_mode must be a RuntimeMode or a sum of them, got {new_mode!r}")
    holder = nn.Module()
    inner = unwrapped_to_change(module, "convert")
    holder._modules[""] = inner
    registries = all_layer_registries()
    parents = [("", holder), *open_modules(inner, registries)]
    changes = replace_layers(parents, Request(registries, new_mode, device))
    if verbose:
        print("".join(f"{change}\n" for change in changes), end="")
    return holder._modules[""] if inner is module else module
