"""A step for each row, found while the net runs: values, gradients, layers, packed layers, programs, files."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import bitorch
from bitorch.deployment.partial.packed_layers import PackedLinear
from bitorch.layers import QConv2d, QLinear, QMatmul
from bitorch.quantizations import (
    GradientDoReFa,
    InputDynamic,
    Quantization,
    WeightAbsMean,
    WeightDoReFa,
    WeightLSQ,
)

BITS = [2, 3, 4, 5, 6, 7, 8]
WEIGHTS: dict[str, Callable[[], Quantization]] = {
    "ternary": WeightAbsMean,
    "ternary, channels": lambda: WeightAbsMean(per_channel=True),
    "1 bit": lambda: WeightDoReFa(1, variant="paper"),
    "4 bits": lambda: WeightLSQ(4),
}


def oracle(x: NDArray[np.float32], bits: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Codes and steps of rows, by the formula, one number at a time."""
    n = np.float32(2 ** (bits - 1) - 1)
    steps = [np.float32(max(abs(float(v)) for v in row) or 0) for row in x]
    steps = [max(step, np.float32(2.0**-100)) / n for step in steps]
    codes = [[np.rint(np.float32(v) / step) for v in row] for row, step in zip(x, steps, strict=True)]
    return np.array(codes, np.float32), np.array(steps, np.float32)[:, None]


def rows(features: int) -> Tensor:
    """Rows of many sizes, zeros, ties between two codes, and numbers near the ends of float32."""
    x = torch.randn(8, features, generator=torch.Generator().manual_seed(features))
    x[1] = 0
    x[2] *= 1e-35
    x[3] *= 1e30
    x[4] = torch.arange(features) / 2 - features / 4
    x[5] = 0.25
    x[6, 0] = 100
    return x


@pytest.mark.parametrize("bits", BITS)
def test_values_and_gradients(bits: int) -> None:
    x = rows(33).requires_grad_(True)
    quantizer = InputDynamic(bits)
    value = quantizer(x)
    codes, steps = oracle(x.detach().numpy(), bits)
    assert np.array_equal(quantizer.codes(x).detach().numpy(), codes)
    assert np.array_equal(quantizer.scale(x).numpy(), steps)
    assert np.array_equal(value.detach().numpy(), codes * steps)
    gradient = torch.randn_like(x)
    value.backward(gradient)
    assert x.grad is not None
    assert torch.equal(x.grad, gradient)
    assert float(quantizer.codes(x).detach().abs().max()) == 2 ** (bits - 1) - 1


