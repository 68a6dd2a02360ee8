"""Learned steps that are powers of two: their codes against exact arithmetic, their gradients, configs, deployment."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bitorch
from bitorch import LowBitConfig
from bitorch.quantizations import InputLSQ, WeightLSQ, WeightPowerOfTwo

NUMBERS = torch.cat([torch.linspace(-3, 3, 301), torch.randn(200, generator=torch.Generator().manual_seed(3)) * 2])


def nearest(step: float) -> Fraction:
    """2^⌊log2(step) + ½⌋: the exponent k for which 2^(k − ½) ≤ step < 2^(k + ½), by squares."""
    two, square = Fraction(2), Fraction(step) ** 2
    return next(two**k for k in range(-64, 64) if two ** (2 * k - 1) <= square < two ** (2 * k + 1))


def rounded(ratio: Fraction, low: int, high: int) -> int:
    """The nearest whole number, half to even, within bounds: as Python rounds fractions."""
    return min(max(round(ratio), low), high)


@pytest.mark.parametrize("step", [0.3, 0.36, 0.7, 0.71, 1.0, 1.4, 1.42, 2.0**-7])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_codes_of_activations(bits: int, step: float) -> None:
    quantizer = InputLSQ(bits, power_of_two=True)
    quantizer.fit_(NUMBERS.abs())
    quantizer.step.data.fill_(step)
    s = nearest(quantizer.step.item())
    assert Fraction(quantizer.scale(NUMBERS).item()) == s
    expected = [rounded(Fraction(x) / s, 0, 2**bits - 1) for x in NUMBERS.tolist()]
    assert quantizer.codes(NUMBERS).tolist() == expected
    assert torch.equal(quantizer(NUMBERS).double(), torch.tensor(expected) * float(s))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("offset", [False, True])
def test_codes_of_activations_with_a_zero_point(bits: int, offset: bool) -> None:
    quantizer = InputLSQ(bits, offset=offset, power_of_two=True)
    quantizer.fit_(NUMBERS)
    s, zero, n = Fraction(quantizer.scale(NUMBERS).item()), quantizer.zero_point(), 2**bits - 1
    assert math.log2(s) == round(math.log2(s))
    assert 0 < zero < n
    expected = [rounded(Fraction(x) / s, -zero, n - zero) for x in NUMBERS.tolist()]
    assert quantizer.codes(NUMBERS).tolist() == expected


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_codes_of_weights(bits: int) -> None:
    torch.manual_seed(bits)
    w = torch.randn(5, 4, 3, 3) * torch.tensor([0.01, 0.3, 1, 7, 200]).view(5, 1, 1, 1)
    quantizer = WeightLSQ(bits, channels=5, power_of_two=True)
    quantizer.initialize_(w)
    low, high = (-1, 1) if bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for row, step, codes, scale in zip(w, quantizer.step, quantizer.codes(w), quantizer.scale(w), strict=True):
        s = nearest(step.item())
        assert Fraction(scale.item()) == s
        exact = [
            (1 if x >= 0 else -1) if bits == 1 else rounded(Fraction(x) / s, low, high) for x in row.flatten().tolist()
        ]
        assert codes.flatten().tolist() == exact


@pytest.mark.parametrize("kind", [InputLSQ, WeightLSQ])
def test_gradients_are_those_of_the_same_step(kind: Any) -> None:
    """Rounding passes the gradient straight through: with a step that is a power of two both do the same."""
    found = []
    for power_of_two in (False, True):
        quantizer = kind(3, power_of_two=power_of_two)
        x = NUMBERS.clone().requires_grad_()
        quantizer.initialize_(x.detach()) if kind is WeightLSQ else quantizer.fit_(x.detach())
        quantizer.step.data.fill_(0.25)
        (quantizer(x) * torch.arange(len(x))).sum().backward()
        found.append((x.grad, quantizer.step.grad))
    for one, other in zip(*found, strict=True):
        assert float(other.abs().max()) > 0
        assert torch.equal(one, other)


def test_a_step_that_trains_jumps_by_powers() -> None:
    quantizer = WeightLSQ(4, power_of_two=True)
    w = torch.randn(64, 16)
    quantizer.initialize_(w)
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=0.3)
    seen = set()
    for _ in range(60):
        optimizer.zero_grad()
        ((quantizer(w) - 2 * w) ** 2).sum().backward()
        optimizer.step()
        seen.add(float(quantizer.scale(w)))
    assert len(seen) > 1
    assert all(math.frexp(s)[0] == 0.5 for s in seen)


def test_the_config_gives_them_to_layers() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    bitorch.quantize_(model, LowBitConfig(2, 3, range="learned", scale="pow2", first=8))
    first, inner = model[0], model[2]
    for layer in (first, inner):
        assert isinstance(layer.weight_quantization, WeightLSQ)
        assert layer.weight_quantization.power_of_two
        assert isinstance(layer.input_quantization, InputLSQ)
        assert layer.input_quantization.power_of_two
    config = LowBitConfig(1, 1, sign="sign", scale="pow2")
    assert config.weight_method == "lsq"
    assert LowBitConfig.from_dict(config.to_dict()) == config != LowBitConfig(1, 1, sign="sign", weights="lsq")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"weights": "dorefa", "range": "learned"}, 'is for weights="lsq"'),
        ({"weights": WeightPowerOfTwo(2), "range": "learned"}, "a prototype says it itself"),
        ({"range": "unit"}, "needs activations whose step may be a power of two"),
        ({"range": "learned", "learned_by": "pact"}, "needs activations whose step"),
        ({"range": "calibrated"}, "needs activations whose step"),
        ({"activations": InputLSQ(2)}, r"InputLSQ\(2, power_of_two=True\)"),
    ],
)
def test_methods_without_such_scales(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LowBitConfig(2, 2, scale="pow2", **more)
    with pytest.raises(ValueError, match="8"):
        LowBitConfig(1, 1, sign="sign", scale="pow2", last=8)


def small_net(**config: Any) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Flatten(),
        nn.Linear(8 * 36, 5),
    )
    bitorch.quantize_(model, LowBitConfig(scale="pow2", first="same", **config))
    images = torch.randn(16, 1, 6, 6)
    bitorch.calibrate(model, [images])
    return model.eval(), images


def test_a_net_deploys_and_a_learned_step_too() -> None:
    model, images = small_net(weight_bits=2, activation_bits=3, range="learned")
    packed = bitorch.deploy(model, images)
    assert bitorch.verify(model, packed, images)


@pytest.mark.parametrize("dialect", ["qcdq", "qonnx"])
@pytest.mark.parametrize("learned_by", ["lsq", "lsq+"])
def test_dialects_of_floats_are_exact(learned_by: str, dialect: str, tmp_path: Path) -> None:
    """Of codes times powers of two every sum is exact, so every low-bit layer gives the model's bits."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    if dialect == "qonnx":
        pytest.importorskip("qonnx")
    from onnx_dialect_runs import node_by_node

    model, images = small_net(weight_bits=2, activation_bits=3, range="learned", learned_by=learned_by)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    seen = 0
    for node, expected, found in node_by_node(model, [images[:2]], dialect, tmp_path / "net.onnx"):
        if node.kind == "low_bit":
            seen += 1
            assert torch.equal(found, expected), node
    assert seen == 3
