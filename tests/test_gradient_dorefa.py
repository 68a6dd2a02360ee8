"""The gradient quantizer: identity forward, eq. 12 backward."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor

import oracle
from bitorch.quantizations import GradientDoReFa

BITS = range(1, 9)


def backward(quantizer: GradientDoReFa, g: Tensor) -> Tensor:
    """Return the gradient that comes out for a gradient g that comes in."""
    x = torch.zeros_like(g).requires_grad_()
    quantizer(x).backward(g)
    assert x.grad is not None
    return x.grad


def level_indices(quantized: Tensor, m: float, bits: int) -> Tensor:
    """Return i of the levels m·(2i − n)/n; they have to be integers up to float32's precision."""
    n = 2**bits - 1
    indices = (quantized.double() * n / m + n) / 2
    torch.testing.assert_close(indices, indices.round(), atol=1e-5 * n, rtol=0)
    return torch.round(indices).long()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_forward_is_the_identity(dtype: torch.dtype) -> None:
    x = torch.randn(3, 4).to(dtype)
    x[0, 0], x[0, 1], x[0, 2] = float("nan"), float("inf"), -0.0
    kept = x.clone()
    value = GradientDoReFa(4)(x)
    assert value.dtype == dtype
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    assert torch.equal(value.view(integers), kept.view(integers))


def test_forward_draws_nothing() -> None:
    state = torch.get_rng_state()
    GradientDoReFa(4)(torch.randn(3, 4, generator=seeded(0)))
    assert torch.equal(torch.get_rng_state(), state)


