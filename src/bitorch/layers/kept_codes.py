"""A low-bit layer in eval mode keeps the codes of its weight, and computes them anew when anything has changed.

What the codes were made of is compared number by number at every call, which takes a tenth of the time that making them
takes. Counting writes would be faster still, but not all are counted: not those through `.data`, as of averaged weights
that are copied into a model, through NumPy or from another process, and a validation with old codes looks like any
other.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from ..kept import Kept
from ..operators.last_call import is_at_work
from ..quantizations import Quantization
from ..quantizations.names import built_in_quantizers
from ..quantizations.own_values import is_as_made

#: What every module has among its attributes.
_OF_ANY_MODULE = frozenset(vars(nn.Module()))


class WeightCodes(NamedTuple):
    """The integers behind a weight, what one is worth, and copies of what they were made of."""

    codes: Tensor
    scale: Tensor
    settings: tuple[object, ...]
    made_of: tuple[Tensor, ...]

    def are_of(self, settings: tuple[object, ...], tensors: tuple[Tensor, ...]) -> bool:
        """Whether they would come out as they are."""
        if self.settings != settings or len(self.made_of) != len(tensors):
            return False
        if self.codes.is_inference() and not torch.is_inference_mode_enabled():
            return False  # autograd takes no such tensors
        return all(_are_same(one, other) for one, other in zip(self.made_of, tensors, strict=True))


def codes_and_scale(kept: Kept[WeightCodes] | None, quantizer: Quantization, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a quantizer's codes and scale of a weight, those that are kept where they are the same.

    Args:
        kept: of a layer in eval mode; None keeps nothing.
    """
    if kept is None or not _may_keep(quantizer, weight):
        return quantizer.codes(weight), quantizer.scale(weight)
    tensors = (weight, *quantizer.parameters(), *quantizer.buffers())
    settings = _settings(quantizer)
    made = kept.made
    if made is None or not made.are_of(settings, tensors):
        kept.made = None  # the memory first
        copies = tuple(tensor.detach().clone() for tensor in tensors)
        made = kept.made = WeightCodes(quantizer.codes(weight), quantizer.scale(weight), settings, copies)
    return made.codes, made.scale


def _may_keep(quantizer: Quantization, weight: Tensor) -> bool:
    """Whether codes depend on nothing but numbers at hand, and nobody wants gradients or a trace of them."""
    kind = type(quantizer)
    if quantizer.training or built_in_quantizers.get(kind.name) is not kind:
        return False
    if torch.is_grad_enabled() and (weight.requires_grad or any(p.requires_grad for p in quantizer.parameters())):
        return False
    if (
        type(weight) not in (Tensor, nn.Parameter)
        or not weight.is_cpu
        or is_at_work()
        or forward_ad._current_level >= 0
    ):
        return False
    return is_as_made(quantizer, kind, "codes") and is_as_made(quantizer, kind, "scale")


def _settings(quantizer: Quantization) -> tuple[object, ...]:
    """Return the class and the plain attributes; other objects by their identity."""
    own = [(name, value) for name, value in vars(quantizer).items() if name not in _OF_ANY_MODULE]
    plain = [(name, value if isinstance(value, int | float | str | None) else id(value)) for name, value in own]
    return (type(quantizer), *plain)


def _are_same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors on the CPU are equal bit for bit."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(_bits(one), _bits(other))


def _bits(x: Tensor) -> Tensor:
    """Return a tensor's bits as integers, in as few as they can be."""
    size = x.element_size()
    is_long = x.is_contiguous() and x.numel() * size % 8 == 0 and x.storage_offset() * size % 8 == 0
    if is_long:
        return x.detach().flatten().view(torch.int64)
    return x.detach().view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[size])
