"""The modules that get a row each, and what can be said of them without running anything."""

from __future__ import annotations

from collections.abc import Container, Iterator

import torch
from torch import Tensor, nn

from ..layers import QActivation
from ..layers.composed import Composed, PartLinear
from ..layers.input_quantizer import quantizer_of
from ..layers.low_bit import LowBit, WeightQuantized
from ..quantizations import Quantization
from ..quantizations.bits import FLOAT_BITS
from .histograms import of_levels, plain, together
from .rows import Histogram, Levels
from .weight_bytes import scales_of

#: Series of a weight's histogram; with more levels one series has them all.
_MOST_SERIES = 16
_FLOAT_BYTES = 4


def parts_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return, by name, every module that holds parameters or buffers of its own, or is a quantizer by itself.

    What is inside a low-bit layer (quantizers, learned steps) belongs to the layer. A module that is used in several
    places is there once.
    """
    parts: dict[str, nn.Module] = {}
    inside: set[int] = set()
    for name, module in model.named_modules():
        if id(module) in inside:
            continue
        if is_unit(module):
            inside.update(id(child) for child in module.modules())
        own = (*module._parameters.values(), *module._buffers.values())
        if is_unit(module) or any(tensor is not None for tensor in own):
            parts[name] = module
    return parts


def part_of(path: str | None, parts: Container[str]) -> str | None:
    """Return the part that a module is, or lies in; None if it is in none, or there is no module."""
    if path is None:
        return None
    while path not in parts and path != "":
        path = path.rpartition(".")[0]
    return path if path in parts else None


def is_unit(module: nn.Module) -> bool:
    """Say whether a module is one part with all that is in it."""
    return isinstance(module, (WeightQuantized, QActivation, Quantization))


def quantizers(part: nn.Module) -> tuple[Quantization | None, Quantization | None]:
    """Return the quantizers of weight and input; None where there is none."""
    if isinstance(part, LowBit):
        return part.weight_quantization, part.input_quantization
    if isinstance(part, WeightQuantized):
        return part.weight_quantization, None
    if isinstance(part, QActivation):
        return None, quantizer_of(part)
    return None, part if isinstance(part, Quantization) else None


def bits(part: nn.Module) -> tuple[int | None, int | None, int | None]:
    """Return the bits of weight, activations and gradients: None for what the part has not, 32 for float."""
    weight, activation = quantizers(part)
    if not isinstance(part, WeightQuantized):
        return None, None if activation is None else known_bits(activation), None
    gradient = part.gradient_quantization if isinstance(part, LowBit) else None
    return known_bits(weight), known_bits(activation), known_bits(gradient)


def known_bits(quantizer: Quantization | None) -> int:
    """Return a quantizer's bits; 32 where there is none, or it does not say them."""
    return quantizer.bit_width if quantizer is not None and 0 < quantizer.bit_width < FLOAT_BITS else FLOAT_BITS


def possible_levels(quantizer: Quantization) -> int | None:
    """Return how many levels a quantizer has: 2^bits, or fewer where its largest code says so; None without a grid."""
    largest = quantizer.exact_max_code
    if largest is None:
        return None
    return min(2**quantizer.bit_width, 2 * largest + 1) if 0 < quantizer.bit_width < FLOAT_BITS else 2 * largest + 1


def weight_of(part: nn.Module) -> Tensor | None:
    """Return the tensor that stands for a part: its weight, else its largest parameter; None where it has none.

    The weight of a projection of attention is some rows of its parent's parameter.
    """
    if isinstance(part, WeightQuantized):
        return part.weight
    weight = part._parameters.get("weight")
    if weight is not None:
        return weight
    own = _without_projections(part)
    return max(own, key=lambda parameter: parameter.numel()) if own else None


