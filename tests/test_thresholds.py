"""Thresholds against every integer, and every float near a step, of chains that are evaluated in full."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bitorch.deployment.runtime.threshold_search import (
    Staircase,
    float_staircase,
    integer_staircase,
    makes_nan,
)

LOW, HIGH = -700, 650


def batch_norm(channels: int, seed: int, slopes: Tensor | None = None) -> nn.BatchNorm2d:
    torch.manual_seed(seed)
    norm = nn.BatchNorm2d(channels).eval()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_(0, 50)
    norm.running_var.uniform_(0.5, 2000)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias, 0.5, 0.5)
    if slopes is not None:
        norm.weight.data.copy_(slopes)
    return norm


def chain(norm: nn.BatchNorm2d, bits: int, scale: float) -> Callable[[Tensor], Tensor]:
    n = 2**bits - 1

    def codes(d: Tensor) -> Tensor:
        with torch.no_grad():
            normalized: Tensor = norm(d * torch.tensor(scale))
            return normalized.clamp(0, 1).mul(n).round()

    return codes


def apply(staircase: Staircase, x: Tensor) -> Tensor:
    """Codes [P, C] of x [P, C], by comparison."""
    thresholds, x = staircase.thresholds, x.unsqueeze(-1)
    return torch.where(staircase.descending.unsqueeze(-1), x <= thresholds, x >= thresholds).sum(-1)


@pytest.mark.parametrize("bits", range(1, 9))
def test_integer_thresholds_give_the_codes_of_every_integer(bits: int) -> None:
    norm = batch_norm(9, bits, torch.tensor([1.0, -1.0, 0.0, -0.0, 1e-6, -1e-6, 30.0, -30.0, 0.3]))
    codes = chain(norm, bits, 0.0173)
    staircase = integer_staircase(codes, (9, 1, 1), 2**bits - 1, LOW, HIGH)
    every = torch.arange(LOW, HIGH + 1).unsqueeze(1).repeat(1, 9)
    expected = codes(every.float()[..., None, None]).flatten(1)
    assert torch.equal(apply(staircase, every).float(), expected)
    assert staircase.thresholds.dtype == torch.int32
    assert staircase.thresholds.shape == (9, 2**bits - 1)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_float_thresholds_are_the_first_floats_of_their_codes(bits: int) -> None:
    norm = batch_norm(7, bits, torch.tensor([1.0, -1.0, 1e-30, 1e-3, -1e-3, 50.0, -50.0]))
    codes = chain(norm, bits, 1.0)
    staircase = float_staircase(codes, (7, 1, 1), 2**bits - 1)
    steps = staircase.thresholds.t()
    finite = torch.where(steps.isfinite(), steps, 0.0)
    near = torch.cat(
        [
            finite,
            finite.nextafter(torch.tensor(torch.inf)),
            finite.nextafter(torch.tensor(-torch.inf)),
            torch.randn(500, 7) * 100,
            torch.zeros(1, 7),
            -torch.zeros(1, 7),
            torch.full((1, 7), torch.inf),
            torch.full((1, 7), -torch.inf),
        ]
    )
    assert torch.equal(apply(staircase, near).float(), codes(near[..., None, None]).flatten(1))


def test_thresholds_of_a_constant_channel_are_always_or_never_reached() -> None:
    norm = batch_norm(2, 0, torch.zeros(2))
    norm.bias.data.copy_(torch.tensor([0.4, 5.0]))
    staircase = integer_staircase(chain(norm, 2, 1.0), (2, 1, 1), 3, LOW, HIGH)
    assert staircase.thresholds[0].tolist() == [LOW, HIGH + 1, HIGH + 1]
    assert staircase.thresholds[1].tolist() == [LOW, LOW, LOW]
    assert not staircase.descending.any()


@pytest.mark.parametrize("sign", [1, -1], ids=["rising", "falling"])
def test_a_code_that_no_float_gives_is_told_from_one_that_only_infinity_gives(sign: int) -> None:
    def never(x: Tensor) -> Tensor:
        return (sign * x).clamp(max=0.6).clamp(0, 1).mul(3).round()

    def infinity(x: Tensor) -> Tensor:
        return (sign * x == torch.inf).float() * 3

    thresholds = float_staircase(never, (1, 1, 1), 3).thresholds
    assert thresholds[0, :2].isfinite().all()
    assert thresholds[0, 2].isnan()
    assert float_staircase(infinity, (1, 1, 1), 3).thresholds.tolist() == [[sign * torch.inf] * 3]
    always = float_staircase(lambda x: torch.full_like(x, 2.0), (1, 1, 1), 3).thresholds
    assert always[0, :2].tolist() == [-torch.inf, -torch.inf]
    assert always[0, 2].isnan()


def test_what_makes_nan_is_no_staircase() -> None:
    norm = batch_norm(3, 0, torch.tensor([1.0, 0.0, -1.0]))
    codes = chain(norm, 2, 1.0)
    assert makes_nan(codes, (3, 1, 1), -torch.inf, torch.inf)
    assert not makes_nan(codes, (3, 1, 1), LOW, HIGH)
    assert makes_nan(chain(norm, 2, 1e38), (3, 1, 1), LOW, HIGH)


def test_the_sign_of_zero_does_not_matter() -> None:
    staircase = float_staircase(lambda x: (x >= 0).float(), (1, 1, 1), 1)
    assert staircase.thresholds.tolist() == [[0.0]]
    assert not staircase.thresholds.signbit().any()


def test_vectors_and_signals_are_probed_in_their_own_rank() -> None:
    norm = nn.BatchNorm1d(3).eval()
    for shape in ((3,), (3, 5)):
        staircase = integer_staircase(lambda d: norm(d).detach().clamp(0, 1).round(), shape, 1, -5, 5)
        assert staircase.thresholds.shape == (3, 1)
