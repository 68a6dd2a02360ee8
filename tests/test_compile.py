"""torch.compile and torch.export compute what eager mode computes: one graph, the same values, the same gradients."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
import torch._inductor.config
from torch import Tensor, nn

from bitorch import LowBitConfig, calibrate, quantize_
from bitorch.layers import QActivation, QConv1d, QConv2d, QConv2d_NoAct, QConv3d, QConvTranspose2d, QLinear, RPReLU
from bitorch.quantizations import (
    ApproxSign,
    GradientDoReFa,
    GradientLUQ,
    GradientQuantization,
    GradientSigned,
    Identity,
    InputCalibrated,
    InputDoReFa,
    InputLSQ,
    InputPACT,
    ProgressiveSign,
    RangeQuantization,
    RSign,
    Sign,
    SteHeaviside,
    SwishSign,
    WeightAbsMean,
    WeightDoReFa,
    WeightLSQ,
    WeightSEQ,
    WeightTTQ,
    WeightTWN,
)

pytestmark = [
    # While it traces an autograd.Function, torch._dynamo makes an instance of it, against which autograd warns.
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    # The first import of torch._inductor imports TorchScript code of PyTorch's own, which warns of itself.
    pytest.mark.filterwarnings(r"ignore:.torch\.jit\.\w+. is deprecated:DeprecationWarning"),
]

#: Each compilation costs seconds, so one graph holds as much as it can.
slow = pytest.mark.slow


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    """Forget what other tests compiled, and let compiled code draw the random numbers that eager code draws."""
    torch._dynamo.reset()
    with torch._inductor.config.patch(fallback_random=True):
        yield
    torch._dynamo.reset()


class Side(nn.Module):
    """Several modules side by side, each with an input of its own."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        return [part(x) for part, x in zip(self.parts, inputs, strict=True)]


