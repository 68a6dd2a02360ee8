"""ParetoQ's balanced grid with a learned clipping value: against float64 NumPy, and through training to the file."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitorch
import oracle_ranges
from bitorch.quantizations import WeightLSQ, WeightSEQ

BITS = range(1, 9)
INF, NAN = float("inf"), float("nan")
CHANNELS = 5
per_channel = pytest.mark.parametrize("per_channel", [False, True])


def with_alpha(bits: int, alpha: Tensor) -> WeightSEQ:
    """A quantizer with that clipping value: 0-dim, or [channels]."""
    quantizer = WeightSEQ(bits, None if alpha.dim() == 0 else len(alpha)).to(alpha.dtype)
    quantizer.load_state_dict({"alpha": alpha})
    return quantizer


def alphas(per_channel: bool) -> Tensor:
    return torch.tensor([0.71, 0.125, 1.3, 0.05, 2.0] if per_channel else 0.37)


def shaped(alpha: Tensor, dims: int) -> Any:
    return alpha.double().numpy().reshape(-1, *[1] * (dims - 1)) if alpha.dim() else float(alpha)


def run(quantizer: nn.Module, w: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the value, the gradient of the weight and that of the clipping value."""
    leaf = w.detach().clone().requires_grad_()
    value = quantizer(leaf)
    of_weight, of_alpha = torch.autograd.grad(value, [leaf, *quantizer.parameters()], g)
    return value.detach(), of_weight, of_alpha


@per_channel
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", [(CHANNELS, 7), (CHANNELS, 3, 2, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_values_codes_and_gradients(dtype: torch.dtype, shape: tuple[int, ...], bits: int, per_channel: bool) -> None:
    """Numbers inside, outside, and on the borders of levels, where float32 and float64 agree."""
    alpha = alphas(per_channel).to(dtype)
    a64 = shaped(alpha, len(shape))
    generator = np.random.default_rng(bits)
    sixteenths = np.round(generator.uniform(-1.5, 1.5, shape) * 2 ** (bits + 3))
    w64 = sixteenths / 2 ** (bits + 3) * a64
    w = torch.from_numpy(w64).to(dtype)
    w64 = w.double().numpy()
    g = torch.from_numpy(generator.normal(size=shape)).to(dtype)
    if dtype == torch.float32:  # the quotient may be rounded onto a border: only where it is not near one
        w64 = np.where(np.mod(sixteenths, 16) == 0, (sixteenths + 0.5) / 2 ** (bits + 3) * a64, w64)
        w64 = w64.astype(np.float32).astype(np.float64)
        w = torch.from_numpy(w64).to(dtype)
    quantizer = with_alpha(bits, alpha)
    value, of_weight, of_alpha = run(quantizer, w, g)
    assert np.array_equal(quantizer.codes(w).detach().numpy(), oracle_ranges.seq_codes(w64, a64, bits))
    double = dtype == torch.float64
    rtol = 1e-15 if double else 1e-7
    np.testing.assert_allclose(value.numpy(), oracle_ranges.seq_value(w64, a64, bits), rtol=rtol)
    expected, of_a = oracle_ranges.seq_gradients(w64, a64, bits, g.double().numpy())
    assert np.array_equal(of_weight.numpy(), expected)
    assert of_alpha.dtype == dtype
    np.testing.assert_allclose(
        of_alpha.numpy(), of_a.reshape(alpha.shape), rtol=1e-11 if double else 2e-4, atol=1e-12 if double else 1e-5
    )


