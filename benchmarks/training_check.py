"""Before anything is timed: a step on integers gives what the same step on floats gives, bit for bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bitorch.layers import QConv2d
from bitorch.layers.fused_norm import FusedBatchNorm2d
from bitorch.layers.low_bit import LowBit
from bitorch_runtime import training
from training_contestants import bits_name
from training_step import batch_of, prepare

#: The largest code of a weight that the kernels take in bytes.
_BYTE = 127
#: Of gradients of low-bit weights, which are sums of floats in another order, relative to the largest of a layer. Those
#: of PyTorch's convolutions are further from the sums in float64 than the kernels' are, most with AVX2.
_TOLERANCE = 3e-4
#: Of the loss with fused layers, whose BatchNorm rounds otherwise: a code near a threshold may become its neighbour,
#: which the BatchNorms of a few images spread.
_FUSED_TOLERANCE = 0.2


@dataclass(frozen=True)
class Outputs:
    """What every layer gave, and the shapes of what it got."""

    tensors: dict[str, Tensor]
    shapes: dict[str, torch.Size]


@dataclass(frozen=True)
class Step:
    """A first step: its loss, what every layer gave, and the gradients of all parameters."""

    loss: float
    net: nn.Module
    outputs: Outputs
    gradients: dict[str, Tensor]
    layers: dict[str, LowBit]


def check(net: str, batch: int, bits: tuple[int, int, int]) -> str:
    """Compare first steps from one seed: on floats, on integers, and on integers with fused layers.

    Returns:
        What was found equal, and what the layers computed with.

    Raises:
        RuntimeError: another loss, output or gradient.
    """
    name = bits_name(bits)
    floats, integers, fused = (
        _first_step(f"{name}, {how}", net, batch) for how in ("simulated", "integer", "integer, fused")
    )
    _compare(f"{net}, {name}", floats, integers)
    off = abs(fused.loss / floats.loss - 1)
    if not off <= _FUSED_TOLERANCE:
        raise RuntimeError(f"{net}, {name}: the loss is {fused.loss} with fused layers, but {floats.loss} without")
    norms = sum(isinstance(module, FusedBatchNorm2d) for module in fused.net.modules())
    return (
        f"{net}, {name}: on integers and on floats the loss, {len(floats.outputs.tensors)} outputs of layers, and all "
        f"gradients but those of low-bit weights are the same bits; with {norms} BatchNorms fused, the loss is off by "
        f"{off:.1e}. {_kernels(integers)}"
    )


def _compare(what: str, floats: Step, integers: Step) -> None:
    if integers.loss != floats.loss:
        raise RuntimeError(f"{what}: the loss is {integers.loss} on integers, but {floats.loss} on floats")
    for layer, expected in floats.outputs.tensors.items():
        if not torch.equal(integers.outputs.tensors[layer], expected):
            raise RuntimeError(f"{what}: the output of {layer} on integers is not that on floats")
    low_bit = {f"{name}.weight" for name in floats.layers}
    for name, gradient in floats.gradients.items():
        off = float((integers.gradients[name] - gradient).abs().max())
        allowed = _TOLERANCE * float(gradient.abs().max()) if name in low_bit else 0.0
        if not off <= allowed:
            raise RuntimeError(f"{what}: the gradient of {name} on integers is off by {off}, and {allowed} is allowed")


def _first_step(name: str, net: str, batch: int) -> Step:
    torch.manual_seed(0)
    step = prepare(name, net, *batch_of(net, batch))
    outputs = Outputs({}, {})
    layers = {name: module for name, module in step.net.named_modules() if isinstance(module, LowBit)}
    if not name.endswith("fused"):  # a fused module that is watched computes by itself
        for watched, module in _modules(step.net, layers):
            module.register_forward_hook(_keeping(outputs, watched))
    loss = step()
    gradients = {name: each.grad for name, each in step.net.named_parameters() if each.grad is not None}
    return Step(loss, step.net, outputs, gradients, layers)


def _modules(net: nn.Module, layers: dict[str, LowBit]) -> Iterator[tuple[str, nn.Module]]:
    """Give all modules but those in low-bit layers: quantizers with hooks would be called for their values."""
    for name, module in net.named_modules():
        if not any(name.startswith(f"{layer}.") for layer in layers):
            yield name, module


def _keeping(step: Outputs, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        step.shapes[name], step.tensors[name] = inputs[0].shape, output.detach()

    return keep


def _kernels(step: Step) -> str:
    """Say what the low-bit layers computed with."""
    ways = [layer.training_kernels() for layer in step.layers.values()]
    forward, backward = (sum(getattr(way, name) == "integer" for way in ways) for name in ("forward", "backward"))
    methods = Counter(_method(layer, step.outputs.shapes[name]) for name, layer in step.layers.items())
    said = " and ".join(f"{count} by {method}" for method, count in methods.items())
    return (
        f"Of {len(ways)} low-bit layers {forward} go forward on integers ({said}) and {backward} backward, "
        f"with the kernels {training.kernel()}."
    )


def _method(layer: LowBit, shape: torch.Size) -> str:
    """Return how the kernels multiply in a forward of a convolution, "bytes" or "popcount"."""
    assert isinstance(layer, QConv2d)  # as all low-bit layers of these nets are
    samples, channels, *pixels = shape
    codes = layer.weight_codes().permute(0, 2, 3, 1).contiguous().numpy()
    return training.forward_method(
        [samples, *pixels, channels],
        codes.astype(np.int8) if np.abs(codes).max() <= _BYTE else codes,
        bits=layer.input_quantization.bit_width,
        stride=_pair(layer.stride),
        padding=_pair(layer.padding),
    )


def _pair(numbers: object) -> tuple[int, int]:
    assert isinstance(numbers, tuple)  # padding has no name in these nets
    vertical, horizontal = numbers
    return vertical, horizontal
