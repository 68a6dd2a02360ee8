"""The first and last layers of a net: found, taken out, made anew for other sizes, joined to other layers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..layers.low_bit import WeightQuantized
from .blocks import check_counts

_LINEAR = (nn.Linear,)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
#: Layers whose inputs and outputs have a size, whatever modules they hold: quantizers, or parametrizations.
_SIZED = (*_LINEAR, *_CONVOLUTIONS, *_TRANSPOSED, nn.Bilinear)
_GEOMETRY = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
#: Length of a size, as of a sample without its batch axis.
_FEATURES, _IMAGE = 1, 3

#: A leaf that was taken out: its path, the size that the rest of the net sees in its place, and a copy of it.
Popped = tuple[str, int, nn.Module]


@dataclass(frozen=True)
class _Sizes:
    """Features, or channels, of a layer's input and output."""

    input: int
    output: int


def get_children(model: nn.Module) -> list[list[Any]]:
    """Return [path, leaf] of each leaf of a net, in the order in which they are registered.

    Leaves are modules that hold no others, and layers with a weight, whose quantizers and parametrizations are parts of
    them. A path is the names with dots between them, as in `nn.Module.get_submodule`; that of a net that is itself a
    leaf is "". A leaf that stands in several places is returned for each.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    return _leaves(model, "")


def _leaves(module: nn.Module, path: str) -> list[list[Any]]:
    # `named_children` leaves out what stands there a second time.
    children = [(name, child) for name, child in module._modules.items() if child is not None]
    if not children or isinstance(module, (*_SIZED, WeightQuantized)):
        return [[path, module]]
    return [leaf for name, child in children for leaf in _leaves(child, f"{path}.{name}" if path else name)]


def set_layer_in_model(model: nn.Module, path: str | Sequence[str], layer: nn.Module) -> None:
    """Put a layer in the place of another one.

    Args:
        path: of the place, as `get_children` has it, or its names in a list.

    Raises:
        ValueError: there is no module at the path, or the path is that of the net itself.
        TypeError: layer is no module.
    """
    if not isinstance(layer, nn.Module):
        raise TypeError(f"layer must be a torch.nn.Module, got {type(layer).__name__}")
    names = path.split(".") if isinstance(path, str) else list(path)
    shown = ".".join(names)
    if not shown:
        raise ValueError("path is that of the net itself, which cannot be replaced in it; name one of its layers")
    parent: nn.Module | None = model
    for name in names[:-1]:
        parent = None if parent is None else parent._modules.get(name)
    if parent is None or parent._modules.get(names[-1]) is None:
        raise ValueError(f"there is no layer {shown!r} in {type(model).__name__}; get_children lists the paths")
    setattr(parent, names[-1], layer)


def pop_first_layers(model: nn.Module, num_layers: int = 1) -> Popped:
    """Replace the leaves from the first one to the num_layers-th of those with a size by nn.Identity, in place.

    Leaves without a size, norms and activations in front of the last one replaced, go with them.

    Returns:
        Path of the last leaf replaced, the size of its output, and a deep copy of it.

    Raises:
        ValueError: the net has fewer layers with a size; num_layers below 1. TypeError: num_layers that is no int.
    """
    return _pop(model, num_layers, first=True)


def pop_last_layers(model: nn.Module, num_layers: int = 1) -> Popped:
    """Replace the leaves from the last one back to the num_layers-th of those with a size by nn.Identity, in place.

    Leaves without a size behind it go with them. Of pooling and flattening between the last convolution and the last
    linear layer, which stand in front of the latter, nothing is replaced when one layer is popped.

    Returns:
        Path of the last leaf replaced, which is the one nearest to the input, the size of its input, and a deep copy.

    Raises:
        ValueError: the net has fewer layers with a size; num_layers below 1. TypeError: num_layers that is no int.
    """
    return _pop(model, num_layers, first=False)


def _pop(model: nn.Module, num_layers: int, *, first: bool) -> Popped:
    check_counts(num_layers=num_layers)
    leaves = get_children(model)
    if not first:
        leaves.reverse()
    sized = [index for index, (_, leaf) in enumerate(leaves) if _sizes(leaf) is not None]
    if len(sized) < num_layers:
        raise ValueError(
            f"num_layers={num_layers}, but {type(model).__name__} has {len(sized)} layers with features or channels"
        )
    end = sized[num_layers - 1]
    path, layer = leaves[end]
    sizes = _sizes(layer)
    assert sizes is not None  # as the index says
    popped = copy.deepcopy(layer)
    for place, _ in leaves[: end + 1]:
        set_layer_in_model(model, place, nn.Identity())
    return path, sizes.output if first else sizes.input, popped


def get_input_size(model: nn.Module) -> tuple[int, type[nn.Module] | None]:
    """Return features or channels of the input of the first leaf with a size, and its class; (−1, None) for none."""
    for _, leaf in get_children(model):
        if (sizes := _sizes(leaf)) is not None:
            return sizes.input, type(leaf)
    return -1, None


def get_output_size(model: nn.Module) -> tuple[int, type[nn.Module] | None]:
    """Return features or channels of the output of the last leaf with a size, and its class; (−1, None) for none."""
    for _, leaf in reversed(get_children(model)):
        if (sizes := _sizes(leaf)) is not None:
            return sizes.output, type(leaf)
    return -1, None


def apply_input_size(model: nn.Module, size: Sequence[int]) -> None:
    """Replace the first layer with a size by a new, float one for inputs of another size, in place.

    Norms in front of it, which have the old size, become nn.Identity.

    Args:
        size: of an input without its batch axis: [features], for a linear layer, or [channels, height, width], for a
            convolution in two dimensions with the old one's kernel, stride, padding, dilation, groups and bias.

    Raises:
        NotImplementedError: a size of another length.
        ValueError: three sides where the first layer is no convolution in two dimensions; a side below 1.
    """
    _check_size(size, get_input_size(model)[1])
    path, output, popped = pop_first_layers(model)
    set_layer_in_model(model, path, _new(popped, size[0], output, size))


def apply_output_size(model: nn.Module, size: Sequence[int]) -> None:
    """Replace the last layer with a size by a new, float one for outputs of another size, in place.

    What stands behind it, without a size of its own, becomes nn.Identity.

    Args:
        size: of an output, as of `apply_input_size`; of an image, height and width are not looked at.

    Raises:
        NotImplementedError, ValueError: as `apply_input_size`.
    """
    _check_size(size, get_output_size(model)[1])
    path, features, popped = pop_last_layers(model)
    set_layer_in_model(model, path, _new(popped, features, size[0], size))


def prepend_layers_to_model(model: nn.Module, layers: nn.Module | Sequence[nn.Module]) -> nn.Sequential:
    """Return the layers with the net behind them.

    Where the layers give another number of features or channels than the net takes, a layer that converts them stands
    in between: nn.Linear in front of a linear layer, a 1×1 nn.Conv2d in front of a convolution.

    Raises:
        ValueError: the numbers differ, and the net begins with neither of these. TypeError: what is no module.
    """
    return _joined(_as_module(layers), model)


def append_layers_to_model(model: nn.Module, layers: nn.Module | Sequence[nn.Module]) -> nn.Sequential:
    """Return the net with the layers behind it, and one that converts in between; as `prepend_layers_to_model`."""
    return _joined(model, _as_module(layers))


def _joined(front: nn.Module, back: nn.Module) -> nn.Sequential:
    (gives, _), (takes, kind) = get_output_size(front), get_input_size(back)
    if kind is None or gives in (-1, takes):
        return nn.Sequential(front, back)
    if issubclass(kind, _LINEAR):
        return nn.Sequential(front, nn.Linear(gives, takes), back)
    if issubclass(kind, nn.Conv2d):
        return nn.Sequential(front, nn.Conv2d(gives, takes, 1), back)
    raise ValueError(
        f"the layers in front give {gives} channels and those behind begin with a {kind.__name__} of {takes}; only in "
        "front of linear layers and convolutions in two dimensions can a layer convert them: put one there"
    )


def _as_module(layers: nn.Module | Sequence[nn.Module]) -> nn.Module:
    if isinstance(layers, nn.Module):
        return layers
    if not isinstance(layers, Sequence) or not all(isinstance(layer, nn.Module) for layer in layers):
        raise TypeError(f"layers must be a torch.nn.Module or a list of them, got {layers!r}")
    return nn.Sequential(*layers)


def _sizes(layer: nn.Module) -> _Sizes | None:
    """Return a leaf's sizes, None where it has none."""
    for inputs, outputs in (("in_features", "out_features"), ("in_channels", "out_channels")):
        gives, takes = getattr(layer, outputs, None), getattr(layer, inputs, None)
        if isinstance(takes, int) and isinstance(gives, int):
            return _Sizes(takes, gives)
    return None


