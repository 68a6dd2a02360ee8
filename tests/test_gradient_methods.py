"""Gradient quantizers beside DoReFa's: the signed grid with a zero, and powers of two (LUQ)."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor

import oracle_methods
from bitorch.layers import QConv2d
from bitorch.quantizations import GradientLUQ, GradientQuantization, GradientSigned, InputDoReFa, WeightDoReFa

BITS = range(2, 9)
METHODS = (GradientSigned, GradientLUQ)
Method = type[GradientSigned] | type[GradientLUQ]


def backward(quantizer: GradientQuantization, g: Tensor) -> Tensor:
    """Return the gradient that comes out for a gradient g that comes in."""
    x = torch.zeros_like(g).requires_grad_()
    quantizer(x).backward(g)
    assert x.grad is not None
    return x.grad


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def levels(method: Method, m: float, bits: int) -> list[float]:
    """All levels of a sample whose maximum is m, sorted."""
    if method is GradientLUQ:
        return oracle_methods.luq_levels(m, bits)
    q = 2 ** (bits - 1) - 1
    return [m * i / q for i in range(-q, q + 1)]


def expected_without_noise(method: Method, g: np.ndarray, bits: int) -> np.ndarray:
    if method is GradientSigned:
        return oracle_methods.signed_value(g, bits)
    m = np.broadcast_to(oracle_methods.sample_maximum(g), g.shape)
    nearest = [oracle_methods.luq_nearest(v, of, bits) for v, of in zip(g.ravel(), m.ravel(), strict=True)]
    return np.array(nearest).reshape(g.shape)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_forward_is_the_identity(method: Method, dtype: torch.dtype) -> None:
    x = torch.randn(3, 4).to(dtype)
    x[0, 0], x[0, 1], x[0, 2] = float("nan"), float("inf"), -0.0
    kept = x.clone()
    value = method(4)(x)
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    assert torch.equal(value.view(integers), kept.view(integers))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", [(5, 3, 4, 4), (4, 11), (9,)], ids=str)
def test_without_noise_in_double_precision(method: Method, bits: int, shape: tuple[int, ...]) -> None:
    g = torch.randn(shape, generator=seeded(1), dtype=torch.float64)
    quantized = backward(method(bits, noise=False), g)
    np.testing.assert_allclose(quantized.numpy(), expected_without_noise(method, g.numpy(), bits), rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("magnitude", [1e-30, 1.0, 1e30])
def test_without_noise_in_single_precision(method: Method, bits: int, magnitude: float) -> None:
    g = torch.randn(6, 200, generator=seeded(2)) * magnitude
    quantized = backward(method(bits, noise=False), g).double().numpy()
    expected = expected_without_noise(method, g.double().numpy(), bits)
    smallest = magnitude * 2.0 ** -(2 ** (bits - 1)) if magnitude > 1e-6 else 2.0**-126
    assert np.mean(~np.isclose(quantized, expected, rtol=1e-5, atol=smallest / 4)) < 2e-3  # those at a tie


def test_without_noise_ties() -> None:
    """The signed grid rounds half to even; LUQ away from zero, between powers of two and below the smallest."""
    g = torch.tensor([[0.5, -0.5, 1.5, -1.5, 2.5, 3.0]])
    assert backward(GradientSigned(3, noise=False), g).tolist() == [[0, 0, 2, -2, 2, 3]]
    g = torch.tensor([[0.5, -0.5, 1.5, -1.5, 3.0, 64.0, 48.0, 0.499]])
    assert backward(GradientLUQ(4, noise=False), g).tolist() == [[1, -1, 2, -2, 4, 64, 64, 0]]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bits", [2, 3, 4, 5])
@pytest.mark.parametrize("noise", [True, False], ids=["noise", "no noise"])
def test_levels(method: Method, bits: int, noise: bool) -> None:
    """All of the grid's levels occur, and no others: 2^bits − 1 of them, one of which is 0."""
    half = torch.cat([torch.linspace(0, 1, 20_001), torch.logspace(-6, 0, 2001)])
    g = torch.cat([half, -half]).repeat(2, 1) * torch.tensor([[0.37], [5.1]])
    quantized = backward(method(bits, noise=noise, generator=seeded(3)), g)
    for sample, m in zip(quantized, (0.37, 5.1), strict=True):
        assert sample.unique().numel() == 2**bits - 1
        np.testing.assert_allclose(sample.unique().double().numpy(), levels(method, m, bits), rtol=1e-6)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("m", [1.0, 0.3, 1e-20])