@pytest.mark.parametrize("bits", BITS)
def test_levels_and_their_borders(bits: int) -> None:
    quantizer, n = with_alpha(bits, torch.tensor(1.0)), 2**bits - 1
    dense = torch.linspace(-1.5, 1.5, 6001)
    assert quantizer.codes(dense).unique().tolist() == list(range(-n, n + 1, 2))
    assert (quantizer.max_code, quantizer.grid) == (n, "odd")
    assert quantizer(dense).unique().tolist() == [code / 2**bits for code in range(-n, n + 1, 2)]
    borders = torch.arange(-n - 1, n + 2, 2) / 2**bits
    assert quantizer.codes(borders).tolist() == [*range(-n, n + 1, 2), n]
    below = torch.nextafter(borders, torch.tensor(-INF))
    assert quantizer.codes(below).tolist() == [-n, *range(-n, n + 1, 2)]


@per_channel
@pytest.mark.parametrize("bits", BITS)
def test_degenerate_weights(bits: int, per_channel: bool) -> None:
    quantizer, n = with_alpha(bits, alphas(per_channel)), 2**bits - 1
    smallest = 2.0**-149
    row = torch.tensor([0.0, -0.0, INF, -INF, 1e30, -1e30, smallest, 1e-30, -1e-30])
    value, of_weight, of_alpha = run(quantizer, row.expand(CHANNELS, -1), torch.ones(CHANNELS, len(row)))
    assert quantizer.codes(row.expand(CHANNELS, -1)).tolist() == [[1, 1, n, -n, n, -n, 1, 1, -1]] * CHANNELS
    assert value.isfinite().all()
    assert of_weight.tolist() == [[1, 1, 0, 0, 0, 0, 1, 1, 1]] * CHANNELS
    shared, rows = len(row) * (1 if per_channel else CHANNELS), 1 if per_channel else CHANNELS
    expected = 3 * rows / 2**bits / math.sqrt(shared * max(1, 2 ** (bits - 1) - 1))
    np.testing.assert_allclose(of_alpha.numpy(), np.full(of_alpha.shape, expected), rtol=1e-5)
    nan = quantizer(torch.tensor([[0.3, NAN, -0.3]]).expand(CHANNELS, -1))
    assert nan[0].isnan().tolist() == [False, True, False]
    empty, of_weight, of_alpha = run(quantizer, torch.empty(CHANNELS, 0, 3), torch.empty(CHANNELS, 0, 3))
    assert empty.shape == of_weight.shape == (CHANNELS, 0, 3)
    assert (of_alpha == 0).all()


@per_channel
@pytest.mark.parametrize("bits", BITS)
def test_where_the_clipping_value_starts(bits: int, per_channel: bool) -> None:
    """The paper's start; all zeros count as weights of up to 1/√K, and get gradients."""
    w = torch.randn(CHANNELS, 4, 3)
    w[2] = 0
    quantizer = WeightSEQ(bits, CHANNELS if per_channel else None)
    with pytest.raises(RuntimeError, match=r"WeightSEQ has no clipping value yet; call initialize_\(weight\)"):
        quantizer(w)
    quantizer.initialize_(w)
    parts = w.abs().double().flatten(1) if per_channel else w.abs().double().view(1, -1)
    expected = 2 * parts.mean(1) if bits == 1 else parts.amax(1)
    if per_channel:
        expected[2] = 1 / math.sqrt(12)
    torch.testing.assert_close(quantizer.alpha.detach().view(-1).double(), expected, rtol=1e-6, atol=0)
    assert quantizer.scale(w).shape == ((CHANNELS, 1, 1) if per_channel else ())
    assert torch.equal(quantizer.scale(w).flatten(), quantizer.alpha.detach().flatten() / 2**bits)
    zeros = WeightSEQ(bits)
    zeros.initialize_(torch.zeros(3, 16))
    value, of_weight, of_alpha = run(zeros, torch.zeros(3, 16), torch.ones(3, 16))
    assert value.unique().tolist() == [0.25 / 2**bits]
    assert (of_weight == 1).all()
    assert of_alpha > 0


