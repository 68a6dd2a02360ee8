"""Containers of PyTorch that read the weights of their layers in place of calling them."""

from __future__ import annotations

from torch import nn

from .low_bit import Converted


def reads_weights(module: nn.Module) -> bool:
    """Return whether a container may read the weights of its layers, so that others in their places have no effect."""
    if isinstance(module, nn.TransformerEncoderLayer):
        return bool(module.activation_relu_or_gelu)
    return isinstance(module, nn.MultiheadAttention) and not isinstance(module, Converted)
