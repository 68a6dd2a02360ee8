"""Layers that train on integers give the numbers of those that train on floats."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig, quantize_
from bitorch.doctor import doctor_report
from bitorch.layers import QConv1d, QConv2d, QConv3d, QConvTranspose2d, QLinear, integer_kernels
from bitorch.layers.integer_kernels import machine_obstacle
from bitorch.quantizations import (
    GradientDoReFa,
    GradientLUQ,
    GradientSigned,
    InputCalibrated,
    InputDoReFa,
    InputLSQ,
    InputPACT,
    Sign,
    WeightAbsMean,
    WeightDoReFa,
    WeightLSQ,
    WeightSEQ,
    WeightTWN,
)

Layer = QLinear | QConv1d | QConv2d
pytestmark = pytest.mark.skipif(machine_obstacle() is not None, reason=str(machine_obstacle()))

LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda **q: QLinear(13, 7, **q), (5, 13)),
    "tokens": (lambda **q: QLinear(12, 70, **q), (3, 2, 5, 12)),
    "conv1d": (lambda **q: QConv1d(5, 6, 3, padding=1, stride=2, bias=True, **q), (3, 5, 9)),
    "conv2d": (lambda **q: QConv2d(6, 66, 3, padding=1, **q), (3, 6, 7, 5)),
    "strided": (lambda **q: QConv2d(3, 5, (5, 2), padding=(2, 0), stride=(2, 3), bias=True, **q), (2, 3, 9, 8)),
    "groups": (lambda **q: QConv2d(32, 48, 3, padding=1, stride=2, groups=2, bias=True, **q), (2, 32, 5, 6)),
    "one pixel": (lambda **q: QConv2d(4, 9, 3, **q), (4, 4, 3, 3)),
}


def paper(weight_bits: int = 1, activation_bits: int = 2, gradient_bits: int = 6, **more: Any) -> dict[str, Any]:
    return {
        "weight_quantization": WeightDoReFa(weight_bits, variant="paper"),
        "input_quantization": InputDoReFa(activation_bits, variant="paper"),
        "gradient_quantization": GradientDoReFa(gradient_bits),
        "gradient_cancellation_threshold": 0.0,
        **more,
    }


def twins(kind: str, arguments: dict[str, Any]) -> tuple[Layer, Layer, Tensor]:
    """Return the same layer on floats and on integers, with a range for its inputs, and an input."""
    torch.manual_seed(3)
    make, shape = LAYERS[kind]
    layer = make(**arguments, kernels="float")
    x = torch.randn(shape) * 0.6 + 0.3
    quantizer = layer.input_quantization
    if hasattr(quantizer, "fit_"):
        quantizer.fit_(x)
    other = copy.deepcopy(layer)
    other.kernels = "integer"
    return layer, other, x


def numbers(layer: Layer, x: Tensor, seed: int = 4) -> dict[str, Tensor]:
    """Return y and all gradients of a step."""
    leaf = x.clone().requires_grad_()
    y = layer(leaf)
    torch.manual_seed(seed)
    g = torch.randn(y.shape) * torch.rand(y.shape[0], *[1] * (y.dim() - 1))
    layer.zero_grad()
    y.backward(g)
    assert leaf.grad is not None
    gradients = {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {"y": y.detach(), "x": leaf.grad, **{name: grad for name, grad in gradients.items() if grad is not None}}


def compare(kind: str, arguments: dict[str, Any]) -> None:
    floats, integers, x = twins(kind, arguments)
    expected, found = numbers(floats, x), numbers(integers, x)
    assert found.keys() == expected.keys()
    for name, number in expected.items():
        assert found[name].stride() == number.stride(), name
        if name in ("y", "x"):
            assert torch.equal(found[name], number), name
        else:
            torch.testing.assert_close(found[name], number, rtol=2e-6, atol=float(number.abs().max()) * 2e-6)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("weight_bits", range(1, 9))
def test_all_bits(kind: str, weight_bits: int) -> None:
    for activation_bits in range(1, 9):
        gradient_bits = 1 + (weight_bits + activation_bits) % 8
        compare(kind, paper(weight_bits, activation_bits, gradient_bits))


METHODS: dict[str, dict[str, Any]] = {
    "LSQ": {"input_quantization": InputLSQ(3), "weight_quantization": WeightLSQ(3)},
    "LSQ+": {"input_quantization": InputLSQ(4, offset=True)},
    "PACT": {"input_quantization": InputPACT(2)},
    "calibrated": {"input_quantization": InputCalibrated(8)},
    "signs": {"input_quantization": Sign()},
    "BITorch's": {
        "input_quantization": InputDoReFa(2),
        "weight_quantization": WeightDoReFa(2),
        "gradient_cancellation_threshold": 0.7,
    },
    "TWN": {"weight_quantization": WeightTWN()},
    "absmean": {"weight_quantization": WeightAbsMean()},
    "SEQ": {"weight_quantization": WeightSEQ(2)},
    "TWN per channel": {"weight_quantization": WeightTWN(per_channel=True)},
    "BWN": {"weight_quantization": WeightDoReFa(1, variant="paper", per_channel=True)},
    "signed gradients": {"gradient_quantization": GradientSigned(5)},
    "no noise": {"gradient_quantization": GradientDoReFa(4, noise=False)},
    "signed, no noise": {"gradient_quantization": GradientSigned(8, noise=False)},
}


@pytest.mark.parametrize("kind", ["linear", "conv1d", "conv2d", "strided", "groups"])
@pytest.mark.parametrize("method", METHODS)
def test_methods(kind: str, method: str) -> None:
    compare(kind, copy.deepcopy(paper(2, 2) | METHODS[method]))


@pytest.mark.parametrize("pad_value", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("quantizer", [Sign(), InputDoReFa(2, variant="paper")], ids=lambda q: type(q).__name__)
def test_borders(quantizer: Any, pad_value: float) -> None:
    compare("conv2d", paper(input_quantization=copy.deepcopy(quantizer), pad_value=pad_value))


@pytest.mark.parametrize("gradient", [None, GradientDoReFa(32), GradientLUQ(4)], ids=str)
@pytest.mark.parametrize("kind", ["linear", "conv1d", "conv2d"])
def test_gradients_that_are_no_codes_of_the_kernels(kind: str, gradient: Any) -> None:
    floats, integers, x = twins(kind, paper(2, 3, gradient_quantization=gradient) | {"gradient_quantization": None})
    for layer in (floats, integers):
        layer.kernels = "float" if layer is floats else "auto"
        layer.gradient_quantization = copy.deepcopy(gradient)
    assert integers.training_kernels()[:2] == ("integer", "float")
    assert integers.training_kernels().why
    for name, number in numbers(floats, x).items():
        assert torch.equal(numbers(integers, x)[name], number), name


def test_layouts() -> None:
    floats, integers, x = twins("conv2d", paper())
    last = x.to(memory_format=torch.channels_last)
    expected = numbers(floats, x)
    for layout in (last, torch.stack([x, x], -1)[..., 0], x.transpose(2, 3).contiguous().transpose(2, 3)):
        found = numbers(integers, layout)
        assert found["y"].is_contiguous(memory_format=torch.channels_last) == (layout is last)
        assert torch.equal(found["y"], expected["y"])
        assert torch.equal(found["x"], expected["x"])
    expanded = x[:1].expand(3, -1, -1, -1)
    assert torch.equal(numbers(integers, expanded)["x"], numbers(floats, expanded)["x"])
    integers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its overloads lack memory formats
    assert integers(x).is_contiguous(memory_format=torch.channels_last)
    sample = x[0]
    assert torch.equal(integers(sample), floats(sample))
    integers.kernels = "auto"
    assert integers(x[:0]).shape == floats(x[:0]).shape


@pytest.mark.parametrize("kind", ["linear", "conv2d", "one pixel"])
def test_threads_change_no_bit(kind: str) -> None:
    _, layer, x = twins(kind, paper(2, 4, 8))
    before = torch.get_num_threads()
    try:
        of_each = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            of_each.append(numbers(layer, x))
    finally:
        torch.set_num_threads(before)
    for name, number in of_each[0].items():
        assert all(torch.equal(found[name], number) for found in of_each[1:]), name


@pytest.mark.parametrize("kind", ["linear", "conv2d", "strided"])
def test_what_needs_no_gradient(kind: str) -> None:
    floats, integers, x = twins(kind, paper())
    with torch.no_grad():
        assert torch.equal(integers(x), floats(x))
    for layer in (floats, integers):
        layer.weight.requires_grad_(False)
    assert torch.equal(numbers(integers, x)["x"], numbers(floats, x)["x"])
    for layer in (floats, integers):
        layer.weight.requires_grad_(True)
        torch.manual_seed(1)
        layer(x).sum().backward()  # not of x
    assert integers.weight.grad is not None
    torch.testing.assert_close(integers.weight.grad, floats.weight.grad)


@pytest.mark.parametrize("kind", ["linear", "conv2d"])
@pytest.mark.parametrize("low", [False, True], ids=["by the kernels", "by the quantizer"])
def test_numbers_that_are_not_finite(kind: str, low: bool) -> None:
    arguments = paper(2, 2) | ({"input_quantization": InputPACT(2)} if low else {})
    floats, integers, x = twins(kind, arguments)
    x.view(-1)[7], x.view(-1)[3] = float("nan"), float("inf")
    assert same(integers(x), floats(x))
    assert floats(x).isnan().any()
    x.view(-1)[7] = 0.5
    y = integers(x.requires_grad_())
    g = torch.ones_like(y)
    g[1].view(-1)[2] = float("inf")
    y.backward(g)
    assert x.grad is not None
    assert x.grad[1].isnan().any()
    assert x.grad[0].isfinite().all()
    assert integers.weight.grad is not None
    assert integers.weight.grad.isnan().all()
    with torch.no_grad():
        for layer in (floats, integers):
            layer.weight.view(-1)[2] = float("nan")
    assert same(integers(x), floats(x))
    assert integers(x).isnan().all()


def same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.nan_to_num(7), b.nan_to_num(7)) and torch.equal(a.isnan(), b.isnan())


def test_a_second_derivative_is_an_error() -> None:
    _, layer, x = twins("conv2d", paper())
    y = layer(x.requires_grad_()).relu_()  # in place, on what no other has
    (of_x,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        of_x.sum().backward()


def test_copies_and_pickles_and_generators() -> None:
    gradient = GradientDoReFa(6, generator=torch.Generator().manual_seed(5))
    floats, integers, x = twins("conv2d", paper())
    buffer = io.BytesIO()
    torch.save(integers, buffer)
    buffer.seek(0)
    again = torch.load(buffer, weights_only=False)
    assert again.kernels == "integer"
    found = []
    for layer in (floats, again):
        assert gradient.generator is not None
        gradient.generator.manual_seed(5)
        layer.gradient_quantization = gradient
        found.append(numbers(layer, x)["x"])
    assert torch.equal(*found)


def test_small_calls_without_gradients_are_left_to_floats() -> None:
    layer = QLinear(64, 64, **paper())
    with torch.no_grad():
        assert integer_kernels.call_ways(layer, torch.rand(1023, 64)) == "floats are faster for so few products"
        assert isinstance(integer_kernels.call_ways(layer, torch.rand(1024, 64)), integer_kernels.Ways)
        layer.kernels = "integer"
        assert isinstance(integer_kernels.call_ways(layer, torch.rand(1, 64)), integer_kernels.Ways)
    layer.kernels = "auto"
    assert isinstance(integer_kernels.call_ways(layer, torch.rand(1, 64)), integer_kernels.Ways)


def test_autocast_stays_outside() -> None:
    floats, integers, x = twins("conv2d", paper())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(integers(x.bfloat16()), floats(x.bfloat16()))
        assert integers(x.bfloat16()).dtype == torch.float32


def test_hooks_see_the_quantizers() -> None:
    floats, layer, x = twins("conv2d", paper())
    seen: list[Tensor] = []
    layer.kernels = "auto"
    layer.input_quantization.register_forward_hook(lambda module, inputs, y: seen.append(y))
    assert torch.equal(layer(x), floats(x))
    assert len(seen) == 1


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer_kernels, "_machine_obstacle", lambda: "this CPU lacks avx512vnni")


def test_a_machine_without_the_kernels(without_kernels: None) -> None:
    floats, integers, x = twins("conv2d", paper())
    with pytest.raises(ValueError, match='this CPU lacks avx512vnni; kernels="auto" computes the same numbers'):
        integers(x)
    integers.kernels = "auto"
    for name, number in numbers(floats, x).items():
        assert torch.equal(numbers(integers, x)[name], number)
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 6))
    table = str(quantize_(net, LowBitConfig(1, 2, 6)))
    assert table.splitlines()[-2] == "trains on floats: 1 (this CPU lacks avx512vnni)"
    ability = doctor_report()["abilities"]["integer steps"]
    assert ability == {"available": False, "hint": "this CPU lacks avx512vnni; floats are taken, for the same numbers"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda **q: QConv3d(2, 3, 2, **q), "no kernels for three dimensions"),
        (lambda **q: QConv2d(64, 8, 3, groups=4, **q), "floats are faster for groups of 2 channels; 16 would do"),
        (lambda **q: QConv2d(4, 4, 3, dilation=2, **q), r"no kernels for a dilation, and it has \(2, 2\)"),
        (lambda **q: QConvTranspose2d(4, 4, 3, **q), "no kernels for QConvTranspose2d"),
        (lambda **q: QLinear(4, 4, exact=False, **q), "it multiplies values, not codes"),
        (lambda **q: QLinear(4, 4, **(q | {"gradient_quantization": GradientLUQ(4)})), "the codes of GradientLUQ"),
        (lambda **q: QLinear(4, 4, **(q | {"input_quantization": bitorch.quantizations.Identity()})), "values"),
    ],
)
def test_what_stands_in_the_way(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**paper(), kernels="integer")
    layer = make(**paper())
    assert layer.kernels == "auto"
    with pytest.raises(ValueError, match=message):
        layer.kernels = "integer"
    assert layer.kernels == "auto"


def test_a_choice_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="kernels must be one of 'auto', 'float', 'integer', got 'bits'"):
        QLinear(2, 3, kernels="bits")  # type: ignore[arg-type]  # which is the mistake
    with pytest.raises(ValueError, match="kernels must be one of 'auto', 'float', 'integer', got None"):
        LowBitConfig(1, 2, kernels=None)  # type: ignore[arg-type]  # which is the mistake


def test_quantize_says_what_trains_on_what() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, dilation=2), nn.Flatten(), nn.Linear(8, 2)
    )
    with pytest.raises(ValueError, match="layer '2': kernels=\"integer\": this QConv2d cannot compute on integers, as"):
        quantize_(copy.deepcopy(net), LowBitConfig(1, 2, 6, kernels="integer"))
    table = quantize_(net, LowBitConfig(1, 2, 6))
    assert str(table).splitlines()[-3:-1] == [
        "trains on integers: 1",
        "trains on floats: 2 (there are no kernels for a dilation, and it has (2, 2))",
    ]
    assert [row.kernels is None for row in table.layers] == [True, False, False, True]
    quantize_(net, LowBitConfig(1, 2, 6))
    with pytest.raises(ValueError, match="or `kernels` than the config asks for"):
        quantize_(net, LowBitConfig(1, 2, 6, kernels="float"))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled() -> None:
    floats, integers, x = twins("conv2d", paper())
    expected = numbers(floats, x)
    torch._dynamo.reset()
    compiled = torch.compile(integers, backend="aot_eager", fullgraph=True)
    leaf = x.clone().requires_grad_()
    y = compiled(leaf)
    assert torch.equal(y, expected["y"])
    assert y.stride() == expected["y"].stride()
    y.sum().backward()
    assert leaf.grad is not None
