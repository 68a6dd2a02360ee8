"""How many channels a layer has, for quantizers with something for each of them."""

from __future__ import annotations

from torch import nn


def input_channels(layer: nn.Module) -> tuple[int, int]:
    """Return how many channels a layer's input has, and how many spatial dimensions come after them."""
    if isinstance(channels := getattr(layer, "in_channels", None), int):
        return channels, len(layer.kernel_size)  # type: ignore[arg-type]  # a convolution
    for name in ("in_features", "embedding_dim"):  # an embedding has no input to quantize, but rows
        if isinstance(channels := getattr(layer, name, None), int):
            return channels, 0
    raise ValueError(f'{type(layer).__name__} has no input channels that a shift could be for; use sign="approxsign"')


def output_channels(layer: nn.Module) -> int:
    """Return how many output channels a layer's weight has, as its quantizer sees it: dim 0."""
    for name in ("out_channels", "out_features", "num_embeddings"):
        if isinstance(channels := getattr(layer, name, None), int):
            return channels
    raise ValueError(
        f'{type(layer).__name__} has no output channels that a scale could be for; use weight_scale="layer"'
    )