def run(
    call: Callable[[list[Tensor]], list[Tensor]], module: nn.Module, inputs: list[Tensor]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return values, gradients of the inputs, gradients of the parameters."""
    module.zero_grad()
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    torch.manual_seed(5)
    outputs = call(leaves)
    generator = torch.Generator().manual_seed(6)
    torch.autograd.backward(outputs, [torch.randn(y.shape, generator=generator).to(y.dtype) for y in outputs])
    return (
        [y.detach() for y in outputs],
        [leaf.grad for leaf in leaves if leaf.grad is not None],
        [p.grad.clone() for p in module.parameters() if p.grad is not None],
    )


def named(part: nn.Module) -> Callable[[str], str]:
    """Put a module's name in front of assert_close's message."""
    return lambda message: f"{part}: {message}"


def quantizers() -> list[nn.Module]:
    return [
        Sign(),
        ApproxSign(),
        SwishSign(),
        SteHeaviside(),
        ProgressiveSign(),
        ProgressiveSign().eval(),
        Identity(),
        QActivation(Sign(), 1.0),
        *(InputDoReFa(bits, variant=variant) for bits in (1, 3, 32) for variant in ("bitorch", "paper")),
        *(WeightDoReFa(bits, variant=variant) for bits in (1, 3, 32) for variant in ("bitorch", "paper")),
        GradientDoReFa(1, noise=False),
        GradientDoReFa(4, noise=False),
        GradientDoReFa(32),
        GradientSigned(4, noise=False),
        GradientLUQ(4, noise=False),
        GradientLUQ(3, noise=False, range="tensor"),
    ]


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=slow)])
def test_quantizers(backend: str) -> None:
    side = Side(quantizers())
    generator = torch.Generator().manual_seed(7)
    inputs = [torch.randn(4, 37, generator=generator) for _ in side.parts]
    for x in inputs:
        x[0, :5] = torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-40])
    eager = run(side, side, inputs)
    compiled = run(torch.compile(side, fullgraph=True, backend=backend), side, inputs)
    for part, value, expected in zip(side.parts, compiled[0], eager[0], strict=True):
        torch.testing.assert_close(value, expected, rtol=0, atol=0, msg=named(part))
    exact = backend == "aot_eager"
    for part, gradient, expected in zip(side.parts, compiled[1], eager[1], strict=True):
        torch.testing.assert_close(
            gradient,
            expected,
            rtol=0 if exact else 1e-5,
            atol=0 if exact else 1e-6,
            msg=named(part),
        )


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_methods_with_parameters(backend: str, dynamic: bool) -> None:
    generator = torch.Generator().manual_seed(7)
    inputs = [torch.randn(4, 37, generator=generator) for _ in range(6)]
    ternary, rsign, rprelu = WeightTTQ(), RSign(37, 0), RPReLU(37)
    ternary.initialize_(inputs[3])
    rsign.shift.data.normal_(generator=generator)
    rprelu.shift_in.data.normal_(generator=generator)
    side = Side([WeightTWN(), WeightTWN(per_channel=True), WeightAbsMean(), ternary, rsign, rprelu])
    eager = run(side, side, inputs)
    compiled = run(torch.compile(side, fullgraph=True, backend=backend, dynamic=dynamic), side, inputs)
    assert len(eager[2]) == 2 + 1 + 3
    for ours, expected in zip(compiled, eager, strict=True):
        for one, other in zip(ours, expected, strict=True):
            exact = backend == "aot_eager"
            torch.testing.assert_close(one, other, rtol=0 if exact else 1e-5, atol=0 if exact else 1e-5)


def quantizers_with_ranges() -> list[nn.Module]:
    """Each kind, unsigned and with a zero point, and weights with one step and with one for each channel."""
    parts: list[RangeQuantization] = [
        *(InputCalibrated(bits) for bits in (1, 3, 3, 32)),
        *(InputPACT(bits) for bits in (1, 3, 3, 32)),
        *(InputLSQ(bits) for bits in (1, 3, 3, 32)),
        *(InputLSQ(bits, offset=True) for bits in (1, 3, 3, 32)),
    ]
    for index, part in enumerate(parts):
        part.fit_(torch.linspace(-0.8 if index % 4 == 1 else 0.0, 1, 50))
    weights = [WeightLSQ(bits, channels) for bits in (1, 3, 32) for channels in (None, 4)] + [WeightSEQ(2, 4)]
    for weight in weights:
        weight.initialize_(torch.linspace(-1, 1, 40).view(4, 10))
    return [*parts, *weights, *(WeightDoReFa(bits, variant="paper", per_channel=True) for bits in (1, 3))]


#: One of each kind, with a zero point where it has one.
ONE_OF_EACH = slice(1, None, 4)


@pytest.mark.parametrize(
    ("backend", "dynamic", "which"),
    [
        ("aot_eager", False, slice(None)),
        ("aot_eager", True, ONE_OF_EACH),
        pytest.param("inductor", False, ONE_OF_EACH, marks=slow),
        pytest.param("inductor", True, slice(None), marks=slow),
    ],
    ids=str,
)
def test_quantizers_with_ranges(backend: str, dynamic: bool, which: slice) -> None:
    side = Side(quantizers_with_ranges()[which])
    generator = torch.Generator().manual_seed(7)
    inputs = [torch.randn(4, 37, generator=generator) for _ in side.parts]
    for x in inputs:
        x[0, :5] = torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-40])
    eager = run(side, side, inputs)
    compiled = run(torch.compile(side, fullgraph=True, backend=backend, dynamic=dynamic), side, inputs)
    exact = backend == "aot_eager"
    for index in (0, 1):
        for part, ours, expected in zip(side.parts, compiled[index], eager[index], strict=True):
            # Inductor sums the mean behind the scale of 1-bit weights in an order of its own.
            rtol = 0 if exact or (index == 0 and not isinstance(part, WeightDoReFa)) else 1e-6
            torch.testing.assert_close(ours, expected, rtol=rtol, atol=0 if rtol == 0 else 1e-6, msg=named(part))
    assert len(eager[2]) == sum(part.bit_width != 32 for part in side.parts for _ in part.parameters())
    for ours, expected in zip(compiled[2], eager[2], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)  # sums, in an order of their own


class Converted(nn.Module):
    """Two low-bit layers."""

    def __init__(self, config: LowBitConfig) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(48, 2))
        quantize_(self.body, config)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return y


def converted() -> list[nn.Module]:
    """Every choice of range with every choice of weights."""
    torch.manual_seed(11)
    ranges: list[dict[str, Any]] = [
        {"range": "unit"},
        {"range": "calibrated"},
        *({"range": "learned", "learned_by": by} for by in ("lsq", "lsq+", "pact")),
    ]
    weights: list[dict[str, Any]] = [
        {"weights": "dorefa"},
        {"weights": "lsq", "weight_scale": "channel"},
        {"weights": "twn", "weight_scale": "channel"},
        {"weights": "absmean"},
        {"weights": "seq"},
        {"weights": "ttq"},
        {"weights": "lsq"},
        {"weights": "dorefa", "weight_scale": "channel", "weight_bits": 1},
        {"weights": "twn"},
    ]
    common: dict[str, Any] = {"weight_bits": 2, "activation_bits": 2, "first": "same", "last": "same"}
    nets = [Converted(LowBitConfig(**common | one | other)) for one, other in itertools.product(ranges, weights)]
    for net in nets:
        if any(isinstance(module, RangeQuantization) for module in net.modules()):
            calibrate(net, [torch.randn(8, 2, 4, 4)])
    return list(nets)


#: Nets that between them have every range and every kind of weight.
SOME = slice(0, None, 5)


@pytest.mark.parametrize(
    ("backend", "which"),
    [
        ("aot_eager", SOME),
        pytest.param("aot_eager", slice(None), marks=slow),
        pytest.param("inductor", SOME, marks=slow),
    ],
    ids=["aot_eager, some", "aot_eager", "inductor, some"],
)
def test_every_range_with_every_kind_of_weight(backend: str, which: slice) -> None:
    side = Side(converted()[which])
    inputs = [torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(12)) for _ in side.parts]
    eager = run(side, side, inputs)
    compiled = run(torch.compile(side, fullgraph=True, backend=backend), side, inputs)
    assert len(eager[2]) == len(list(side.parameters()))  # each has a gradient
    for index, rtol in enumerate((0 if backend == "aot_eager" else 1e-6, 1e-5, 1e-5)):
        for ours, expected in zip(compiled[index], eager[index], strict=True):
            torch.testing.assert_close(ours, expected, rtol=rtol, atol=1e-5 if index else 0)


@pytest.mark.parametrize(
    ("backend", "quantizer"),
    [
        ("aot_eager", GradientDoReFa(3)),
        ("aot_eager", GradientSigned(3)),
        ("aot_eager", GradientLUQ(4)),
        pytest.param("inductor", GradientDoReFa(3), marks=pytest.mark.slow),
        pytest.param("inductor", GradientSigned(3), marks=pytest.mark.slow),
        pytest.param("inductor", GradientLUQ(4), marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_gradient_noise(backend: str, quantizer: GradientQuantization) -> None:
    """The same seed gives the same noise, one quantizer to a graph, so that the order of draws is no question."""
    side = Side([quantizer])
    g = [torch.randn(3, 2, 5, 5)]
    eager = run(side, side, g)
    compiled = run(torch.compile(side, fullgraph=True, backend=backend), side, g)
    assert torch.equal(compiled[0][0], eager[0][0])
    torch.testing.assert_close(compiled[1][0], eager[1][0], rtol=1e-6, atol=0)
    assert not torch.equal(eager[1][0], run(side, side, [torch.zeros_like(g[0])])[1][0] * 2)


def bits(weight: int, activation: int, gradient: int | None = None, **more: Any) -> dict[str, Any]:
    return {
        "weight_quantization": WeightDoReFa(weight, variant="paper"),
        "input_quantization": InputDoReFa(activation, variant="paper"),
        "gradient_quantization": None if gradient is None else GradientDoReFa(gradient, noise=False),
        "gradient_cancellation_threshold": 0.0,
        **more,
    }


def layers() -> tuple[list[nn.Module], list[Tensor]]:
    """Each kind of layer, and an input for each; first the one quantizer that draws noise."""
    torch.manual_seed(8)
    pairs: list[tuple[nn.Module, tuple[int, ...]]] = [
        (GradientDoReFa(3), (3, 2, 5, 5)),
        (QLinear(12, 5, **bits(1, 2, 6)), (3, 12)),
        (QLinear(300, 4, **bits(8, 8)), (3, 300)),  # its sums need digits
        (QConvTranspose2d(4, 6, 3, 2, groups=2, **bits(2, 2, 6)), (2, 4, 5, 5)),
        (QConv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=True, **bits(2, 2, 6)), (2, 4, 7, 7)),
        (QLinear(12, 5), (3, 12)),
        (QConv1d(4, 6, 3, padding=1, **bits(1, 2, 4)), (2, 4, 9)),
        (QConv2d(4, 6, 3, padding="same", pad_value=1.0, **bits(3, 3)), (2, 4, 7, 7)),
        (QConv2d(4, 6, 3, padding=1, padding_mode="circular", **bits(1, 1)), (2, 4, 7, 7)),
        (QConv3d(2, 3, 2, padding=1, **bits(2, 4)), (2, 2, 4, 4, 4)),
        (QConv2d(4, 6, 3, padding=1, exact=False, **bits(2, 2)), (2, 4, 7, 7)),
        (QConv2d_NoAct(4, 6, 3, padding=1), (2, 4, 7, 7)),
    ]
    return [layer for layer, _ in pairs], [torch.rand(shape) * 2 - 0.5 for _, shape in pairs]


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_layers(backend: str) -> None:
    modules, inputs = layers()
    side = Side(modules)
    eager = run(side, side, inputs)
    compiled = run(torch.compile(side, fullgraph=True, backend=backend), side, inputs)
    for part, value, expected in zip(side.parts, compiled[0], eager[0], strict=True):
        if getattr(part, "exact", False):
            # Inductor sums the mean behind the scale of 1-bit weights in an order of its own.
            weight = part.weight_quantization
            has_mean = backend == "inductor" and isinstance(weight, WeightDoReFa) and weight.bit_width == 1
            torch.testing.assert_close(value, expected, rtol=1e-6 if has_mean else 0, atol=0, msg=named(part))
        else:
            torch.testing.assert_close(value, expected, msg=named(part))
    for compiled_gradients, eager_gradients in zip(compiled[1:], eager[1:], strict=True):
        for gradient, expected in zip(compiled_gradients, eager_gradients, strict=True):
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_values_of_ones_own() -> None:
    """What replaces a quantizer's method, before compiling or later, is in force in compiled layers too."""

    class Own(Sign):
        name = "own"

        def quantize(self, x: Tensor) -> Tensor:
            return x * 2 + 0.3

    x = torch.randn(5, 4)
    layer = QLinear(4, 3, input_quantization=Own(), weight_quantization=Sign())
    assert torch.equal(torch.compile(layer, fullgraph=True, backend="eager")(x), layer(x))
    plain = QLinear(4, 3, input_quantization=Sign(), weight_quantization=Sign())
    compiled = torch.compile(plain, fullgraph=True, backend="eager")
    before = plain(x)
    assert torch.equal(compiled(x), before)
    plain.input_quantization.quantize = lambda x: x * 2 + 0.3  # type: ignore[method-assign]
    assert not torch.equal(plain(x), before)
    assert torch.equal(compiled(x), plain(x))
    del plain.input_quantization.quantize
    assert torch.equal(compiled(x), before)


def low_bit_net() -> nn.Sequential:
    torch.manual_seed(9)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 16),
        nn.Linear(16, 4),
    )
    quantize_(net, LowBitConfig(1, 2, 6, gradient_noise=False))
    return net