def _check_size(size: Sequence[int], kind: type[nn.Module] | None) -> None:
    """Raise an error unless a layer for this size can stand in the place of one of that class."""
    if isinstance(size, str) or not isinstance(size, Sequence):
        raise TypeError(f"size must be [features] or [channels, height, width], got {size!r}")
    if len(size) not in (_FEATURES, _IMAGE):
        raise NotImplementedError(
            f"size must be [features] or [channels, height, width], without the batch axis; got {list(size)}, for "
            "which there is no layer: replace the layer with set_layer_in_model"
        )
    check_counts(**{f"size[{axis}]": side for axis, side in enumerate(size)})
    if len(size) == _IMAGE and kind is not None and not issubclass(kind, nn.Conv2d):
        raise ValueError(
            f"size={list(size)} is for a convolution in two dimensions, and the layer to be replaced is a "
            f"{kind.__name__}, which has no kernel to take; give [features]"
        )


def _new(old: nn.Module, inputs: int, outputs: int, size: Sequence[int]) -> nn.Module:
    """Return a float layer in the place of an old one, on its device and of its dtype."""
    weight: Any = next(old.parameters(), None)
    where = {} if weight is None else {"device": weight.device, "dtype": weight.dtype}
    has_bias = getattr(old, "bias", None) is not None
    if len(size) == _FEATURES:
        return nn.Linear(inputs, outputs, has_bias, **where)
    geometry = {name: getattr(old, name) for name in _GEOMETRY}
    return nn.Conv2d(inputs, outputs, bias=has_bias, **geometry, **where)
