"""Steps of quantizers that give exactly a level, on every device: never a third sign, never a rounded reciprocal."""

from __future__ import annotations

import torch
from torch import Tensor


def divide(codes: Tensor, n: int) -> Tensor:
    """Return codes/n, correctly rounded on every device: for a Python number CUDA multiplies with a rounded 1/n."""
    return codes / torch.full((), n, dtype=codes.dtype, device=codes.device)


def over(number: float, divisors: Tensor) -> Tensor:
    """Return number/divisors, correctly rounded: for a Python number PyTorch multiplies it with rounded reciprocals."""
    return torch.full((), number, dtype=divisors.dtype, device=divisors.device) / divisors


#: The least that counts as a row's largest number: its step, and what is divided by it, are normal numbers then.
LEAST_OF_ROW = 2.0**-100


def row_step(x: Tensor, largest: int) -> Tensor:
    """Return the steps s = clip(max|x|, 2^−100, the dtype's largest)/largest of rows x [..., features], [..., 1].

    NaN makes NaN.
    """
    if x.shape[-1] == 0:
        return x.new_full((*x.shape[:-1], 1), LEAST_OF_ROW / largest)
    most = x.abs().amax(-1, keepdim=True).clamp_(LEAST_OF_ROW, torch.finfo(x.dtype).max)
    return divide(most, largest)


def sign_plus(x: Tensor) -> Tensor:
    """Return +1 for x ≥ 0 (also for −0.0), −1 for x < 0, NaN for NaN: never a third level.

    Arithmetic instead of `where(x >= 0, 1, -1)`: `where` is far slower than multiplications in PyTorch's CPU kernels,
    and it would turn NaN into a level.
    """
    # Two factors whose product lifts the smallest subnormal (2^-149, 2^-1074) over 1 without a factor being infinite.
    factor = 2.0**540 if x.dtype == torch.float64 else 2.0**75
    return (x * factor).mul_(2 * factor).add_(1).clamp_(-1, 1)