def test_levels_stay_where_they_are(bits: int, m: float) -> None:
    """A number that is a level already is not moved by any noise, zero among them."""
    powers = torch.tensor(oracle_methods.luq_levels(1, bits)) * m
    q = 2 ** (bits - 1) - 1
    integers = torch.arange(-q, q + 1, dtype=torch.float32) * 2.0**-20
    for quantizer, of in ((GradientLUQ(bits), powers), (GradientSigned(bits), integers)):
        g = of.repeat(300)[None]
        torch.testing.assert_close(backward(quantizer, g), g, rtol=1e-6, atol=2.0**-126)
        assert (backward(quantizer, g)[g == 0] == 0).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_noise_makes_the_rounding_unbiased(method: Method, bits: int) -> None:
    """E[f(g)] = g, and f is one of the two levels next to g: so f is Bernoulli, and its variance is known."""
    draws, m = 200_000, 1.5
    values = [0.1, -0.1, 0.013, -0.0003, 0.77, -1.2, 1.499]
    g = torch.tensor(values)[:, None].repeat(1, draws)
    g[:, 0] = m
    quantized = backward(method(bits, generator=seeded(5)), g)[:, 1:].double()
    for value, sample in zip(values, quantized, strict=True):
        lower, upper = oracle_methods.neighbours(value, levels(method, m, bits))
        step = upper - lower
        chance = (value - lower) / step
        deviation = step * math.sqrt(max(chance * (1 - chance), 1e-6))
        assert sample.mean().item() == pytest.approx(value, abs=5 * deviation / math.sqrt(draws) + step * 2**-15)
        assert sample.std().item() == pytest.approx(deviation, rel=0.05, abs=0.02 * step)
        assert sample.unique().numel() <= 2


@pytest.mark.parametrize("method", METHODS)
def test_the_noise_is_unbiased_in_double_precision(method: Method) -> None:
    draws = 100_000
    g = torch.full((1, draws), 0.2, dtype=torch.float64)
    g[0, 0] = 1
    quantized = backward(method(4, generator=seeded(6)), g)[0, 1:]
    assert quantized.unique().numel() == 2
    assert quantized.mean().item() == pytest.approx(0.2, abs=5 * 0.15 / math.sqrt(draws))


@pytest.mark.parametrize("method", METHODS)
def test_neighbours_do_not_correlate(method: Method) -> None:
    count = 200_000
    g = torch.full((1, count), 0.0117)  # ¾ of LUQ's smallest level, for which it would be likely to see
    g[0, 0] = 1
    sample = backward(method(4, generator=seeded(7)), g)[0, 1:].double()
    centred = (sample - sample.mean()) / sample.std()
    for lag in (1, 2, 3, 4, 5, 8):
        assert abs((centred[lag:] * centred[:-lag]).mean().item()) < 5 / math.sqrt(count)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("noise", [True, False], ids=["noise", "no noise"])
@pytest.mark.parametrize("bits", BITS)
def test_zeros(method: Method, noise: bool, bits: int) -> None:
    """All-zero samples stay zero, and so does every zero of other samples."""
    g = torch.randn(5, 3, 5)
    g[1], g[3], g[4] = 0, -0.0, 1e-37
    g[0, 0] = 0
    quantized = backward(method(bits, noise=noise), g)
    assert (quantized[[1, 3, 4]] == 0).all()
    assert (quantized[0, 0] == 0).all()
    assert (quantized[[0, 2]] != 0).any(dim=(1, 2)).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("noise", [True, False], ids=["noise", "no noise"])
def test_the_maximum_is_each_samples_own(method: Method, noise: bool) -> None:
    g = torch.randn(3, 4, 5, generator=seeded(8))
    others = g.clone()
    others[1:] *= 1e6
    quantized = backward(method(3, noise=noise, generator=seeded(9)), g)
    changed = backward(method(3, noise=noise, generator=seeded(9)), others)
    assert torch.equal(quantized[0], changed[0])
    torch.testing.assert_close(quantized.flatten(1).abs().amax(1), g.flatten(1).abs().amax(1))


def test_one_maximum_for_the_whole_tensor() -> None:
    g = torch.tensor([[1.0, 0.5], [64.0, 0.0], [0.0, 0.4]])
    quantized = backward(GradientLUQ(4, noise=False, range="tensor"), g)
    assert quantized.tolist() == [[1, 1], [64, 0], [0, 0]]
    assert backward(GradientLUQ(4, noise=False), g).tolist()[0] == [1, 0.5]
    with pytest.raises(ValueError, match="range must be one of 'sample', 'tensor', got 'layer'"):
        GradientLUQ(4, range="layer")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("magnitude", [1e-30, 1e-20, 1.0, 1e20, 1e30])
def test_magnitudes(method: Method, bits: int, magnitude: float) -> None:
    g = torch.tensor([[1.0, -0.5, 0.0], [0.2, 0.2, 0.2]]) * magnitude
    quantized = backward(method(bits), g)
    assert quantized.isfinite().all()
    assert quantized[0, 0].item() == pytest.approx(magnitude, rel=1e-5)
    assert quantized[1].tolist() == pytest.approx([0.2 * magnitude] * 3, rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("noise", [True, False], ids=["noise", "no noise"])
def test_what_is_not_finite_makes_its_sample_nan(method: Method, noise: bool) -> None:
    g = torch.tensor([[float("nan"), 1.0, 0.0], [float("inf"), 1.0, 0.0], [-1.0, 0.5, 0.0]])
    quantized = backward(method(4, noise=noise), g)
    assert quantized[:2].isnan().all()
    assert quantized[2].isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_one_element_per_sample(method: Method) -> None:
    g = torch.tensor([0.3, -2.0, 0.0, 7.0])
    for noise in (True, False):
        torch.testing.assert_close(backward(method(2, noise=noise), g), g)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0), (0, 3, 4, 4)], ids=str)
