"""What the quantizers of a model see in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..layers import AbsorbedReLU, QActivation
from ..layers.input_quantizer import quantizer_of
from ..layers.low_bit import LowBit
from ..quantizations import Quantization
from ..running import hooked
from .layers import named_layers
from .provenance import Provenance, mark_absorbed_relu, provenance


@dataclass(frozen=True)
class Observation:
    """One finite, non-empty input of a quantizer. Shares are in [0, 1].

    Attributes:
        layer: name of the quantized layer or activation.
        quantizer: that of the input.
        mean, std, lowest: of the input.
        negative: share of the input below 0.
        upper: upper end of the range; None where the quantizer has no fixed grid, or takes signs.
        above: share of the input above it.
        step: what one code is worth, None without a fixed grid.
        zero: share of the codes (without a grid: of the values) that are 0.
        level: the value that the whole input becomes, None if it becomes several.
        comes_from: what computed it.
    """

    layer: str
    quantizer: Quantization
    mean: float
    std: float
    lowest: float
    negative: float
    upper: float | None
    above: float
    step: float | None
    zero: float
    level: float | None
    comes_from: Provenance


@contextmanager
def observe(model: nn.Module) -> Iterator[list[Observation]]:
    """Observe the forward passes that are made inside, by hooks that are gone afterwards; a list that fills up."""
    seen: list[Observation] = []

    layers = dict(named_layers(model))

    def see(name: str, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        quantizer = input_quantizer(module)
        if quantizer is not None:
            x = next(value for value in (*arguments, *named.values()) if isinstance(value, Tensor))
            if x.numel() and torch.isfinite(x.detach()).all():
                seen.append(_observation(name, quantizer, x))

    with ExitStack() as stack:
        for module in layers.values():
            if isinstance(module, AbsorbedReLU):
                stack.callback(module.register_forward_hook(mark_absorbed_relu).remove)
        stack.enter_context(hooked(layers, see))
        yield seen


def input_quantizer(module: nn.Module) -> Quantization | None:
    """Return the quantizer of a low-bit layer's input, or of an activation; None for any other module."""
    if isinstance(module, LowBit):
        return module.input_quantization
    return quantizer_of(module) if isinstance(module, QActivation) else None


@torch.no_grad()
def _observation(name: str, quantizer: Quantization, input_tensor: Tensor) -> Observation:
    x = input_tensor.detach().float()
    largest = quantizer.exact_max_code
    has_grid = largest is not None
    codes = quantizer.codes(x) if has_grid else quantizer.forward(x)
    step = quantizer.scale(x).mean().item() if has_grid else 1.0  # of rows with steps of their own the mean
    upper = None
    if quantizer.unsigned and largest is not None:
        upper = (largest - quantizer.zero_point()) * step
    low, high = codes.amin().item(), codes.amax().item()
    return Observation(
        layer=name,
        quantizer=quantizer,
        mean=x.mean().item(),
        std=x.std(correction=0).item(),
        lowest=x.amin().item(),
        negative=_share(x < 0),
        upper=upper,
        above=0.0 if upper is None else _share(x > upper),
        step=step if has_grid else None,
        zero=_share(codes == 0),
        level=low * step if low == high and x.numel() > 1 else None,
        comes_from=provenance(input_tensor),
    )


def _share(mask: Tensor) -> float:
    return mask.float().mean().item()