@pytest.mark.parametrize("alpha", [0.0, -1.0, 1e-30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_clipping_value_at_zero_or_below_counts_as_the_smallest(alpha: float, dtype: torch.dtype) -> None:
    quantizer = with_alpha(3, torch.ones((), dtype=dtype))
    with torch.no_grad():
        quantizer.alpha.fill_(alpha)
    w = torch.tensor([[0.0, 1.0, -1.0, 6e4]], dtype=dtype)
    found = run(quantizer, w, torch.ones_like(w))
    assert quantizer.scale(w).item() == 2.0**-63
    assert quantizer.codes(w).tolist() == [[1, 7, -7, 7]]
    assert all(t.isfinite().all() and t.dtype == dtype for t in found)


def test_other_bits_keep_the_clipping_value() -> None:
    quantizer = WeightSEQ(8, 3)
    quantizer.initialize_(torch.randn(3, 40))
    alpha = quantizer.alpha
    before = alpha.detach().clone()
    for bits in (4, 2, 32, 1, 3):
        quantizer.set_bits_(bits)
    assert quantizer.alpha is alpha
    assert torch.equal(alpha.detach(), before)
    assert quantizer.max_code == 7
    assert quantizer.is_untrained


def test_bad_arguments() -> None:
    for bits, error in ((0, ValueError), (9, ValueError), (2.0, TypeError)):
        with pytest.raises(error):
            WeightSEQ(bits)  # type: ignore[arg-type]  # the error
    with pytest.raises(ValueError, match="channels must be at least 1, or None for one clipping value per layer"):
        WeightSEQ(2, 0)
    quantizer = WeightSEQ(2, 4)
    with pytest.raises(ValueError, match=r"a clipping value for each of 4 channels, but the weight \[3, 5\] has 3"):
        quantizer.initialize_(torch.randn(3, 5))
    quantizer.initialize_(torch.randn(4, 5))
    with pytest.raises(TypeError, match="floating-point"):
        quantizer(torch.ones(4, 5, dtype=torch.int32))
    off, w = WeightSEQ(32), torch.randn(3, 4)
    assert torch.equal(off(w), w)
    with pytest.raises(TypeError, match="has no fixed grid"):
        off.codes(w)


@pytest.mark.parametrize("weight_scale", ["layer", "channel"])
def test_from_the_name_to_the_file(weight_scale: Any) -> None:
    """Trained, checked, reported and deployed with exactly the model's numbers; an 8-bit end is on this grid, too."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    sizes: dict[str, Any] = {"first": 8, "last": "same", "weight_scale": weight_scale}
    config = bitorch.LowBitConfig(2, 4, range="learned", weights="seq", **sizes)
    assert bitorch.LowBitConfig.from_dict(config.to_dict()) == config
    bitorch.quantize_(model, config)
    first, inner = (model[index].weight_quantization for index in (0, 2))
    assert isinstance(inner, WeightSEQ)
    assert repr(inner) == f"WeightSEQ(bits=2, channels={16 if weight_scale == 'channel' else None})"
    assert repr(first).startswith("WeightSEQ(bits=8")
    x = torch.randn(64, 6)
    bitorch.calibrate(model, [x])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    started = copy.deepcopy(inner.state_dict())
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    assert not torch.equal(started["alpha"], inner.alpha)
    assert not [finding for finding in bitorch.check(model, x).findings if finding.layer == "2"]
    row = next(row for row in bitorch.report(model, x, repeats=1).rows if row.name == "2")
    assert row.weight_levels is not None
    assert row.weight_levels.possible == 4
    net = bitorch.deploy(model.eval(), x[:2])
    found = net(x)
    assert isinstance(found, Tensor)
    assert torch.equal(found, model(x))


def test_a_start_that_no_longer_fits_is_renewed() -> None:
    quantizer, other = WeightSEQ(2), WeightLSQ(2)
    for each in (quantizer, other):
        each.initialize_(torch.randn(8, 8))
        assert each.renew_(torch.randn(8, 8) * 50)
    assert quantizer.alpha > 50
