"""A trained net with other ends: for other inputs, other outputs, or as what gives features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..running import as_it_was
from .end_layers import (
    append_layers_to_model,
    apply_input_size,
    apply_output_size,
    pop_last_layers,
    prepend_layers_to_model,
)

Size = Sequence[int]
Layers = nn.Module | Sequence[nn.Module]

_CHECKED_BATCH = 2


def check_ends(
    input_size: Size | None,
    output_size: Size | None,
    prepend_layers: Layers | None,
    append_layers: Layers | None,
    as_feature_extractor: bool,
) -> None:
    """Raise a ValueError for arguments of `Model.as_backbone` that say two things about one end."""
    pairs = {
        "input_size and prepend_layers": (input_size, prepend_layers),
        "output_size and append_layers": (output_size, append_layers),
        "output_size and as_feature_extractor": (output_size, as_feature_extractor or None),
    }
    for names, values in pairs.items():
        if None not in values:
            raise ValueError(f"{names} say two things about one end of the net; give one of them")


def with_ends(
    net: nn.Module,
    input_size: Size | None,
    output_size: Size | None,
    prepend_layers: Layers | None,
    append_layers: Layers | None,
    as_feature_extractor: bool,
) -> nn.Module:
    """Return a net with other ends; what `Model.as_backbone` does to `_model`, see there."""
    if as_feature_extractor:
        pop_last_layers(net)
    if input_size is not None:
        apply_input_size(net, input_size)
    if output_size is not None:
        apply_output_size(net, output_size)
    if prepend_layers is not None:
        net = prepend_layers_to_model(net, prepend_layers)
    if append_layers is not None:
        net = append_layers_to_model(net, append_layers)
    return net


def check_runs(net: nn.Module, input_size: Size | None, input_shape: Size) -> None:
    """Run a net on a random batch of two, and leave it as it was.

    Args:
        input_size: what the net was made for, if it was made for another one.
        input_shape: of a batch, that it took before.

    Raises:
        RuntimeError: it cannot take that; the message says which layers do not fit.
    """
    size = tuple(input_shape[1:] if input_size is None else input_size)
    weight = next(net.parameters(), torch.zeros(0))
    batch = torch.rand(_CHECKED_BATCH, *size, device=weight.device, dtype=weight.dtype)
    try:
        with as_it_was(net):
            net(batch)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise RuntimeError(
            f"the net with its new ends does not take a batch {list(batch.shape)}: {error}. Give layers and sizes that "
            "fit, or sanity_check=False if its inputs are other ones"
        ) from error
