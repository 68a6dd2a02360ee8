"""What a layer's weight comes from where it is no plain Parameter: pruning, weight_norm, parametrizations.

`torch.nn.utils.prune`, and the hook-based weight_norm and spectral_norm, keep `weight_orig`, or `weight_g` and
`weight_v`, as Parameters, and before every call of the layer compute its plain attribute `weight` from them. In between
it is what the last call left, whatever has happened to the Parameters since. `torch.nn.utils.parametrizations` computes
it whenever it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


def computes_tensor(hook: object) -> bool:
    """Whether a forward pre-hook does nothing but compute a tensor of its layer."""
    return isinstance(hook, BasePruningMethod | WeightNorm | SpectralNorm)


def computed_names(layer: nn.Module) -> list[str]:
    """Return the names of the tensors that hooks of torch.nn.utils compute before a call."""
    return [_target(hook) for hook in layer._forward_pre_hooks.values() if computes_tensor(hook)]


def _target(hook: object) -> str:
    return str(hook._tensor_name if isinstance(hook, BasePruningMethod) else getattr(hook, "name", ""))


def refresh(layer: nn.Module, name: str) -> None:
    """Compute a weight anew where hooks of torch.nn.utils will do so at the next call."""
    for hook in layer._forward_pre_hooks.values():
        target = _target(hook)
        if target != name and not target.startswith(f"{name}_"):  # pruned parts of a computed weight come first
            continue
        if isinstance(hook, BasePruningMethod):
            setattr(layer, target, hook.apply_mask(layer))
        elif isinstance(hook, WeightNorm):
            setattr(layer, target, hook.compute_weight(layer))
        elif isinstance(hook, SpectralNorm):  # without an iteration, which would change the buffers
            setattr(layer, target, hook.compute_weight(layer, do_power_iteration=False))


def is_frozen(layer: nn.Module, name: str) -> bool:
    """Whether nothing that a weight comes from is trained."""
    parameters = [tensor for _, tensor in _sources(layer, name) if isinstance(tensor, nn.Parameter)]
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def is_in(state_dict: Mapping[str, Any], layer: nn.Module, name: str, prefix: str) -> bool:
    """Whether a state_dict has something that a weight comes from."""
    return any(prefix + key in state_dict for key, _ in _sources(layer, name))


def load_parametrization(layer: nn.Module, name: str, state_dict: dict[str, Any], prefix: str, assign: bool) -> None:
    """Load what a parametrized weight comes from ahead of its turn, which is behind that of the layer's quantizers."""
    if not is_parametrized(layer, name):
        return
    metadata = {"assign_to_params_buffers": assign}
    root = f"parametrizations.{name}"
    for path, module in layer.get_submodule(root).named_modules(prefix=prefix + root):
        module._load_from_state_dict(state_dict, f"{path}.", metadata, False, [], [], [])


def _sources(layer: nn.Module, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield what a weight comes from, by the keys in the layer's state_dict."""
    own = (*layer._parameters.items(), *layer._buffers.items())
    for key, tensor in own:
        if tensor is not None and (key == name or key.startswith(f"{name}_")):
            yield key, tensor
    if is_parametrized(layer, name):
        root = f"parametrizations.{name}"
        part = layer.get_submodule(root)
        yield from part.named_parameters(prefix=root)
        yield from part.named_buffers(prefix=root)
