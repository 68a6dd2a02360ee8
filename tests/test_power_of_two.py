"""Weights with a scale that is a power of two, against exact arithmetic in Python."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig
from bitorch.layers import QConv2d, QLinear
from bitorch.quantizations import InputDoReFa, InputLSQ, Sign, WeightPowerOfTwo


def expected(w: NDArray[np.float64], bits: int) -> tuple[NDArray[np.float64], float]:
    """Return the codes and the scale of weights, all of one scale: exponents are tried one by one."""
    if bits == 1:
        mean = abs(w).mean()
        exponent = math.floor(math.log2(mean) + 0.5)
        return np.where(w >= 0, 1.0, -1.0), 2.0**exponent
    largest, positive = Fraction(float(abs(w).max())), 2 ** (bits - 1) - 1
    exponent = next(e for e in range(-60, 128) if Fraction(2) ** e * positive >= largest)
    codes = np.clip(np.round(w / 2.0**exponent), -(2 ** (bits - 1)), positive)
    return codes, 2.0**exponent


@pytest.mark.parametrize("size", [1.0, 1e-3, 37.0, 1e-15])
@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_and_scale(bits: int, size: float) -> None:
    torch.manual_seed(bits)
    w = torch.randn(6, 5, 3, 3) * size
    quantizer = WeightPowerOfTwo(bits)
    codes, scale = expected(w.double().numpy(), bits)
    assert np.array_equal(quantizer.codes(w).numpy(), codes)
    assert quantizer.scale(w).item() == scale
    assert np.array_equal(quantizer(w).double().numpy(), codes * scale)
    assert quantizer.max_code == abs(codes).max() or bits > 1


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_each_channel_has_its_own(bits: int) -> None:
    w = torch.randn(6, 5) * torch.tensor([1e-4, 0.1, 1, 3, 17, 900]).view(6, 1)
    quantizer = WeightPowerOfTwo(bits, per_channel=True)
    assert quantizer.scale(w).shape == (6, 1)
    for row, codes, scale in zip(w, quantizer.codes(w), quantizer.scale(w), strict=True):
        of_row = expected(row.double().numpy(), bits)
        assert np.array_equal(codes.numpy(), of_row[0])
        assert scale.item() == of_row[1]


@pytest.mark.parametrize("bits", [2, 3, 8])
@pytest.mark.parametrize("exponent", [-20, 0, 13])
def test_a_power_of_two_at_the_end_is_a_level(bits: int, exponent: int) -> None:
    end = (2 ** (bits - 1) - 1) * 2.0**exponent
    w = torch.tensor([end, -end, 0.0])
    quantizer = WeightPowerOfTwo(bits)
    assert quantizer.scale(w).item() == 2.0**exponent
    assert torch.equal(quantizer(w), w)
    assert quantizer.scale(w * 1.001).item() == 2.0 ** (exponent + 1)


@pytest.mark.parametrize("bits", [1, 4])
def test_zeros_extremes_and_what_is_no_number(bits: int) -> None:
    quantizer = WeightPowerOfTwo(bits)
    zeros = torch.zeros(3, 2, requires_grad=True)
    value = quantizer(zeros)
    assert torch.equal(value, torch.full((3, 2), 2.0**-60 if bits == 1 else 0.0))
    value.backward(torch.ones(3, 2))
    assert torch.equal(zeros.grad, torch.ones(3, 2))  # type: ignore[arg-type]
    largest = torch.tensor([1e38, -2e38, 1.0])
    assert bool(quantizer(largest).isfinite().all())
    for wrong in (torch.nan, torch.inf):
        assert bool(quantizer(torch.tensor([1.0, wrong])).isnan().all())
    assert quantizer(torch.zeros(0, 3)).shape == (0, 3)
    assert quantizer(torch.randn(4).to(torch.bfloat16)).dtype == torch.bfloat16
    with pytest.raises(TypeError, match="WeightPowerOfTwo: the input must be a floating-point tensor"):
        quantizer(torch.ones(2, dtype=torch.int32))


def test_the_gradient_passes() -> None:
    for bits in (1, 3):
        w, g = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
        WeightPowerOfTwo(bits)(w).backward(g)
        assert torch.equal(w.grad, g)  # type: ignore[arg-type]


def test_32_bits_are_none() -> None:
    quantizer, w = WeightPowerOfTwo(4), torch.randn(4)
    quantizer.set_bits_(32)
    assert torch.equal(quantizer(w), w)
    assert quantizer.max_code is None


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_it_deploys_bit_for_bit(bits: int, per_channel: bool) -> None:
    torch.manual_seed(bits)

    def weight() -> WeightPowerOfTwo:
        return WeightPowerOfTwo(bits, per_channel)

    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6),
        QConv2d(6, 8, 3, padding=1, bias=True, input_quantization=InputDoReFa(2), weight_quantization=weight()),
        nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
        QLinear(288, 4, input_quantization=Sign(), weight_quantization=weight()),
    ).eval()  # fmt: skip
    x = torch.randn(4, 3, 8, 8)
    assert bitorch.verify(model, bitorch.deploy(model, x), x)
    assert torch.equal(bitorch.deploy(model, x, partial=True)(x), model(x))


def test_configs_and_files_name_it(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    config = LowBitConfig(activations=InputLSQ(2), weights=WeightPowerOfTwo(3, per_channel=True))
    bitorch.save_rules(path, [("*", config)])
    assert bitorch.load_rules(path)[0].config == config
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
    bitorch.quantize_(model, bitorch.load_rules(path))
    assert repr(model[1].weight_quantization) == "WeightPowerOfTwo(bits=3, per_channel=True)"
    bitorch.set_bits(model, bitorch.Bits(weight=5))
    x: Tensor = torch.randn(16, 4)
    bitorch.calibrate(model, [x])
    model(x).sum().backward()
    assert model[1].weight.grad is not None
