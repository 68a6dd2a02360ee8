"""A low-bit layer in eval mode keeps the codes of its weight, and computes them anew when anything has changed.

PyTorch counts what is written to a Parameter, but not what is written through `.data`, as by averages of weights that
are copied into a model, through NumPy or by another process; and a validation with old codes looks like any other. So
there is a checksum besides: each row's product with fixed numbers, which reads the weight once and takes a thirtieth of
the time that making the codes takes. It misses only what is lost in the rounding of a row's sum. What is no Parameter,
or not float32, is compared number by number.
"""

from __future__ import annotations

import functools
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


class Checksum(NamedTuple):
    """What tells that a Parameter, or a part of one, is what it was."""

    owner: nn.Parameter
    address: int
    version: int
    sums: Tensor

    def is_same(self, other: Checksum) -> bool:
        """Whether both are of the same numbers."""
        is_untouched = self.owner is other.owner and self.address == other.address and self.version == other.version
        return is_untouched and torch.equal(self.sums, other.sums)


class WeightCodes(NamedTuple):
    """The integers behind a weight, what one is worth, and what they were made of.

    Attributes:
        weight: its checksum, or a copy.
        rest: copies of the quantizer's parameters and buffers.
    """

    codes: Tensor
    scale: Tensor
    settings: tuple[object, ...]
    weight: Checksum | Tensor
    rest: tuple[Tensor, ...]

    def are_of(self, settings: tuple[object, ...], weight: Checksum | Tensor, rest: tuple[Tensor, ...]) -> bool:
        """Whether they would come out as they are."""
        if self.settings != settings or len(self.rest) != len(rest):
            return False
        if self.codes.is_inference() and not torch.is_inference_mode_enabled():
            return False  # autograd takes no such tensors
        if isinstance(weight, Checksum):
            is_same = isinstance(self.weight, Checksum) and self.weight.is_same(weight)
        else:
            is_same = isinstance(self.weight, Tensor) and are_same(self.weight, weight)
        return is_same and all(are_same(one, other) for one, other in zip(self.rest, rest, strict=True))


def codes_and_scale(kept: Kept[WeightCodes] | None, quantizer: Quantization, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a quantizer's codes and scale of a weight, those that are kept where they are the same.

    Args:
        kept: of a layer in eval mode; None keeps nothing.
    """
    if kept is None or not _may_keep(quantizer, weight):
        return quantizer.codes(weight), quantizer.scale(weight)
    summed = _checksum(weight)
    told = weight if summed is None else summed
    settings, rest = _settings(quantizer), _tensors(quantizer)
    made = kept.made
    if made is None or not made.are_of(settings, told, rest):
        kept.made = None  # the memory first
        copies = tuple(tensor.detach().clone() for tensor in rest)
        is_told = summed is not None and bool(summed.sums.isfinite().all())  # an infinity hides its row
        of_weight = told if is_told else weight.detach().clone()
        made = kept.made = WeightCodes(quantizer.codes(weight), quantizer.scale(weight), settings, of_weight, copies)
    return made.codes, made.scale


def _checksum(weight: Tensor) -> Checksum | None:
    """Return the checksum of a weight; None where it does not tell enough."""
    owner = weight if isinstance(weight, nn.Parameter) else weight._base
    if not isinstance(owner, nn.Parameter) or owner.is_inference() or weight.dtype != torch.float32:
        return None
    if weight.dim() < 2 or weight.numel() == 0 or not weight.is_contiguous():
        return None
    rows = weight.detach().flatten(1)
    sums = torch.mv(rows, _fixed_numbers(rows.shape[1]))
    return Checksum(owner, weight.data_ptr(), owner._version, sums)


@functools.lru_cache(maxsize=64)
def _fixed_numbers(count: int) -> Tensor:
    """Return numbers between 1 and 2, in no order."""
    with torch.inference_mode(False):
        return torch.rand(count, generator=torch.Generator().manual_seed(count)) + 1


def _tensors(quantizer: Quantization) -> tuple[Tensor, ...]:
    members = (*quantizer._parameters.values(), *quantizer._buffers.values())
    return tuple(tensor for tensor in members if tensor is not None)


def _may_keep(quantizer: Quantization, weight: Tensor) -> bool:
    """Whether codes depend on nothing but numbers at hand, and nobody wants gradients or a trace of them."""
    kind = type(quantizer)
    if quantizer.training or built_in_quantizers.get(kind.name) is not kind:
        return False
    if torch.is_grad_enabled() and (
        weight.requires_grad or any(tensor.requires_grad for tensor in _tensors(quantizer))
    ):
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


def are_same(one: Tensor, other: Tensor) -> bool:
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
