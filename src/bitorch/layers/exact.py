"""Products of integer codes, exact in floating point.

D = Σ c·q is an integer. As long as every partial sum is below 2^24 float32 holds each of them exactly, so D depends on
neither the order of summation nor the library. Where K inputs per output could sum to more, the weight codes are split
into digits of a smaller base, c = Σ_i base^i·d_i, each digit gets a pass of its own, and the sum of these rounds once.
The result is then D rounded once to float32: the same as converting the deployed network's int32 accumulator.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

#: float32 holds all integers up to this.
FLOAT32_EXACT = 2**24
#: The deployed network accumulates in int32.
INT32_LIMIT = 2**31


def digit_base(inputs: int, max_weight_code: int, max_input_code: int) -> int:
    """Return the base that weight codes must be split in for exact sums; 0 where no split is needed.

    Args:
        inputs: K, the number of inputs per output.

    Raises:
        ValueError: K is too large for the int32 accumulators of deployment, or for any base.
    """
    base = base_of_sums(inputs, max_weight_code, max_input_code)
    if base is not None:
        return base
    widest = min((INT32_LIMIT - 1) // max_weight_code, (FLOAT32_EXACT - 1)) // max_input_code
    raise ValueError(
        f"a layer with {inputs} inputs per output is too wide for exact sums: weight codes up to {max_weight_code} "
        f"times activation codes up to {max_input_code} allow at most {widest} inputs. Use fewer bits, or more groups, "
        "or exact=False, which gives up exactness"
    )


def base_of_sums(terms: int, max_weight_code: int, max_other: int) -> int | None:
    """Return what `digit_base` does for sums of so many products, and None where no base makes them exact."""
    largest = terms * max_other * max_weight_code
    if largest < FLOAT32_EXACT:
        return 0
    for base in (16, 8, 4, 2):
        if largest < INT32_LIMIT and terms * max_other * _largest_digit(max_weight_code, base) < FLOAT32_EXACT:
            return base
    return None


def _largest_digit(largest: int, base: int) -> int:
    """Largest absolute digit when integers up to `largest` are split as in `_digits`."""
    return min(largest, base // 2)


def _digits(codes: Tensor, max_code: int, base: int) -> list[Tensor]:
    """Split integers of magnitude up to max_code into digits d_i with |d_i| ≤ base/2: codes = Σ_i base^i·d_i."""
    digits = []
    while max_code > base // 2:
        higher = (codes / base).round()  # exact: base is a power of two
        digits.append(codes - base * higher)
        codes, max_code = higher, (max_code + base // 2) // base
    return [*digits, codes]


def _exact(product: Callable[[Tensor], Tensor], weight: Tensor, max_weight_code: int, base: int) -> Tensor:
    """Return the exact product of integer weight codes, in one pass, or in one pass per digit."""
    if base == 0:
        return product(weight)
    passes = [product(digit) for digit in _digits(weight, max_weight_code, base)]
    if len(passes) == 2:
        return passes[0].add_(passes[1], alpha=base)  # both terms are exact, so this rounds once
    total = torch.zeros_like(passes[0], dtype=torch.float64)
    for power, one in enumerate(passes):
        total.add_(one.double(), alpha=base**power)
    return total.to(weight.dtype)


def _narrow(codes: Tensor, max_code: int) -> Tensor:
    """Codes in the smallest integer type, to be kept for backward: a quarter of float32's memory up to 7 bits."""
    return codes.to(torch.int8 if max_code <= 127 else torch.int16)


def _full_precision(x: Tensor) -> AbstractContextManager[None]:
    """Switch autocast off inside, on devices that have it."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def _without_winograd() -> AbstractContextManager[None]:
    """Switch NNPACK off inside: without oneDNN PyTorch may take its Winograd convolution, which is not exact."""
    if torch.compiler.is_compiling():  # cannot trace the switch
        return nullcontext()
    switch: AbstractContextManager[None] = torch.backends.nnpack.flags(enabled=False)
    return switch


def over_outputs(scale: Tensor, dimensions: int) -> Tensor:
    """Return a scale as it multiplies sums [B, C_out, *dimensions]: as it is, or [C_out, 1, …] per channel."""
    return scale if scale.dim() == 0 else scale.reshape(-1, *[1] * dimensions)