def weight_levels(part: nn.Module) -> tuple[Levels | None, Histogram | None]:
    """Return the levels of a part's weight that occur, and its histogram: of matrices and kernels only."""
    weight = part._current_weight().detach() if isinstance(part, WeightQuantized) else weight_of(part)
    if weight is None or weight.dim() < 2 or not weight.is_floating_point() or weight.numel() == 0:
        return None, None
    quantizer = quantizers(part)[0]
    possible = None if quantizer is None else possible_levels(quantizer)
    if quantizer is None or possible is None:
        return None, plain(weight)
    with torch.no_grad():
        codes = quantizer.codes(weight)
        values = codes * quantizer.scale(weight)
    histogram = of_levels(weight, codes, values)
    if histogram is None:  # nothing is finite
        return None, None
    seen = len(histogram.levels)
    return Levels(seen, possible), histogram if seen <= _MOST_SERIES else together(histogram)


class Shares:
    """Bytes and numbers of tensors, each of which counts once: with the first part that holds it."""

    def __init__(self) -> None:
        self._seen: dict[int, Tensor] = {}  # with the tensors, so that no other one gets an id of theirs

    def parameters(self, part: nn.Module) -> int:
        """Return how many numbers a part's parameters hold, those of its quantizers among them."""
        return sum(parameter.numel() for parameter in self._new(_parameters(part)))

    def float_bytes(self, part: nn.Module) -> int:
        """Return the bytes of what the float layer's state_dict holds: without what quantizers have learned."""
        own = [tensor for module in _float_modules(part) for tensor in _saved(module)]
        return sum(tensor.numel() * tensor.element_size() for tensor in self._new(own))

    def estimated_bytes(self, part: nn.Module) -> int:
        """Return the bytes with the weight in its bits and one float32 for each scale; all else float32 as it is."""
        quantizer, weight = quantizers(part)[0], weight_of(part)
        is_new = weight is not None and id(weight) not in self._seen
        total = self.float_bytes(part)
        if quantizer is None or weight is None or not is_new or known_bits(quantizer) == FLOAT_BITS:
            return total
        assert isinstance(part, WeightQuantized)  # nothing else has a quantizer of the weight
        packed = -(-weight.numel() * quantizer.bit_width // 8) + _FLOAT_BYTES * scales_of(part)
        return total - weight.numel() * weight.element_size() + packed

    def _new(self, tensors: list[Tensor]) -> Iterator[Tensor]:
        for tensor in tensors:
            if id(tensor) not in self._seen:
                self._seen[id(tensor)] = tensor
                yield tensor


def _parameters(part: nn.Module) -> list[Tensor]:
    if isinstance(part, PartLinear):
        return [*part.parameters(), *_saved(part)]
    if is_unit(part):
        return list(part.parameters())
    return _without_projections(part)


def _without_projections(part: nn.Module) -> list[Tensor]:
    """Return a part's own parameters; those that its products show are theirs."""
    hidden = part._shown() if isinstance(part, Composed) else ()
    return [parameter for name, parameter in part._parameters.items() if parameter is not None and name not in hidden]


def _saved(module: nn.Module) -> list[Tensor]:
    """Return the tensors of the float layer's state_dict that count as a module's: a projection has its rows."""
    if isinstance(module, PartLinear):
        return [module.weight] if module.bias is None else [module.weight, module.bias]
    return _without_projections(module) if isinstance(module, Composed) else saved_tensors(module)


def _float_modules(part: nn.Module) -> list[nn.Module]:
    """A part, and what is in it besides quantizers."""
    if not is_unit(part):
        return [part]
    hidden = {id(m) for child in part.modules() if isinstance(child, Quantization) for m in child.modules()}
    return [module for module in part.modules() if id(module) not in hidden]


def saved_tensors(module: nn.Module) -> list[Tensor]:
    """Return a module's own tensors that its state_dict has."""
    buffers = [b for name, b in module._buffers.items() if name not in module._non_persistent_buffers_set]
    return [tensor for tensor in (*module._parameters.values(), *buffers) if tensor is not None]
