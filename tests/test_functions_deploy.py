"""Functions of floats and softmax, captured as users write them, deployed and verified."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig, PackedModel, deploy, verify
from bitorch.layers import QLinear
from bitorch.quantizations import InputDoReFa, WeightDoReFa

Function = Callable[[Tensor], Tensor]


def _halves(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=1)
    return a * b.sigmoid()


#: As functions, methods and modules, and what each becomes: operations, functions of "activation" by their names.
WRITTEN: dict[str, tuple[Function, list[str]]] = {
    "F.selu": (F.selu, ["selu"]),
    "torch.selu": (torch.selu, ["selu"]),
    "nn.SELU": (nn.SELU(inplace=True), ["selu"]),
    "F.celu": (lambda x: F.celu(x, 0.7), ["celu"]),
    "nn.CELU": (nn.CELU(1.3), ["celu"]),
    "F.celu in place": (lambda x: F.celu(x, 2.0, inplace=True), ["celu"]),
    "F.softplus": (F.softplus, ["softplus"]),
    "nn.Softplus": (nn.Softplus(2.0, 5.0), ["softplus"]),
    "F.mish": (F.mish, ["mish"]),
    "nn.Mish": (nn.Mish(inplace=True), ["mish"]),
    "torch.erf": (torch.erf, ["erf"]),
    "x.erf": (lambda x: x.erf(), ["erf"]),
    "gelu by hand": (lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)), ["affine", "affine", "erf", "affine", "mul"]),
    "torch.exp": (torch.exp, ["exp"]),
    "x.exp_": (lambda x: x.exp_(), ["exp"]),
    "log of what is above 0": (lambda x: torch.log(x.abs() + 0.5), ["abs", "affine", "log"]),
    "x.sqrt": (lambda x: x.abs().sqrt(), ["abs", "sqrt"]),
    "torch.rsqrt": (lambda x: torch.rsqrt(x * x + 1e-3), ["mul", "affine", "rsqrt"]),
    "torch.reciprocal": (lambda x: torch.reciprocal(x.abs() + 0.25), ["abs", "affine", "reciprocal"]),
    "1 / x": (lambda x: 1 / (x.abs() + 0.25), ["abs", "affine", "reciprocal"]),
    "3 / x": (lambda x: 3 / (x.abs() + 0.25), ["abs", "affine", "reciprocal", "affine"]),
    "abs(x)": (abs, ["abs"]),
    "x.sign": (lambda x: x.sign(), ["sign"]),
    "F.softsign": (F.softsign, ["softsign"]),
    "nn.Softsign": (nn.Softsign(), ["softsign"]),
    "F.logsigmoid": (F.logsigmoid, ["logsigmoid"]),
    "nn.LogSigmoid": (nn.LogSigmoid(), ["logsigmoid"]),
    "F.threshold": (lambda x: F.threshold(x, 0.1, -0.2), ["threshold"]),
    "nn.Threshold": (nn.Threshold(0.2, 7.0, inplace=True), ["threshold"]),
    "F.hardshrink": (F.hardshrink, ["hardshrink"]),
    "nn.Hardshrink": (nn.Hardshrink(0.2), ["hardshrink"]),
    "hardshrink below 0": (lambda x: F.hardshrink(x, -1.0), []),
    "F.softshrink": (lambda x: F.softshrink(x, 0.3), ["softshrink"]),
    "nn.Softshrink": (nn.Softshrink(), ["softshrink"]),
    "F.tanhshrink": (F.tanhshrink, ["tanh", "affine"]),
    "nn.Tanhshrink": (nn.Tanhshrink(), ["tanh", "affine"]),
    "F.rrelu": (F.rrelu, ["leaky_relu"]),
    "nn.RReLU": (nn.RReLU(0.1, 0.2).eval(), ["leaky_relu"]),
    "F.glu": (lambda x: F.glu(x, dim=1), ["select", "select", "sigmoid", "mul"]),
    "nn.GLU": (nn.GLU(1), ["select", "select", "sigmoid", "mul"]),
    "halves": (_halves, ["select", "sigmoid", "select", "mul"]),
    "nn.GELU": (nn.GELU(), ["gelu"]),
    "nn.GELU tanh": (nn.GELU("tanh"), ["gelu_tanh"]),
    "nn.SiLU": (nn.SiLU(inplace=True), ["silu"]),
    "x ** 3": (lambda x: x**3, ["mul", "mul"]),
    "x.pow(2)": (lambda x: x.pow(2.0), ["mul"]),
    "x ** 0.5": (lambda x: x.abs() ** 0.5, ["abs", "sqrt"]),
    "x ** -0.5": (lambda x: (x.abs() + 1) ** -0.5, ["abs", "affine", "rsqrt"]),
    "x ** -1": (lambda x: (x.abs() + 1) ** -1, ["abs", "affine", "reciprocal"]),
    "x ** -2": (lambda x: (x.abs() + 1) ** -2, ["abs", "affine", "mul", "reciprocal"]),
    "x ** 1": (lambda x: x**1, []),
    "F.softmax": (lambda x: F.softmax(x, dim=1), ["softmax"]),
    "x.log_softmax": (lambda x: x.log_softmax(1), ["softmax"]),
    "F.softmin": (lambda x: F.softmin(x, dim=1), ["affine", "softmax"]),
    "nn.Softmin": (nn.Softmin(dim=1), ["affine", "softmax"]),
    "nn.Softmax2d": (nn.Softmax2d(), ["softmax"]),
}


class OfFloats(nn.Module):
    """A function of a sum, so that it stands between floats; and a low-bit layer, without which nothing deploys."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        weights = WeightDoReFa(2, variant="paper")
        self.layer = QLinear(2, 2, input_quantization=InputDoReFa(2, variant="paper"), weight_quantization=weights)

    def forward(self, x: Tensor, other: Tensor, few: Tensor) -> tuple[Tensor, Tensor]:
        return self.function(x + other), self.layer(few)


