"""The packed program equals the model on every float32: infinities, zeros of both signs, subnormals, the largest.

A NaN has no code: where a quantizer meets one, the packed net goes on with code 0 (the lowest). So it is told here what
the model computes after `nan_as_lowest`.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from bitorch.deployment.runtime import fuse_thresholds as staircases
from bitorch.deployment.runtime.subnormals import are_flushed
from bitorch.deployment.runtime.threshold_search import Staircase, float_staircase
from bitorch.deployment.runtime.trial_inputs import SPECIAL, trial_inputs
from bitorch.layers import QConv2d, QLinear
from bitorch.quantizations import InputDoReFa, Quantization, RSign, Sign, SteHeaviside, WeightDoReFa

INF, NAN = math.inf, math.nan
LARGEST, SMALLEST, NORMAL = 3.4028234663852886e38, 1e-45, 1.1754943508222875e-38
#: Numbers where a chain of float32 operations may do something of its own, and some between.
NUMBERS = (INF, LARGEST, 1e30, 2.0, 1.0, 0.6, 0.5, 0.25, 1e-30, NORMAL, NORMAL / 2, SMALLEST, 0.0)
EVERY = torch.tensor([*NUMBERS, *(-x for x in NUMBERS)])


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
@pytest.mark.one_in(4)
def test_chains_of_single_numbers(chain: str, bits: int) -> None:
    check(CHAINS[chain], unit(bits))


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("quantizer", [Sign, SteHeaviside])
@pytest.mark.one_in(2)
def test_chains_in_front_of_signs(chain: str, quantizer: type[Quantization]) -> None:
    check(CHAINS[chain], quantizer())


@pytest.fixture(scope="module")
def chains_in_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed nets at every bit width, their input and what they should give."""
    folder = tmp_path_factory.mktemp("chains")
    expected = {}
    for bits in range(1, 9):
        for chain in ("clamp(max)", "minus clamp(max)", "times 0 plus", "clamp of minus"):
            net = Chain(CHAINS[chain], unit(bits)).eval()
            path = folder / f"{bits} {chain}"
            deploy(net, torch.rand(3, 1)).save(path)
            with torch.no_grad():
                expected[str(path)] = net.layer(nan_as_lowest(net.function(EVERY.reshape(-1, 1)))).numpy()
    np.save(folder / "x.npy", EVERY.reshape(-1, 1).numpy())
    np.savez(folder / "expected.npz", **expected)
    return folder


@pytest.mark.parametrize("kernel", bitorch_runtime._native.available_kernels())
def test_chains_on_every_kernel_table(kernel: str, chains_in_files: Path) -> None:
    script = f"""
import numpy as np, bitorch_runtime
assert bitorch_runtime.cpu()["kernel"] == {kernel!r}
x = np.load({str(chains_in_files / "x.npy")!r})
for path, wanted in np.load({str(chains_in_files / "expected.npz")!r}).items():
    assert np.array_equal(bitorch_runtime.load(path)(x), wanted), path
"""
    environment = os.environ | {"BITORCH_KERNEL": kernel}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=120)


SLOPES = st.sampled_from([0.0, 1.0, -1.0, 0.3, -0.3, 1e-30, 1e30, -1e30, SMALLEST, LARGEST, -NORMAL / 2])
CONSTANTS = st.sampled_from([0.0, 0.4, 0.6, 1.0, -0.25, 1e-30, LARGEST, -LARGEST, SMALLEST])
BOUNDS = st.one_of(st.none(), CONSTANTS, st.just(INF), st.just(-INF), st.floats(-2, 2, width=32))


def steps() -> st.SearchStrategy[Callable[[Tensor], Tensor]]:
    """Functions of a number that deploy, with constants of all kinds."""
    return st.one_of(
        st.builds(lambda c: lambda x: x * c, SLOPES),
        st.builds(lambda c: lambda x: x + c, CONSTANTS),
        st.builds(lambda c: lambda x: c - x, CONSTANTS),
        st.builds(lambda c: lambda x: x / c, SLOPES.filter(lambda c: c != 0)),
        st.builds(lambda c: lambda x: F.leaky_relu(x, c), SLOPES),
        st.builds(lambda a, b: lambda x: clamped(x, a, b), BOUNDS, BOUNDS),
        st.builds(lambda a, b: lambda x: batch_norm(x, a, b), SLOPES.filter(lambda c: abs(c) < 1e30), CONSTANTS),
        st.sampled_from([F.relu, F.relu6, F.hardtanh, F.hardswish, F.hardsigmoid, torch.neg, torch.square]),
    )


def clamped(x: Tensor, low: float | None, high: float | None) -> Tensor:
    if low == INF or high == -INF or low is high is None:
        return x
    return x.clamp(low, high)


def batch_norm(x: Tensor, weight: float, bias: float) -> Tensor:
    one = torch.ones(1)
    return F.batch_norm(x, 0.1 * one, 0.9 * one, weight * one, bias * one)


