"""Noise of stochastic rounding that is a function of a key and of an element's place: the same bits on every device.

A generator gives the key alone, 64 bits for each backward pass. Everything else is integer arithmetic, so that the
noise depends neither on strides, nor on threads, nor on how many elements are drawn at once, and a kernel that has the
key can draw it as it goes.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

#: Elements that share a run of 16 words: their low halves are the first 16 elements, their high halves the others.
BLOCK = 32
_WORDS = 16
#: Words are counted in rows of so many, whose numbers differ in their low bits alone.
_ROW = 256
#: The first step of mix shifts by so many, and leaves nothing of smaller numbers.
_SHIFT = 16


class _Constants(NamedTuple):
    """What words are multiplied with, shifted by and masked with."""

    factor: int | Tensor = 0x7FEB352D
    other_factor: int | Tensor = 0x846CA68B - 2**32
    shift: int | Tensor = 15
    mask: int | Tensor = 0x1FFFF
    half: int | Tensor = 16
    odd: int | Tensor = 1


_NUMBERS = _Constants()
#: In eager mode PyTorch makes a tensor of a number at every call, which for few words takes longer than the call.
_TENSORS = _Constants(*(torch.tensor(number, dtype=torch.int32, device="cpu") for number in _NUMBERS))

_Word = TypeVar("_Word", int, Tensor, int | Tensor)

#: k0 and k1: the low and the high half of 64 bits, int32 each: numbers, or 0-dim tensors.
Key = tuple[int | Tensor, int | Tensor]


def draw_bits(device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Return what the key of one backward pass is made of, int64 [1], on the generator's device.

    Args:
        device: where the key is used.
        generator: None takes PyTorch's global one of the device. One of another device gives the same noise there as
            on its own.
    """
    source = device if generator is None else generator.device
    return torch.randint(-(2**63), 2**63 - 1, (1,), device=source, generator=generator)


def draw_key(device: torch.device, generator: torch.Generator | None) -> Key:
    """Return the key of one backward pass, of `draw_bits`, for a device."""
    return key_of(draw_bits(device, generator), device)


def key_of(bits: Tensor, device: torch.device) -> Key:
    """Return the key of what `draw_bits` returned. It stays on the device, so that nobody has to wait for it."""
    halves = bits.view(torch.int32)
    if _is_eager_on_cpu(device):
        k0, k1 = halves.tolist()
        return k0, k1
    halves = halves.to(device)
    return halves[0], halves[1]


def noise(key: Key, first: int, samples: int, count: int, device: torch.device) -> Tensor:
    """Return U(−½, ½) in units of 2^-16, int16 [samples, count]: odd, so the mean is 0 and no integer is met.

    Word k of block b is h = mix(16b + k). Its low half belongs to element 32b + k, its high half to 32b + 16 + k.
    Sample s has the blocks from s·⌈count/32⌉ on.

    Args:
        key: of `draw_key`, for this device.
        first: number of the first sample in the batch.
        samples: how many from there on.
        count: elements of a sample, counted with the channels innermost.
        device: where the noise is wanted.
    """
    blocks = -(-count // BLOCK)
    constants = _TENSORS if _is_eager_on_cpu(device) else _NUMBERS
    start = first * blocks * _WORDS
    words = _mixed(_first_steps(key[0], start, samples * blocks * _WORDS, device), key[1], constants)
    high = words >> constants.half
    low = words.bitwise_xor_(high)  # the last step of `mix`, which leaves the high half as it is
    halves = [half.to(torch.int16).view(-1, _WORDS) for half in (low, high)]
    drawn = torch.stack(halves, 1).bitwise_or_(constants.odd).view(samples, -1)
    return drawn if count % BLOCK == 0 else drawn[:, :count]


def _is_eager_on_cpu(device: torch.device) -> bool:
    return device.type == "cpu" and not torch.compiler.is_compiling()


def _mixed(x: Tensor, k1: int | Tensor, constants: _Constants) -> Tensor:
    """Return mix of words, in place, but for its first two steps, which x has had, and its last two.

    mix(x): x ^= k0; x ^= x>>16; x *= 0x7feb352d; x ^= k1 ^ x>>15; x *= 0x846ca68b; x ^= x>>16; x |= 0x00010001,
    of unsigned numbers: int32's shifts bring the sign along, which is masked out.
    """
    x.mul_(constants.factor)
    x.bitwise_xor_((x >> constants.shift).bitwise_and_(constants.mask)).bitwise_xor_(k1)
    return x.mul_(constants.other_factor)


def _first_steps(k0: int | Tensor, start: int, count: int, device: torch.device) -> Tensor:
    """Return y ^ y>>16 of y = x ^ k0, for the words x from `start` on, counted in 32 bits."""
    if start + count <= 2**_SHIFT:
        x = torch.arange(start, start + count, dtype=torch.int32, device=device)
        return x.bitwise_xor_(_folded(k0))
    first, offset = divmod(start, _ROW)  # behind 2^32 − 1 they start anew
    rows = -(-(offset + count) // _ROW)
    numbers = torch.arange(rows, dtype=torch.int32, device=device).add_(first % (2**32 // _ROW)).mul_(_ROW)
    columns = torch.arange(_ROW, dtype=torch.int32, device=device)
    x = (_folded(numbers) ^ _folded(k0)).unsqueeze(1) ^ columns  # a count to the end would take longer
    return x.view(-1)[offset : offset + count]


def _folded(x: _Word) -> _Word:
    return x ^ ((x >> _SHIFT) & 0xFFFF)