# Without noise


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", [(7, 3, 5, 5), (4, 11), (9,)], ids=str)
def test_without_noise_in_double_precision(bits: int, shape: tuple[int, ...]) -> None:
    g = torch.randn(shape, generator=seeded(1), dtype=torch.float64)
    quantized = backward(GradientDoReFa(bits, noise=False), g)
    expected = oracle.gradient_value(g.numpy(), bits)
    np.testing.assert_allclose(quantized.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("magnitude", [1e-30, 1.0, 1e30])
def test_without_noise_in_single_precision(bits: int, magnitude: float) -> None:
    g = torch.randn(20, 3, 8, 8, generator=seeded(2)) * magnitude
    n, g64 = 2**bits - 1, g.double().numpy()
    quantized = backward(GradientDoReFa(bits, noise=False), g).double().numpy()
    differ = ~np.isclose(quantized, oracle.gradient_value(g64, bits), rtol=1e-5, atol=0)
    assert np.all(oracle.distance_to_tie(oracle.gradient_position(g64, bits))[differ] < n * 2.0**-22)
    assert np.mean(differ) < 1e-3


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("exponent", [-100, -3, 0, 5, 100])
def test_without_noise_ties_go_to_even(bits: int, exponent: int) -> None:
    """With m = n every integer g of n's other parity is a tie, and everything is exact in float32."""
    n = 2**bits - 1
    g = torch.arange(-n, n + 1, dtype=torch.float32)[None]
    indices = [round((i + n) / 2) for i in range(-n, n + 1)]  # Python rounds half to even, too
    quantized = backward(GradientDoReFa(bits, noise=False), g * 2.0**exponent)
    assert level_indices(quantized[0] * 2.0**-exponent, n, bits).tolist() == indices


@pytest.mark.parametrize("bits", BITS)
def test_zero_in_a_sample_that_is_not_zero(bits: int) -> None:
    """n/2 is a tie for odd n: the even neighbour is below for one bit, and above for more."""
    quantized = backward(GradientDoReFa(bits, noise=False), torch.tensor([[0.0, 0.0, 2.0, -0.0]]))
    step = 2 / (2**bits - 1)
    expected = -step if bits == 1 else step
    torch.testing.assert_close(quantized, torch.tensor([[expected, expected, 2.0, expected]]))


# With noise


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("noise", [True, False], ids=["noise", "no noise"])
def test_levels(bits: int, noise: bool) -> None:
    g = torch.linspace(-1, 1, 20_001).repeat(2, 1) * torch.tensor([[0.37], [5.1]])
    quantized = backward(GradientDoReFa(bits, noise=noise, generator=seeded(3)), g)
    for sample, m in zip(quantized, (0.37, 5.1), strict=True):
        assert sample.unique().numel() == 2**bits
        assert level_indices(sample, m, bits).unique().tolist() == list(range(2**bits))
        assert sample.max().item() == pytest.approx(m, rel=1e-6)
        assert sample.min().item() == pytest.approx(-m, rel=1e-6)


@pytest.mark.parametrize("bits", BITS)
def test_extremes_never_leave_the_range(bits: int) -> None:
    g = torch.tensor([3.0, -3.0]).repeat_interleave(5000)[None]
    quantized = backward(GradientDoReFa(bits, generator=seeded(4)), g)
    torch.testing.assert_close(quantized, g, rtol=1e-6, atol=0)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
def test_noise_makes_the_rounding_unbiased(bits: int) -> None:
    """E[f(g)] = g, and f is one of the two levels next to g: so f is Bernoulli, and its variance is known."""
    draws, m, step = 200_000, 1.5, 2 * 1.5 / (2**bits - 1)
    values = [0.0, 0.1, -0.1, 0.013, 0.77, -1.2, 1.499]
    g = torch.tensor(values)[:, None].repeat(1, draws)
    g[:, 0] = m
    quantized = backward(GradientDoReFa(bits, generator=seeded(5)), g)[:, 1:].double()
    for value, sample in zip(values, quantized, strict=True):
        below = m * (2 * math.floor((value + m) / step) / (2**bits - 1) - 1)
        upper = (value - below) / step
        deviation = step * math.sqrt(max(upper * (1 - upper), 1e-6))
        assert sample.mean().item() == pytest.approx(value, abs=5 * deviation / math.sqrt(draws) + step * 2**-15)
        assert sample.std().item() == pytest.approx(deviation, rel=0.03, abs=0.02 * step)
        assert sample.unique().numel() <= 2


def test_draws_are_independent() -> None:
    """Neighbours, also those whose noise comes from the same random word, do not correlate."""
    count = 400_000
    g = torch.full((2, count), 0.0)
    g[:, 0] = 1
    first, second = backward(GradientDoReFa(1, generator=seeded(6)), g)[:, 1:].double()
    for lag in (1, 2, 3, 4, 5, 8):
        assert abs((first[lag:] * first[:-lag]).mean().item()) < 5 / math.sqrt(count)
    assert abs((first * second).mean().item()) < 5 / math.sqrt(count)


def test_every_backward_draws_anew() -> None:
    quantizer, g = GradientDoReFa(2), torch.randn(2, 100)
    assert not torch.equal(backward(quantizer, g), backward(quantizer, g))


# Samples


@pytest.mark.parametrize("noise", [True, False], ids=["noise", "no noise"])
@pytest.mark.parametrize("bits", BITS)
def test_all_zero_samples_stay_zero(bits: int, noise: bool) -> None:
    g = torch.randn(4, 3, 5)
    g[1] = 0
    g[3] = -0.0
    quantized = backward(GradientDoReFa(bits, noise=noise), g)
    assert (quantized[[1, 3]] == 0).all()
    assert (quantized[[0, 2]] != 0).all()


@pytest.mark.parametrize("noise", [True, False], ids=["noise", "no noise"])
def test_the_maximum_is_each_samples_own(noise: bool) -> None:
    g = torch.randn(3, 4, 5, generator=seeded(7))
    others = g.clone()
    others[1:] *= 1e6
    quantized = backward(GradientDoReFa(3, noise=noise, generator=seeded(8)), g)
    changed = backward(GradientDoReFa(3, noise=noise, generator=seeded(8)), others)
    assert torch.equal(quantized[0], changed[0])
    torch.testing.assert_close(quantized.flatten(1).abs().amax(1), g.flatten(1).abs().amax(1))


@pytest.mark.parametrize("bits", BITS)
def test_magnitudes(bits: int) -> None:
    for magnitude in (1e-30, 1e-20, 1.0, 1e20, 1e30):
        g = torch.tensor([[1.0, -0.5, 0.0], [0.2, 0.2, 0.2]]) * magnitude
        quantized = backward(GradientDoReFa(bits), g)
        assert quantized.isfinite().all()
        assert quantized[0, 0].item() == pytest.approx(magnitude, rel=1e-5)
        assert quantized[1].tolist() == pytest.approx([0.2 * magnitude] * 3, rel=1e-5)


def test_what_is_not_finite_stays_visible() -> None:
    g = torch.tensor([[float("nan"), 1.0], [float("inf"), 1.0], [-1.0, 0.5]])
    for noise in (True, False):
        quantized = backward(GradientDoReFa(4, noise=noise), g)
        assert not quantized[0, 0].isfinite()
        assert not quantized[1, 0].isfinite()
        assert quantized[2].isfinite().all()


def test_one_element_per_sample() -> None:
    """In one dimension every element is its own maximum, and so its own outermost level."""
    g = torch.tensor([0.3, -2.0, 0.0, 7.0])
    for noise in (True, False):
        torch.testing.assert_close(backward(GradientDoReFa(2, noise=noise), g), g)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0), (0, 3, 4, 4)], ids=str)
def test_empty(shape: tuple[int, ...]) -> None:
    assert backward(GradientDoReFa(4), torch.empty(shape)).shape == shape


def test_without_batch_axis() -> None:
    with pytest.raises(ValueError, match="input needs a batch axis"):
        GradientDoReFa(4)(torch.tensor(1.0))
    with pytest.raises(ValueError, match="gradient needs a batch axis"):
        GradientDoReFa(4).quantize_gradient(torch.tensor(1.0))