def test_what_is_not_finite() -> None:
    x = torch.tensor([[1.0, torch.nan], [torch.inf, 1.0], [-torch.inf, 0.0], [2.0, 1.0]])
    codes = InputDynamic(8).codes(x)
    assert codes[0].isnan().all()
    assert codes[1:].tolist() == [[127, 0], [-128, 0], [127, 64]]
    assert InputDynamic(8)(torch.zeros(3, 0)).shape == (3, 0)
    assert torch.equal(InputDynamic(32)(x[3]), x[3])
    assert InputDynamic(8)(torch.tensor([3.0, -1.0], dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_bits() -> None:
    for make in (InputDynamic, InputDynamic(4).set_bits_):
        with pytest.raises(ValueError, match="2 to 8 bits, or 32 for none, got 1"):
            make(1)
    with pytest.raises(ValueError, match="got 1, which has no level but 0"):
        bitorch.LowBitConfig(weight_bits=1, activation_bits=1, range="dynamic")


def layer(bits: int, weight: str, *, bias: bool = True, gradient: Quantization | None = None) -> QLinear:
    torch.manual_seed(bits)
    return QLinear(
        33, 20, bias=bias, input_quantization=InputDynamic(bits), weight_quantization=WEIGHTS[weight](),
        gradient_quantization=gradient,
        gradient_cancellation_threshold=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(("bits", "weight"), [*product((2, 8), WEIGHTS)])
def test_a_layer_is_the_product_of_its_values(bits: int, weight: str) -> None:
    made = layer(bits, weight)
    x = rows(33)[[0, 1, 4, 5, 6]].requires_grad_(True)
    y = made(x)
    codes, steps = oracle(x.detach().numpy(), bits)
    c, s = made.weight_codes().double().numpy(), made.weight_scale().detach().flatten().numpy()
    sums = (codes.astype(np.float64) @ c.T).astype(np.float32)
    assert np.array_equal(y.detach().numpy(), (sums * s) * steps + made.bias.detach().numpy())
    of_values = made.weight.detach().clone().requires_grad_(True)
    again = x.detach().clone().requires_grad_(True)
    values = made.input_quantization(again).double() @ made.weight_quantization(of_values).double().T
    gradient = torch.randn_like(y)
    y.backward(gradient)
    values.backward(gradient.double())
    torch.testing.assert_close(x.grad, again.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(made.weight.grad, of_values.grad, rtol=1e-4, atol=1e-4)


def test_gradients_of_few_bits() -> None:
    """With codes of a gradient the products are those of its values."""
    coded = layer(8, "ternary", gradient=GradientDoReFa(6, noise=False))
    plain = layer(8, "ternary")
    x = rows(33)[[0, 4, 6]]
    inputs = [x.clone().requires_grad_(True) for _ in range(2)]
    gradient = torch.randn(3, 20)
    coded(inputs[0]).backward(gradient)
    quantized = torch.zeros(3, 20, requires_grad=True)
    GradientDoReFa(6, noise=False)(quantized).backward(gradient)
    plain(inputs[1]).backward(quantized.grad)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close(coded.weight.grad, plain.weight.grad)


def same(found: Tensor, expected: Tensor) -> bool:
    return bool(((found == expected) | (found.isnan() & expected.isnan())).all())


@pytest.mark.parametrize(("bits", "weight", "bias"), [*product((2, 5, 8), WEIGHTS, (False, True))])
def test_packed_layers_are_equal(bits: int, weight: str, bias: bool) -> None:
    made = layer(bits, weight, bias=bias).eval()
    packed = PackedLinear(made)
    x = rows(33)
    x[0, 0], x[5, 1], x[6, 1] = torch.nan, torch.inf, -torch.inf
    for given in (x, x[:1], x[4], x.view(2, 4, 33), x[[1, 4]].bfloat16(), x.double(), x[:0]):
        with torch.no_grad():
            assert same(packed(given), made(given))
    several = packed.together([PackedLinear(layer(bits, weight, bias=bias).eval())], x[1:])
    assert several is not None
    with torch.no_grad():
        assert all(same(one, made(x[1:])) for one in several)


class Net(nn.Module):
    """A linear layer in front, one behind a quantizer, and three axes."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.first, self.second, self.again = layer(bits, "ternary"), QLinear(
            20, 6, input_quantization=InputDynamic(bits), weight_quantization=WeightDoReFa(4, variant="paper")
        ), InputDynamic(bits)  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.again(self.second(torch.relu(self.first(x))))
        return y


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_programs_are_equal(bits: int, tmp_path: Path) -> None:
    net = Net(bits).eval()
    for x in (rows(33)[[0, 1, 4, 6]], rows(33).view(2, 4, 33)[:, [0, 1]]):
        bitorch.deploy(net, x).save(tmp_path / "net.bit.safetensors")
        packed = bitorch.PackedModel.load(tmp_path / "net.bit.safetensors")
        assert bitorch.verify(net, packed, x)
        export = bitorch.export_onnx(net, x, path=tmp_path / "net.onnx")
        assert bitorch.verify_onnx(net, export.path, x)


def test_conversion() -> None:
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    config = bitorch.LowBitConfig(
        weight_bits=2, activation_bits=8, range="dynamic", weights="absmean", first="same", last=8
    )
    bitorch.quantize_(net, config)
    assert [type(net[i].input_quantization) for i in (0, 2, 4)] == [InputDynamic] * 3
    x = torch.randn(5, 8)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()
    assert bitorch.verify(net.eval(), bitorch.deploy(net, x), x)
    bitorch.set_bits(net, (2, 4, 32))
    with pytest.raises(ValueError, match="found while it runs, so leave calibrate out"):
        bitorch.calibrate(net, [x])
    assert bitorch.check(net, (x, torch.arange(5) % 4))
    assert [row.macs for row in bitorch.report(net, x, repeats=1).rows if row.macs]
    changed = net[2].input_quantization
    assert isinstance(changed, InputDynamic)
    assert changed.bit_width == 4


def test_what_sums_over_several_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="a step for each row of the last axis, and a QConv2d sums over several"):
        QConv2d(3, 4, 3, input_quantization=InputDynamic(8), weight_quantization=WeightAbsMean())
    with pytest.raises(ValueError, match="right_quantization"):
        QMatmul("sign", InputDynamic(8))
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(8, 4))
    with pytest.raises(ValueError, match="sums over several"):
        bitorch.quantize_(net, bitorch.LowBitConfig(weight_bits=2, activation_bits=8, range="dynamic"))
    assert type(net[1]) is nn.Conv2d
