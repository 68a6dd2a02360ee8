"""The packed program equals the model on every float32 there is: infinities, zeros of both signs, subnormals, the largest.

A NaN has no code: where a quantizer meets one, the packed net goes on with code 0 (the lowest). So it is told here what
the model computes after `nan_as_lowest`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import bitorch
import bitorch_runtime
from bitorch import deploy, verify
from bitorch.deployment.thresholds import float_staircase
from bitorch.layers import QConv2d, QLinear
from bitorch.quantizations import InputDoReFa, Quantization, RSign, Sign, SteHeaviside, WeightDoReFa

INF, NAN = math.inf, math.nan
LARGEST, SMALLEST, NORMAL = 3.4028234663852886e38, 1e-45, 1.1754943508222875e-38
#: Numbers where a chain of float32 operations may do something of its own, and some between.
SPECIAL = (INF, LARGEST, 1e30, 2.0, 1.0, 0.6, 0.5, 0.25, 1e-30, NORMAL, NORMAL / 2, SMALLEST, 0.0)
EVERY = torch.tensor([*SPECIAL, *(-x for x in SPECIAL)])


class Chain(nn.Module):
    """A function of single numbers in front of a low-bit layer whose weights copy its codes' values."""

    def __init__(self, function: Callable[[Tensor], Tensor], quantizer: Quantization, width: int = 1) -> None:
        super().__init__()
        self.function = function
        self.layer = QLinear(
            width,
            width,
            bias=False,
            input_quantization=quantizer,
            weight_quantization=WeightDoReFa(2, variant="paper"),
        )
        with torch.no_grad():
            self.layer.weight.copy_(2 * torch.eye(width) - 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(self.function(x))
        return y


def unit(bits: int) -> Quantization:
    return InputDoReFa(bits, variant="paper")


def nan_as_lowest(x: Tensor) -> Tensor:
    """What a packed net takes for the numbers in front of a quantizer: NaN is below all of them."""
    return x.nan_to_num(nan=-INF, posinf=INF, neginf=-INF)


def check(function: Callable[[Tensor], Tensor], quantizer: Quantization, x: Tensor = EVERY) -> None:
    """Deploy a chain, and hold it to the model and to an oracle in NumPy, on x of any shape."""
    net = Chain(function, quantizer).eval()
    x = x.reshape(-1, 1)
    packed = deploy(net, torch.rand(3, 1))
    result = packed(x)
    with torch.no_grad():
        middle = function(x)
        expected = net.layer(nan_as_lowest(middle))
        numbers = ~middle.isnan()
        assert torch.equal(net(x)[numbers], expected[numbers])
    assert isinstance(result, Tensor)
    assert torch.equal(result, expected), torch.cat([x, middle, result, expected], 1)
    operations, arrays = packed.program()
    for run in (bitorch_runtime.reference.run, lambda *a: bitorch_runtime.Program(*a[:2])(a[2])):
        found = run(operations, arrays, x.numpy())
        assert isinstance(found, np.ndarray)
        assert np.array_equal(found, expected.numpy())
    verification = verify(net, packed, x)
    assert verification, str(verification)


CHAINS: dict[str, Callable[[Tensor], Tensor]] = {
    "clamp(max)": lambda x: x.clamp(max=0.6),
    "clamp(min)": lambda x: x.clamp(min=0.4),
    "clamp": lambda x: x.clamp(0.4, 0.6),
    "clamp to infinities": lambda x: x.clamp(-INF, INF),
    "minus clamp(max)": lambda x: (-x).clamp(max=0.6),
    "minus clamp(min)": lambda x: (-x).clamp(min=0.3),
    "clamp of minus": lambda x: -(x.clamp(-0.6, INF)),
    "hardtanh": lambda x: F.hardtanh(x, -1.0, 0.6),
    "relu6 / 10": lambda x: F.relu6(x) / 10,
    "minimum": lambda x: torch.minimum(x, torch.tensor(0.6)),
    "maximum": lambda x: torch.maximum(x, torch.tensor(0.4)),
    "1 - relu": lambda x: 1.0 - F.relu(x),
    "0.7 - relu": lambda x: 0.7 - F.relu(x),
    "leaky relu": lambda x: F.leaky_relu(x, 0.1),
    "leaky relu of slope 0": lambda x: F.leaky_relu(x, 0.0),
    "leaky relu of a subnormal slope": lambda x: F.leaky_relu(x, SMALLEST),
    "leaky relu, falling": lambda x: F.leaky_relu(-x, 0.1).clamp(max=0.6),
    "hardsigmoid": lambda x: F.hardsigmoid(x) * 0.6,
    "hardswish": lambda x: F.hardswish(x) * 0.1,
    "times 0": lambda x: x * 0.0,
    "times 0 plus": lambda x: x * 0.0 + 0.7,
    "times a subnormal": lambda x: x * SMALLEST,
    "times a little": lambda x: x * 1e-38,
    "times much": lambda x: x * 1e38,
    "over, then under": lambda x: x * 1e38 * 1e-38,
    "over, then 0": lambda x: x * 1e38 * 0.0 + 0.5,
    "over a subnormal": lambda x: x / SMALLEST,
    "over infinity": lambda x: x / INF,
    "plus infinity": lambda x: x + INF,
    "minus infinity": lambda x: x - INF,
    "infinite, then limited": lambda x: (x + INF).clamp(max=0.6),
    "huge minus huge": lambda x: x + LARGEST + LARGEST - 1.0,
}


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("chain", CHAINS)
def test_chains_of_single_numbers(chain: str, bits: int) -> None:
    check(CHAINS[chain], unit(bits))


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("quantizer", [Sign, SteHeaviside])
def test_chains_in_front_of_signs(chain: str, quantizer: type[Quantization]) -> None:
    check(CHAINS[chain], quantizer())