def test_quantize_gradient_is_what_backward_computes() -> None:
    g = torch.randn(3, 7)
    direct = GradientDoReFa(3, generator=seeded(9)).quantize_gradient(g)
    assert torch.equal(direct, backward(GradientDoReFa(3, generator=seeded(9)), g))
    assert GradientDoReFa(32).quantize_gradient(g) is g


# The source of noise


def test_generator() -> None:
    g = torch.randn(3, 101)
    state = torch.get_rng_state()
    one = backward(GradientDoReFa(3, generator=seeded(10)), g)
    two = backward(GradientDoReFa(3, generator=seeded(10)), g)
    other = backward(GradientDoReFa(3, generator=seeded(11)), g)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_global_generator() -> None:
    g = torch.randn(3, 101)
    results = []
    for _ in range(2):
        torch.manual_seed(12)
        results.append(backward(GradientDoReFa(3), g))
    assert torch.equal(*results)


def test_without_noise_nothing_is_drawn() -> None:
    state = torch.get_rng_state()
    backward(GradientDoReFa(3, noise=False), torch.randn(2, 5, generator=seeded(13)))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda q: pickle.loads(pickle.dumps(q))], ids=["copy", "pickle"])
def test_a_copy_continues_with_the_same_noise(copied: object) -> None:
    quantizer, g = GradientDoReFa(3, generator=seeded(14)), torch.randn(3, 50)
    backward(quantizer, g)
    assert callable(copied)
    clone = copied(quantizer)
    first, second = backward(clone, g), backward(quantizer, g)
    assert torch.equal(first, second)
    assert not torch.equal(backward(clone, g), first)


# Layout and dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_gradient_dtype(dtype: torch.dtype) -> None:
    g = torch.randn(3, 40, generator=seeded(15)).to(dtype)
    for noise in (True, False):
        quantized = backward(GradientDoReFa(4, noise=noise, generator=seeded(16)), g)
        single = backward(GradientDoReFa(4, noise=noise, generator=seeded(16)), g.float())
        assert quantized.dtype == dtype
        torch.testing.assert_close(quantized, single.to(dtype))


@pytest.mark.parametrize("count", range(1, 10))
def test_any_number_of_elements(count: int) -> None:
    g = torch.randn(1, count)
    quantized = backward(GradientDoReFa(4), g)
    level_indices(quantized[0], g.abs().max().item(), 4)


def strided(g: Tensor) -> Tensor:
    """The same numbers with gaps between them in memory."""
    return torch.stack([g, g], dim=-1)[..., 0]


@pytest.mark.parametrize(
    "g",
    [
        torch.randn(2, 3, 5, 5).contiguous(memory_format=torch.channels_last),
        torch.randn(2, 3, 3, 3, 3).contiguous(memory_format=torch.channels_last_3d),
        torch.randn(3, 2, 5).transpose(0, 1),
        torch.randn(5, 4, 3, 2).permute(3, 2, 1, 0),
        strided(torch.randn(2, 3, 4, 4)),
        torch.randn(2, 1, 1, 1).expand(2, 3, 4, 4),
        torch.ones(()).expand(2, 3, 4),
    ],
    ids=["channels_last", "channels_last_3d", "transposed", "permuted", "strided", "expanded", "one number"],
)
@pytest.mark.parametrize("noise", [True, False], ids=["noise", "no noise"])
def test_any_memory_order(g: Tensor, noise: bool) -> None:
    quantized = GradientDoReFa(3, noise=noise).quantize_gradient(g)
    assert quantized.shape == g.shape
    # Every entry is one of the two levels next to its own gradient.
    m = g.abs().amax(dim=tuple(range(1, g.dim())), keepdim=True)
    assert ((quantized - g).abs() <= 2 * m / 7 * (1 + 1e-5)).all()
    if not noise:
        torch.testing.assert_close(quantized, GradientDoReFa(3, noise=False).quantize_gradient(g.contiguous()))


def test_channels_last_keeps_its_layout_and_is_unbiased() -> None:
    values = torch.tensor([0.3, -0.7, 1.0, 0.1])[:, None, None]
    g = values.expand(1, 4, 200, 200).contiguous(memory_format=torch.channels_last)
    quantized = GradientDoReFa(2, generator=seeded(17)).quantize_gradient(g)
    assert quantized.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(quantized.mean((0, 2, 3)), values.flatten(), atol=5 * 2 / 3 / 2 / 200, rtol=0)


def test_expanded_gradients_of_a_sum() -> None:
    x = torch.randn(3, 4, 5, requires_grad=True)
    GradientDoReFa(2)(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.ones(3, 4, 5))


def test_the_incoming_gradient_is_not_changed() -> None:
    g = torch.randn(3, 4)
    kept = g.clone()
    GradientDoReFa(3).quantize_gradient(g)
    assert torch.equal(g, kept)


def test_input_without_gradient_passes() -> None:
    x = torch.randn(2, 3)
    assert torch.equal(GradientDoReFa(3)(x), x)
    assert not GradientDoReFa(3)(x).requires_grad