def test_empty(method: Method, shape: tuple[int, ...]) -> None:
    assert backward(method(4), torch.empty(shape)).shape == shape


@pytest.mark.parametrize("method", METHODS)
def test_bits(method: Method) -> None:
    with pytest.raises(ValueError, match="bits must be one of 2…8, or 32 for none, got 1"):
        method(1)
    with pytest.raises(ValueError, match="got 9"):
        method(9)
    with pytest.raises(TypeError, match="bits must be an integer"):
        method("4")  # type: ignore[arg-type]
    g = torch.randn(3, 4)
    assert method(32).quantize_gradient(g) is g
    assert torch.equal(backward(method(32), g), g)
    assert repr(method(4, noise=False)).startswith(f"{method.__name__}(bits=4, noise=False")


@pytest.mark.parametrize("method", METHODS)
def test_wrong_input(method: Method) -> None:
    with pytest.raises(ValueError, match=f"{method.__name__}: the input needs a batch axis"):
        method(4)(torch.tensor(1.0))
    with pytest.raises(ValueError, match=f"{method.__name__}: the gradient needs a batch axis"):
        method(4).quantize_gradient(torch.tensor(1.0))
    with pytest.raises(TypeError, match=f"{method.__name__}: the input must be a floating-point tensor"):
        method(4)(torch.ones(2, 2, dtype=torch.int64))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("noise", [True, False], ids=["noise", "no noise"])
def test_low_precision_is_computed_in_single(method: Method, dtype: torch.dtype, noise: bool) -> None:
    g = torch.randn(3, 40, generator=seeded(10)).to(dtype)
    quantized = backward(method(4, noise=noise, generator=seeded(11)), g)
    single = backward(method(4, noise=noise, generator=seeded(11)), g.float())
    assert quantized.dtype == dtype
    assert torch.equal(quantized, single.to(dtype))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda q: pickle.loads(pickle.dumps(q))], ids=["copy", "pickle"])
def test_a_copy_continues_with_the_same_noise(method: Method, copied: object) -> None:
    quantizer, g = method(3, generator=seeded(12)), torch.randn(3, 50)
    state = torch.get_rng_state()
    backward(quantizer, g)
    assert callable(copied)
    clone = copied(quantizer)
    assert torch.equal(backward(clone, g), backward(quantizer, g))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("noise", [True, False], ids=["noise", "no noise"])
@pytest.mark.parametrize(
    "g",
    [
        torch.randn(2, 3, 5, 5).contiguous(memory_format=torch.channels_last),
        torch.randn(3, 2, 5).transpose(0, 1),
        torch.randn(5, 4, 3, 2).permute(3, 2, 1, 0),
        torch.randn(2, 3, 4, 8)[..., ::2],
        torch.randn(2, 1, 1, 1).expand(2, 3, 4, 4),
        torch.ones(()).expand(2, 3, 4),
    ],
    ids=["channels_last", "transposed", "permuted", "strided", "expanded", "one number"],
)
def test_any_memory_order(method: Method, g: Tensor, noise: bool) -> None:
    kept = g.clone()
    quantized = method(3, noise=noise, generator=seeded(13)).quantize_gradient(g)
    assert torch.equal(g, kept)
    for sample, of in zip(quantized, g, strict=True):
        grid = levels(method, of.abs().max().item(), 3)
        for found, value in zip(sample.flatten().tolist(), of.flatten().tolist(), strict=True):
            lower, upper = oracle_methods.neighbours(value, [-math.inf, *grid, math.inf])
            assert any(found == pytest.approx(level, rel=1e-5, abs=1e-9) for level in (lower, upper))
    if not noise:
        assert torch.equal(quantized, method(3, noise=False).quantize_gradient(g.contiguous()))


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_quantizes_its_gradient(method: Method) -> None:
    layer = QConv2d(
        2,
        3,
        3,
        input_quantization=InputDoReFa(2, variant="paper"),
        weight_quantization=WeightDoReFa(1, variant="paper"),
        gradient_quantization=method(4, noise=False),
    )
    x = torch.rand(2, 2, 6, 6)
    with torch.no_grad():
        g = torch.randn(layer(x).shape)
    leaf = x.clone().requires_grad_()
    layer(leaf).backward(g)
    layer.gradient_quantization = None
    other = x.clone().requires_grad_()
    layer(other).backward(method(4, noise=False).quantize_gradient(g))
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-5, atol=1e-6)  # codes round once, values at each step