FUNCTIONS = st.lists(steps(), min_size=1, max_size=4)
MORE = st.lists(st.floats(width=32, allow_nan=False), max_size=8)


def check_chain(functions: list[Callable[[Tensor], Tensor]], bits: int, sign: bool, more: list[float]) -> None:
    def function(x: Tensor) -> Tensor:
        for step in functions:
            x = step(x)
        return x

    check(function, Sign() if sign else unit(bits), torch.cat([EVERY, torch.tensor(more, dtype=torch.float32)]))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(functions=FUNCTIONS, bits=st.integers(1, 8), sign=st.booleans(), more=MORE)
def test_chains_with_any_constants(
    functions: list[Callable[[Tensor], Tensor]], bits: int, sign: bool, more: list[float]
) -> None:
    check_chain(functions, bits, sign, more)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(functions=FUNCTIONS, bits=st.integers(1, 8), sign=st.booleans(), more=MORE)
def test_many_chains_with_any_constants(
    functions: list[Callable[[Tensor], Tensor]], bits: int, sign: bool, more: list[float]
) -> None:
    check_chain(functions, bits, sign, more)


class Net(nn.Module):
    """A function of an image and two low-bit layers."""

    def __init__(self, function: Callable[..., Tensor], bits: int, *slopes: float) -> None:
        super().__init__()
        torch.manual_seed(bits)
        self.function = function
        self.norm = nn.BatchNorm2d(4)
        slope = torch.tensor([*slopes, 1.0, -0.7, 0.0, 1e-30][:4])
        self.norm.weight.data.copy_(slope)
        self.norm.bias.data.copy_(torch.tensor([0.3, 0.6, 0.7, 0.2]))
        weights = WeightDoReFa(2, variant="paper")
        self.one = QConv2d(4, 4, 3, padding=1, input_quantization=unit(bits), weight_quantization=weights)
        self.two = QConv2d(4, 4, 1, input_quantization=unit(bits), weight_quantization=weights)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.two(self.function(x, self.one, self.norm))
        return y