def test_any_batch_size_in_one_graph() -> None:
    """Compiled for a dynamic batch, other sizes need no second graph."""
    net = low_bit_net()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager", dynamic=True)
    counters = torch._dynamo.utils.counters["stats"]
    graphs = None
    for batch in (4, 2, 7):
        x = torch.rand(batch, 3, 8, 8)
        results = []
        for call in (net, compiled):
            net.zero_grad()
            leaf = x.clone().requires_grad_()
            y = call(leaf)
            y.square().sum().backward()
            results.append([y.detach(), leaf.grad, *(p.grad for p in net.parameters())])
        for ours, expected in zip(*results, strict=True):
            torch.testing.assert_close(ours, expected)
        graphs = counters["unique_graphs"] if graphs is None else graphs
        assert counters["unique_graphs"] == graphs


def test_autocast() -> None:
    net = low_bit_net().eval()
    x = torch.rand(2, 3, 8, 8)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(compiled(x), net(x))


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])
def test_export(strict: bool) -> None:
    net = low_bit_net().eval()
    x = torch.rand(3, 3, 8, 8)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(net, (x,), dynamic_shapes=({0: batch},), strict=strict)
    for size in (3, 1, 8):
        x = torch.rand(size, 3, 8, 8)
        assert torch.equal(program.module()(x), net(x))