def inputs(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x, torch.zeros_like(x), torch.rand(len(x), 2)


def run(packed: PackedModel, net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What the program gives, and what the model does."""
    given = inputs(x)
    with torch.no_grad():
        return next(iter(packed(*given).values())), net(*given)[0]


def operations_of(packed: PackedModel) -> list[str]:
    operations, _ = packed.program()
    names = [operation.get("function", operation["op"]) for operation in operations]
    return [name for name in names if name not in ("input", "output", "permute", "quantize", "linear")]


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.one_in(2)
def test_functions_as_they_are_written(written: str) -> None:
    function, expected = WRITTEN[written]
    net = OfFloats(function).eval()
    torch.manual_seed(0)
    packed = deploy(net, *inputs(torch.randn(2, 6, 5, 7)))
    assert operations_of(packed) == ["add", *expected]
    for batch in (1, 3):
        x = torch.randn(batch, 6, 5, 7) * 3
        verification = verify(net, packed, *inputs(x))
        assert verification, str(verification)
        torch.testing.assert_close(*run(packed, net, x), rtol=2e-6, atol=1e-6)


SPECIAL = torch.tensor(
    [float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-45, -1e-45, 1e-38, 3e38, -3e38, 88.8, -104.0, 20.5, -20.5]
)


@pytest.mark.parametrize("written", [name for name in WRITTEN if "softm" not in name.lower() and name != "halves"])
def test_functions_of_numbers_that_are_none(written: str) -> None:
    function, _ = WRITTEN[written]
    x = SPECIAL.repeat(2, 6, 1)
    net = OfFloats(function).eval()
    packed = deploy(net, *inputs(torch.rand(2, 6, len(SPECIAL))))
    result, expected = run(packed, net, x)
    lost = "GELU" in written or written == "F.softplus"  # PyTorch's own vectors lose huge numbers, or the tail
    if lost:
        finite = result.isfinite() & expected.isfinite() & (x.abs() < 1e4)
        result, expected = result[finite], expected[finite]
    torch.testing.assert_close(result, expected, rtol=2e-6, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (6, 5), (3, 4, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.one_in(3)
def test_softmax_over_every_axis(shape: tuple[int, ...], log: bool) -> None:
    for axis in range(1, len(shape) + 1):
        for dim in (axis, axis - len(shape) - 1):
            name = "log_softmax" if log else "softmax"
            net = OfFloats(lambda x, name=name, dim=dim: getattr(x, name)(dim)).eval()  # type: ignore[misc]
            packed = deploy(net, *inputs(torch.randn(2, *shape)))
            x = torch.randn(3, *shape) * 5
            x[0, ..., -1] = -float("inf")
            verification = verify(net, packed, *inputs(x))
            assert verification, str(verification)
            torch.testing.assert_close(*run(packed, net, x), rtol=2e-6, atol=1e-6, equal_nan=True)


def test_a_row_of_nothing_is_nan_as_in_pytorch() -> None:
    net = OfFloats(lambda x: x.softmax(-1)).eval()
    x = torch.tensor([[[0.0, 1.0], [-torch.inf, -torch.inf], [-torch.inf, 3.0]]])
    packed = deploy(net, *inputs(torch.randn(1, 3, 2)))
    result, expected = run(packed, net, x)
    torch.testing.assert_close(result, expected, equal_nan=True)
    assert result.isnan().sum() == 2


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda x: F.celu(x, -1.0), "alpha=-1.0"),
        (lambda x: F.softplus(x, beta=-1.0), "beta=-1.0"),
        (lambda x: F.threshold(x, 0.0, float("inf")), "its value is inf"),
        (lambda x: x**2.5, "powers other than"),
        (lambda x: 2**x, "rpow cannot be deployed"),
        (lambda x: F.rrelu(x, training=True), "random"),
        (torch.sin, "sin cannot be deployed"),
        (lambda x: x.softmax(0), "softmax over the batch"),
        (lambda x: F.glu(x, dim=0), "mixes or drops the batch"),
    ],
)
def test_what_is_refused(function: Function, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        deploy(OfFloats(function).eval(), *inputs(torch.randn(2, 6)))


class Classifier(nn.Module):
    """Layers whose quantizers read functions, tokens among them, and a gate."""

    def __init__(self, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), act(), nn.Conv2d(8, 8, 3, stride=2), nn.BatchNorm2d(8), act()
        )
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = x * self.gate(x)
        tokens = self.act(self.mix(x.flatten(2).transpose(1, 2)))
        y: Tensor = self.head(tokens.mean(1)).log_softmax(-1)
        return y


ACTS = [nn.Mish, nn.Softplus, nn.SELU, nn.CELU, nn.SiLU, nn.GELU, nn.Hardshrink, nn.Softsign, nn.Tanhshrink]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(
    ("weight_bits", "bits"),
    [(1, 2), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((2, 2), (4, 4)))],
)
def test_networks_of_functions(act: Callable[[], nn.Module], weight_bits: int, bits: int) -> None:
    torch.manual_seed(1)
    net = Classifier(act)
    bitorch.quantize_(net, LowBitConfig(weight_bits, bits))
    with torch.no_grad():
        for _ in range(2):
            net(torch.randn(4, 3, 15, 13))
    net.eval()
    packed = deploy(net, torch.randn(1, 3, 15, 13))
    verification = verify(net, packed, torch.randn(3, 3, 15, 13))
    assert verification, str(verification)