NETS: dict[str, Callable[..., Tensor]] = {
    "pool of a norm": lambda x, one, norm: one(F.max_pool2d(norm(x), 2)),
    "norm of a pool": lambda x, one, norm: one(norm(F.max_pool2d(x, 2))),
    "padded pool": lambda x, one, norm: one(F.max_pool2d(x * 0.6, 3, 1, 1)),
    "times 0 of a pool": lambda x, one, norm: one(F.max_pool2d(x, 2) * 0.0 + 0.6),
    "plus infinity of a pool": lambda x, one, norm: one((F.max_pool2d(x, 2) + INF).clamp(max=0.6)),
    "residual": lambda x, one, norm: norm(one(x)) + x,
    "residual of opposites": lambda x, one, norm: one(norm(x) + -x),
    "residual with relu": lambda x, one, norm: F.relu(one(x.clamp(max=0.6)) + x),
    "average": lambda x, one, norm: one(F.avg_pool2d(x, 2)),
    "average with borders": lambda x, one, norm: one(F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
    "adaptive average": lambda x, one, norm: one(F.adaptive_avg_pool2d(x, 2)),
    "gate": lambda x, one, norm: one(x * F.hardsigmoid(norm(x))),
    "gate per channel": lambda x, one, norm: one(x * F.hardsigmoid(x.amax((2, 3), keepdim=True))),
    "product": lambda x, one, norm: one(x * norm(x)),
    "square": lambda x, one, norm: one(x * x),
    "sigmoid": lambda x, one, norm: one(x.sigmoid()),
    "tanh": lambda x, one, norm: one(x.tanh()),
    "silu": lambda x, one, norm: one(F.silu(x)),
    "elu": lambda x, one, norm: one(F.elu(norm(x), 0.8)),
    "softmax": lambda x, one, norm: one(x.softmax(1)),
    "mean": lambda x, one, norm: one(x.mean((2, 3), keepdim=True)),
    "concatenated": lambda x, one, norm: one(torch.cat([norm(x)[:, :2], x[:, 2:] * 0.6], 1)),
    "padded": lambda x, one, norm: one(F.pad(x.clamp(max=0.6), (1, 1, 1, 1), value=0.4)),
    "flattened": lambda x, one, norm: one(x.flatten(1).view(x.shape[0], 4, 4, 4)),
    "huge sums": lambda x, one, norm: norm(one(x) * LARGEST),
}


@pytest.mark.parametrize("bits", [1, 2, 5])
@pytest.mark.parametrize("net", NETS)
@pytest.mark.one_in(3)
def test_nets_on_every_float(net: str, bits: int) -> None:
    """All is compared with the model, tensor by tensor; the graph behind the passes with the model itself."""
    model = Net(NETS[net], bits).eval()
    packed = deploy(model, torch.rand(1, 4, 4, 4))
    generator = torch.Generator().manual_seed(bits)
    for share in (0.02, 0.2, 1.0):
        x = torch.randn(16, 4, 4, 4, generator=generator)
        special = EVERY[torch.randint(0, len(EVERY), x.shape, generator=generator)]
        x = torch.where(torch.rand(x.shape, generator=generator) < share, special, x)
        verification = verify(model, packed, x)
        assert verification, str(verification)


@pytest.mark.parametrize("bits", range(1, 9))
def test_a_net_by_quantize_in_place(bits: int) -> None:
    net = nn.Sequential(nn.Hardtanh(-1, 0.6), nn.Linear(3, 4), nn.ReLU6(), nn.Linear(4, 3))
    bitorch.quantize_(net, bitorch.LowBitConfig(1, bits, first="same", last="same"))
    net.eval()
    x = EVERY[torch.randint(0, len(EVERY), (200, 3), generator=torch.Generator().manual_seed(0))]
    result = deploy(net, torch.rand(2, 3))(x)
    with torch.no_grad():
        assert isinstance(result, Tensor)
        assert torch.equal(result, net(x))


def test_the_example_of_one_bit_and_two() -> None:
    net = QLinear(1, 1, bias=False, input_quantization=unit(2), weight_quantization=WeightDoReFa(1, variant="paper"))
    with torch.no_grad():
        net.weight.fill_(1.0)
    packed = deploy(nn.Sequential(Limit(), net).eval(), torch.rand(2, 1))
    result = packed(torch.tensor([[INF], [-INF], [0.6], [0.4]]))
    assert isinstance(result, Tensor)
    assert torch.equal(result, torch.tensor([[2.0], [0.0], [2.0], [1.0]]) * torch.tensor(1 / 3))


class Limit(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(max=0.6)


def test_bounds_that_no_file_can_hold() -> None:
    def net(function: Callable[[Tensor], Tensor]) -> nn.Module:
        return Chain(function, unit(2)).eval()

    for function, what in (
        (lambda x: x.clamp(min=INF), "it clamps to inf"),
        (lambda x: x.clamp(max=-INF), "it clamps to -inf"),
        (lambda x: x.clamp(max=NAN), "it clamps to nan"),
        (lambda x: torch.minimum(x, torch.tensor(NAN)), "it clamps to nan"),
        (lambda x: F.pad(x, (1, 0), value=-INF)[:, 1:], "it pads with -inf"),
    ):
        report = bitorch.can_deploy(net(function), torch.rand(2, 1))
        assert what in str(report), str(report)
        with pytest.raises(ValueError, match=what):
            deploy(net(function), torch.rand(2, 1))


def test_trials_have_special_numbers_in_floats_alone() -> None:
    floats, pixels = torch.rand(1, 3, 4, 4), torch.zeros(1, 2, dtype=torch.uint8)
    *_, last = trial_inputs([floats, pixels], [0, 0])
    assert last[0].shape[1:] == (3, 4, 4)
    assert last[1].dtype == torch.uint8
    for image in last[0]:
        assert bool(torch.isin(image, SPECIAL).any())
    numbers = torch.cat([trial_inputs([torch.rand(1, 500)], [0])[-1][0].flatten(), torch.tensor([0.5])])
    for special in SPECIAL:
        assert bool(((numbers == special) & (numbers.signbit() == special.signbit())).any()), special
    assert len(trial_inputs([pixels], [0])) == 2


def test_deploy_finds_a_program_that_differs_at_infinity_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    search = float_staircase

    def reached(*arguments: Any) -> Staircase:
        found = search(*arguments)
        return replace(found, thresholds=found.thresholds.nan_to_num(nan=INF, posinf=INF, neginf=-INF))

    monkeypatch.setattr(staircases, "float_staircase", reached)
    with pytest.raises(bitorch.DeploymentError, match="differs first in"):
        deploy(Chain(CHAINS["clamp(max)"], unit(2)).eval(), torch.rand(2, 1))


@contextmanager
def subnormals_flushed() -> Iterator[None]:
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush subnormal numbers")
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("quantizer", [Sign(), SteHeaviside(), RSign(1, 0), unit(2)], ids=lambda q: type(q).__name__)
def test_threads_that_flush_subnormals_get_the_same_numbers(quantizer: Quantization, threads: int) -> None:
    net = Chain(lambda x: x * 1.0, quantizer).eval()
    x = EVERY.repeat(100).reshape(-1, 1)
    packed = deploy(net, torch.rand(2, 1))
    expected = packed(x)
    assert isinstance(expected, Tensor)
    before = bitorch_runtime.get_num_threads()
    bitorch_runtime.set_num_threads(threads)
    try:
        with subnormals_flushed():
            again, made = packed(x), deploy(net, torch.rand(2, 1))
            assert are_flushed()
            for found in (again, made(x)):
                assert isinstance(found, Tensor)
                assert torch.equal(found, expected)
            assert verify(net, packed, x)
            assert are_flushed()
    finally:
        bitorch_runtime.set_num_threads(before)
    with torch.no_grad():
        assert torch.equal(net(x), expected)
