"""PyTorch's functions with an exponential are as near to the true values as codes behind them are held to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bitorch.deployment.graph.kinds import KINDS
from bitorch.deployment.graph.last_bits import NEXT_TO_NOTHING, ROOM

Function = Callable[[Tensor], Tensor]
FUNCTIONS: dict[str, tuple[Function, Function]] = {
    "sigmoid": (torch.sigmoid, lambda x: 1 / (1 + torch.exp(-x))),
    "tanh": (torch.tanh, torch.tanh),
    "silu": (F.silu, lambda x: x / (1 + torch.exp(-x))),
    "gelu": (F.gelu, lambda x: x * 0.5 * torch.special.erfc(-x * 0.5**0.5)),
    "gelu_tanh": (
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: x * torch.sigmoid((8 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)),
    ),
    "elu": (F.elu, lambda x: torch.where(x > 0, x, torch.expm1(x.clamp(max=0)))),
}
_AT_ONCE = 2**20


def farthest(function: str, first: int, count: int, every: int) -> float:
    """The largest distance from float64's value, as a share of the room that there is, over these bit patterns."""
    bits = torch.arange(first, first + count * every, every)
    x = torch.where(bits < 2**31, bits, bits - 2**32).to(torch.int32).view(torch.float32)
    x = x[x.abs() < 1e38]  # beyond, vectors of GELU are inf
    ours, true = FUNCTIONS[function]
    expected = true(x.double())
    room = expected.abs() * ROOM + max(NEXT_TO_NOTHING, KINDS[function].lost)
    # Vectors begin at other places, and other numbers are their rests.
    distances = [(ours(x[skipped:]).double() - expected[skipped:]).abs() / room[skipped:] for skipped in (0, 1, 5)]
    return float(torch.cat(distances).max()) if len(x) else 0.0


@pytest.mark.parametrize("function", FUNCTIONS)
def test_some_floats_have_room(function: str) -> None:
    """Half of it: thresholds are found with one value of PyTorch's, and compared with another one."""
    assert farthest(function, 1, 2**20, 4093) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("function", FUNCTIONS)
def test_all_floats_have_room(function: str) -> None:
    assert max(farthest(function, first, _AT_ONCE, 1) for first in range(0, 2**32, _AT_ONCE)) < 0.5
