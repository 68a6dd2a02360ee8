"""Pact, PadModule and the layers that show what passes: BITorch's numbers, and what deploying makes of them."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch.layers import (
    InputGraphicalDebug,
    InputPrintDebug,
    Pact,
    PadModule,
    QActivation,
    QConv2d,
    QLinear,
    ShapePrintDebug,
    WeightGraphicalDebug,
    WeightPrintDebug,
)
from bitorch.layers.config import config
from bitorch.layers.pact import PactActFn
from bitorch.layers.qactivation import GradientCancellation
from bitorch.quantizations import InputDoReFa, Sign, WeightDoReFa

mpl.use("agg")

X = [-2, -1, -0.6, -0.25, 0, 0.1, 0.25, 0.5, 0.75, 1, 3]
ONE = torch.tensor(1.0)


def rounded(x: Tensor) -> list[float]:
    return [round(number, 5) + 0.0 for number in x.tolist()]


# Pact


def test_measured_vector_of_pact() -> None:
    layer = Pact(3)
    layer.alpha.data.fill_(1.0)
    x = torch.tensor(X, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert rounded(y) == [0, 0, 0, 0, 0, 0.14286, 0.28571, 0.57143, 0.71429, 1, 1]
    assert x.grad is not None
    assert layer.alpha.grad is not None
    assert x.grad.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0]
    assert layer.alpha.grad == 2


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32])
def test_order_of_operations_of_pact(bits: int) -> None:
    layer, x = Pact(bits), torch.randn(2, 3, 7, 7) * 10
    assert layer.alpha == 10
    g = torch.randn(x.shape)
    leaf = x.clone().requires_grad_()
    y = layer(leaf)
    y.backward(g)
    clamped = torch.clamp(x, 0, 10.0)
    scale = (2**bits - 1) / layer.alpha.detach()
    assert torch.equal(y, torch.round(clamped * scale) / scale)
    assert leaf.grad is not None
    assert layer.alpha.grad is not None
    assert torch.equal(leaf.grad, g * ((x >= 0) & (x <= 10)))
    torch.testing.assert_close(layer.alpha.grad, g[x >= 10].sum())


def test_bits_of_pact() -> None:
    assert Pact().bits == config.pact_bits == 4
    assert repr(Pact(2)) == "Pact(bits=2)"
    assert Pact(2)(torch.rand(3, dtype=torch.bfloat16)).dtype == torch.bfloat16
    function: Any = PactActFn
    assert torch.equal(function.apply(ONE * 4, ONE * 2, 2), ONE * 2)
    with pytest.raises(ValueError, match="bits must be from 1 to 32, got 0"):
        Pact(0)
    with pytest.raises(TypeError, match=r"bits must be an int from 1 to 32, got 2\.5"):
        Pact(2.5)  # type: ignore[arg-type]


def test_default_bits_are_read_when_pact_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    early = Pact()
    monkeypatch.setattr(config, "pact_bits", 2)
    assert (early.bits, Pact().bits) == (4, 2)


def test_alpha_of_a_checkpoint_with_an_axis_loads() -> None:
    layer = Pact(2)
    layer.load_state_dict({"alpha": torch.tensor([3.0])})
    assert layer.alpha == 3


def packed_like(model: nn.Module, x: Tensor) -> Any:
    packed: Any = bitorch.deploy(model.eval(), x)
    batch = torch.cat([x, 3 * x, torch.randn(x.shape), torch.zeros_like(x)])
    with torch.no_grad():
        assert torch.equal(packed(batch), model(batch))
    assert bitorch.verify(model, packed, batch)
    return packed


@pytest.mark.parametrize("alpha", [10.0, 0.7, 0.1])
def test_pact_deploys(alpha: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), Pact(3), QConv2d(4, 6, 3, input_quantization=InputDoReFa(2)), nn.Flatten(), Pact(2)
    )
    for layer in net.modules():
        if isinstance(layer, Pact):
            layer.alpha.data.fill_(alpha)
    packed_like(net, torch.randn(3, 1, 7, 7) * 4)


def test_pact_of_tokens_deploys() -> None:
    net = nn.Sequential(nn.Linear(8, 8), Pact(4), QLinear(8, 5))
    packed_like(net, torch.randn(2, 3, 8) * 10)


def test_pact_that_cannot_be_deployed_says_why() -> None:
    net, x = nn.Sequential(Pact(16), QLinear(4, 3)).eval(), torch.randn(2, 4)
    assert "it has 16 bits, and codes have at most 8" in str(bitorch.can_deploy(net, x))
    assert bitorch.deploy(net, x, partial=True)
    pact = net[0] = Pact(2).eval()
    pact.alpha.data.fill_(-1.0)
    assert "its alpha is -1, which leaves no range. Set it above 0" in str(bitorch.can_deploy(net, x))


def test_a_pact_with_another_forward_is_not_taken_for_one() -> None:
    class Shifted(Pact):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

    packed_like(nn.Sequential(Shifted(2), QLinear(4, 3)), torch.randn(2, 4))


# QActivation, whose parts BITorch's code uses by name


def test_measured_vector_of_the_activation() -> None:
    layer = QActivation("inputdorefa", 0.5)
    x = torch.tensor(X, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1]
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0]


def test_gradient_cancellation_by_itself() -> None:
    function: Any = GradientCancellation
    x = torch.tensor(X, requires_grad=True)
    y = function.apply(x, 0.5)
    assert torch.equal(y, x)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0]


# PadModule


@pytest.mark.parametrize("sides", [(0, 0, 0, 0), (1, 2, 3, 4), (0, 1, 0, 1), (-1, 0, 2, 0)])
@pytest.mark.parametrize("value", [0, -1, 2.5])
def test_padding(sides: tuple[int, int, int, int], value: float) -> None:
    x = torch.randn(2, 3, 5, 6)
    layer = PadModule(*sides, value)
    assert torch.equal(layer(x), F.pad(x, sides, "constant", value))
    assert (layer.padding_tensor, layer.padding_value) == (sides, value)
    assert repr(layer).startswith(f"PadModule(left={sides[0]}, right={sides[1]}, top={sides[2]}, bottom={sides[3]}")


def test_padding_by_keywords() -> None:
    layer = PadModule(padding_left=1, padding_bottom=2, padding_value=3)
    assert layer(torch.zeros(1, 1)).tolist() == [[3, 0], [3, 3], [3, 3]]


@pytest.mark.parametrize("value", [0, -1])
def test_padding_deploys(value: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), PadModule(0, 1, 2, 1, value), QConv2d(4, 6, 3), PadModule(1, 1, 0, 0))
    packed_like(net, torch.randn(2, 1, 7, 7))


# Layers that show


@pytest.fixture(autouse=True)
def debugging() -> Iterator[None]:
    config.debug_activated = True
    yield
    config.debug_activated = False


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_input_print(capsys: pytest.CaptureFixture[str]) -> None:
    layer, x = InputPrintDebug(debug_interval=3, num_outputs=2, name="here"), torch.tensor([[1.0, -2.0, 3.0]])
    for _ in range(7):
        assert layer(x) is x
    assert lines(capsys) == ["here: [1.0, -2.0]"] * 3  # the first, fourth and seventh
    assert (InputPrintDebug().debug_interval, InputPrintDebug().num_outputs, InputPrintDebug().name) == (
        100,
        10,
        "Debug",
    )


def test_shape_print(capsys: pytest.CaptureFixture[str]) -> None:
    x = torch.zeros(2, 3, 4, dtype=torch.int32)
    assert ShapePrintDebug(debug_interval=1)(x) is x
    assert lines(capsys) == ["Debug: [2, 3, 4]"]


def test_nothing_is_shown_while_it_is_off(capsys: pytest.CaptureFixture[str]) -> None:
    config.debug_activated = False
    x = torch.randn(3, 4)
    layers = [InputPrintDebug(1), ShapePrintDebug(1), InputGraphicalDebug(), WeightGraphicalDebug(nn.Linear(4, 2))]
    for layer in layers:
        layer(x)
    assert lines(capsys) == []
    config.debug_activated = True  # read at every forward
    layers[1](x)
    assert lines(capsys) == ["Debug: [3, 4]"]


def test_weight_print(capsys: pytest.CaptureFixture[str]) -> None:
    """Float weights as they are; low-bit ones, and those of a module with `quantize`, as they are quantized."""

    class Halved(nn.Linear):
        def quantize(self, weight: Tensor) -> Tensor:
            return weight / 2

    x = torch.randn(5, 2)
    for module in (nn.Linear(2, 1), Halved(2, 1), QLinear(2, 1, weight_quantization=WeightDoReFa(2))):
        with torch.no_grad():
            module.weight.copy_(torch.tensor([[1.0, -0.25]]))
        assert torch.equal(WeightPrintDebug(module, 1, 2, "w")(x), module(x))
    third = torch.tensor(1 / 3).item()
    assert lines(capsys) == ["w: [1.0, -0.25]", "w: [0.5, -0.125]", f"w: [1.0, {-third}]"]
    with pytest.raises(TypeError, match=r"module must be a module with a weight, such as a QLinear, got ReLU\(\)"):
        WeightPrintDebug(nn.ReLU())


def test_shown_weights_keep_gradients_and_names() -> None:
    layer = WeightPrintDebug(QLinear(3, 2), 1, 1)
    layer(torch.randn(4, 3)).sum().backward()
    assert [name for name, p in layer.named_parameters() if p.grad is not None] == ["module.weight", "module.bias"]


class Image:
    def __init__(self) -> None:
        self.data: list[Any] = []

    def set_data(self, data: Any) -> None:
        self.data.append(data)


class Canvas:
    def __init__(self) -> None:
        self.canvas, self.drawn = self, 0

    def draw(self) -> None:
        self.drawn += 1


def test_drawing_inputs() -> None:
    figure, images = Canvas(), [Image(), Image()]
    layer: Any = InputGraphicalDebug(figure, images, debug_interval=2, num_outputs=2)  # type: ignore[arg-type]
    x = torch.randn(3, 4, 5, 6)
    for _ in range(3):
        assert layer(x) is x
    assert figure.drawn == 2
    for index, image in enumerate(images):
        expected = (x[0, index] - x[0, index].min()) / (x[0, index].max() - x[0, index].min())
        assert len(image.data) == 2
        torch.testing.assert_close(torch.from_numpy(image.data[0]), expected)


@pytest.mark.parametrize("shape", [(), (4,), (3, 4), (2, 3, 4), (1, 1, 1, 3, 4)])
def test_drawing_any_shape(shape: tuple[int, ...]) -> None:
    image, images = Image(), [Image(), Image(), Image()]
    images[0] = image
    layer: Any = InputGraphicalDebug(Canvas(), images, 1, 3)  # type: ignore[arg-type]
    layer(torch.full(shape, 7.0))
    assert image.data[0].shape == tuple(torch.atleast_2d(torch.zeros(shape)).shape[-2:])
    assert (image.data[0] == 0).all()  # one number alone has no range
    assert len(images[1].data) == (1 if shape == (2, 3, 4) else 0)


def test_drawing_weights() -> None:
    figure, images = Canvas(), [Image()]
    layer: Any = WeightGraphicalDebug(QConv2d(1, 2, 3), figure, images, 1, 1)  # type: ignore[arg-type]
    x = torch.randn(1, 1, 5, 5)
    assert torch.equal(layer(x), layer.module(x))
    assert torch.equal(torch.from_numpy(images[0].data[0]), (Sign()(layer.module.weight[0, 0]).detach() + 1) / 2)


def test_drawing_needs_a_figure_and_as_many_images() -> None:
    layer, x = InputGraphicalDebug(debug_interval=1, num_outputs=2), torch.randn(1, 1, 3, 3)
    with pytest.raises(ValueError, match="InputGraphicalDebug has no figure; set them, or call open_figure"):
        layer(x)
    layer.set_figure(Canvas())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="InputGraphicalDebug has no images"):
        layer(x)
    with pytest.raises(ValueError, match="images must be as many as num_outputs, 2, got 1"):
        layer.set_images([Image()])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="images must be as many as num_outputs, 10, got 1"):
        WeightGraphicalDebug(nn.Linear(2, 2), Canvas(), [Image()])  # type: ignore[arg-type,list-item]
    with pytest.raises(ValueError, match="debug_interval must be at least 1, got 0"):
        ShapePrintDebug(0)


def test_a_figure_of_matplotlib() -> None:
    from matplotlib import pyplot

    layer = InputGraphicalDebug(debug_interval=1, num_outputs=2)
    figure = layer.open_figure()
    x = torch.randn(1, 2, 3, 3)
    layer(x)
    assert layer.images is not None
    assert layer.images[1].get_array().max() == 1  # type: ignore[union-attr]
    buffer = io.BytesIO()
    figure.savefig(buffer)
    assert buffer.getvalue().startswith(b"\x89PNG")
    copy.deepcopy(layer)(x)
    pyplot.close(figure)


def test_debugged_nets_deploy_as_they_are_without(capsys: pytest.CaptureFixture[str]) -> None:
    """While debugging is on."""
    torch.manual_seed(0)
    conv, linear = QConv2d(2, 3, 3), QLinear(27, 4)
    graphical: Any = InputGraphicalDebug(Canvas(), [Image()], 1, 1)  # type: ignore[arg-type,list-item]
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3),
        InputPrintDebug(1),
        WeightPrintDebug(conv, 1),
        ShapePrintDebug(1),
        nn.Flatten(),
        graphical,
        WeightPrintDebug(linear, 1),
    )
    plain = nn.Sequential(net[0], conv, nn.Flatten(), linear)
    x = torch.randn(2, 1, 7, 7)
    packed, without = packed_like(net, x), packed_like(plain, x)
    assert [one["op"] for one in packed.operations()] == [one["op"] for one in without.operations()]
    assert "Debug: [2, 3, 3, 3]" in lines(capsys)
    with torch.no_grad():
        assert torch.equal(bitorch.deploy(net, x, partial=True)(x), net(x))
