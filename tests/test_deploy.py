"""Deployment: random nets, the zoo and special cases, each equal to its packed program in every tensor."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

import bitorch
import bitorch_runtime
from bitorch import DeploymentError, can_deploy, deploy, verify
from bitorch.deployment.capture.capture import Capture, capture
from bitorch.deployment.graph.graph import Graph, Node
from bitorch.deployment.runtime import walk
from bitorch.deployment.runtime.all_tensors import all_tensors
from bitorch.deployment.runtime.compile import compile_graph
from bitorch.deployment.runtime.fold_tables import fold_tables
from bitorch.deployment.runtime.fuse_stages import group
from bitorch.deployment.runtime.fuse_thresholds import reach
from bitorch.deployment.runtime.verification import Verification, compare, verify_batches
from bitorch.layers import QConv1d, QConv2d, QLinear
from bitorch.models import LeNet8, LeNet28, ResNet20, SVHNNet
from bitorch.quantizations import InputDoReFa, Quantization, Sign, SteHeaviside, WeightDoReFa
from random_nets import RandomGraph, RandomNet, SignalNet

ORDINARY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def inputs_of(net: RandomNet, batch: int = 3) -> Tensor:
    return torch.rand(batch, net.in_channels, net.image_size, net.image_size)


@ORDINARY
@given(seed=st.integers(0, 2**32 - 1), pixels=st.booleans())
def test_random_nets_are_equal_in_every_tensor(seed: int, pixels: bool) -> None:
    net = RandomNet(seed)
    x = inputs_of(net)
    packed = deploy(net, x, pixels=pixels)  # verifies
    given_x = torch.randint(0, 256, x.shape, dtype=torch.uint8) if pixels else torch.randn_like(x)
    verification = verify(net, packed, given_x)
    assert verification, str(verification)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1), pixels=st.booleans())
def test_many_random_nets_are_equal_in_every_tensor(seed: int, pixels: bool) -> None:
    net = RandomNet(seed)
    deploy(net, inputs_of(net), pixels=pixels)


@ORDINARY
@given(seed=st.integers(0, 2**32 - 1), pixels=st.booleans())
@example(seed=56712205, pixels=False)  # an output that no input reaches
@example(seed=6308754, pixels=False)  # a float convolution of one pixel, behind a low-bit one
@example(seed=413, pixels=True)  # hardswish and sigmoid of codes: PyTorch's exp differs from place to place
def test_random_graphs_are_equal_in_every_tensor(seed: int, pixels: bool) -> None:
    net = RandomGraph(seed)
    deploy(net, *net.example(2), pixels=pixels)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1), pixels=st.booleans())
def test_many_random_graphs_are_equal_in_every_tensor(seed: int, pixels: bool) -> None:
    net = RandomGraph(seed)
    deploy(net, *net.example(2), pixels=pixels)


def trained(model: nn.Module, shape: tuple[int, ...], config: bitorch.LowBitConfig) -> nn.Module:
    """A quantized model whose batch norms have seen images, with slopes of both signs."""
    torch.manual_seed(1)
    bitorch.quantize_(model, config)
    for norm in model.modules():
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
            norm.momentum = None
            nn.init.normal_(norm.weight, 0.3, 0.4)
            nn.init.normal_(norm.bias, 0.4, 0.2)
    with torch.no_grad():
        model.train()(torch.rand(4, *shape))
    return model.eval()


ZOO: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (LeNet8, (1, 8, 8)),
    (LeNet28, (1, 28, 28)),
    (lambda: SVHNNet("D"), (3, 40, 40)),
    (lambda: ResNet20(width=8), (3, 16, 16)),
]
BITS = [(1, 1), (1, 2), (2, 2), (1, 4), (4, 4), (8, 8)]


def zoo_cases() -> list[Any]:
    """Nets with bits: all of them for the smallest net, and two for each of the others, which have all among them."""
    cases = itertools.product(range(len(ZOO)), enumerate(BITS))
    return [
        pytest.param(net, bits, id=f"{net}-{bits}", marks=() if net in (0, 1 + at % 3) else pytest.mark.slow)
        for net, (at, bits) in cases
    ]


@pytest.mark.parametrize(("net", "bits"), zoo_cases())
@pytest.mark.parametrize("ends", ["float", 8])
def test_the_zoo_is_equal_in_every_tensor(
    net: int, bits: tuple[int, int], ends: bitorch.config.low_bit_config.EndLayer
) -> None:
    build, shape = ZOO[net]
    model = trained(build(), shape, bitorch.LowBitConfig(*bits, first=ends, last=ends))
    packed = deploy(model, torch.rand(2, *shape), pixels=True)
    pixels = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    assert verify(model, packed, pixels)


@pytest.mark.parametrize("bits", [(1, 1), (2, 3), (8, 8)])
def test_signals_of_one_dimension(bits: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = SignalNet(bits).eval()
    packed = deploy(model, torch.rand(1, 2, 41))
    x = torch.rand(3, 2, 41)
    assert verify(model, packed, x)
    result = packed(x)
    assert isinstance(result, Tensor)
    assert result.shape == model(x).shape


def test_a_deployed_model_is_not_changed() -> None:
    model = trained(LeNet8(), (1, 8, 8), bitorch.LowBitConfig(1, 2))
    before = copy.deepcopy(model.state_dict())
    flags = [parameter.requires_grad for parameter in model.parameters()]
    deploy(model, torch.rand(1, 1, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert flags == [parameter.requires_grad for parameter in model.parameters()]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_verification_names_the_first_tensor_that_differs() -> None:
    model = trained(LeNet8(), (1, 8, 8), bitorch.LowBitConfig(1, 2, first=8, last=8))
    packed = deploy(model, torch.rand(1, 1, 8, 8))
    x = torch.rand(4, 1, 8, 8)
    assert verify(model, packed, x)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.get_parameter("layers.3.weight").view(-1)[0].neg_()
    found = verify(changed, packed, x)
    assert not found
    first = found.first_difference
    assert first is not None
    assert first.tensor == "layers.3/sum"
    assert first.different > 0
    assert "layers.3/sum" in str(found)


def test_batches_are_verified_with_one_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained(LeNet8(), (1, 8, 8), bitorch.LowBitConfig(1, 2))
    packed = deploy(model, torch.rand(1, 1, 8, 8))
    x = torch.rand(7, 1, 8, 8)
    expected = verify(model, packed, x)
    calls: list[nn.Module] = []

    def counted(model: nn.Module, *example: Tensor) -> Capture:
        calls.append(model)
        return capture(model, *example)

    monkeypatch.setattr("bitorch.deployment.runtime.same_network.capture", counted)
    found = list(verify_batches(model, packed, ([part] for part in x.split(3))))
    assert calls == [model]
    for index, comparison in enumerate(expected.comparisons):
        parts = [f.comparisons[index].elements for f in found]
        assert parts == [n * comparison.elements // 7 for n in (3, 3, 1)]
    whole = Verification.of_batches(found)
    assert whole
    assert [(c.tensor, c.elements) for c in whole.comparisons] == [(c.tensor, c.elements) for c in expected.comparisons]


def test_one_batch_that_differs_shows_in_the_sum() -> None:
    model = trained(LeNet8(), (1, 8, 8), bitorch.LowBitConfig(1, 2))
    packed = deploy(model, torch.rand(1, 1, 8, 8))
    changed = copy.deepcopy(model)
    with torch.no_grad():
        next(m for m in changed.modules() if isinstance(m, nn.Conv2d)).weight.mul_(1.5)  # black images do not show it
    batches = [torch.zeros(2, 1, 8, 8), torch.rand(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)]
    found = list(verify_batches(changed, packed, ([x] for x in batches)))
    assert [bool(f) for f in found] == [True, False, True]
    whole, (first, second, third) = Verification.of_batches(found), (f.comparisons for f in found)
    assert not whole
    for total, *parts in zip(whole.comparisons, first, second, third, strict=True):
        assert total.different == sum(part.different for part in parts)
        assert total.ok == all(part.ok for part in parts)
    with pytest.raises(ValueError, match="no batch was compared"):
        Verification.of_batches([])
    other = trained(LeNet8(), (1, 8, 8), bitorch.LowBitConfig(2, 2, first=8))
    with pytest.raises(ValueError, match="of several programs"):
        Verification.of_batches([found[0], verify(other, deploy(other, batches[0]), batches[0])])


@pytest.mark.parametrize(
    ("expected", "found", "exact", "different", "ok"),
    [
        ([1.0, math.nan, math.inf], [1.0, math.nan, math.inf], True, 0, True),
        ([1.0, math.nan, math.inf], [1.0, math.nan, math.inf], False, 0, True),
        ([1.0, math.nan], [1.0, 2.0], False, 1, False),
        ([1.0, math.inf], [1.0, 2.0], False, 1, False),
        ([1.0, math.inf], [1.0, -math.inf], False, 1, False),
        ([100.0, 1.0, math.inf], [100.0, 1.001, math.inf], False, 1, True),
        ([100.0, 1.0], [100.0, 1.001], True, 1, False),
        ([100.0, 1.0], [100.0, 1.1], False, 1, False),
        ([0.0], [-0.0], True, 0, True),
        ([], [], True, 0, True),
    ],
)
def test_what_counts_as_a_difference(
    expected: list[float], found: list[float], exact: bool, different: int, ok: bool
) -> None:
    comparison = walk.compared("x", "add", "floats", torch.tensor(expected), torch.tensor(found), exact=exact)
    assert (comparison.elements, comparison.different, comparison.ok) == (len(expected), different, ok)


def test_a_program_of_another_network_is_refused() -> None:
    small = trained(LeNet8(), (1, 8, 8), bitorch.LowBitConfig(1, 2))
    other = trained(LeNet8(), (1, 8, 8), bitorch.LowBitConfig(1, 3))
    packed = deploy(small, torch.rand(1, 1, 8, 8))
    with pytest.raises(ValueError, match="another network"):
        verify(other, packed, torch.rand(1, 1, 8, 8))


def test_pixels_go_straight_into_an_eight_bit_layer() -> None:
    model = trained(LeNet8(), (1, 8, 8), bitorch.LowBitConfig(1, 2, first=8))
    packed = deploy(model, torch.rand(1, 1, 8, 8), pixels=True)
    first, second = packed.operations()[:2]
    assert first["op"] == "input"
    assert second["op"] == "conv2d"
    assert second["inputs"] == [first["outputs"][0]["name"]]


class Normalized(nn.Module):
    """Images are normalised in front of the net."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.tensor([0.45, 0.5, 0.55]).view(1, 3, 1, 1))
        self.std = nn.Buffer(torch.tensor([0.22, 0.3, 0.25]).view(1, 3, 1, 1))
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.net((x - self.mean) / self.std)
        return y


@pytest.mark.parametrize("first", ["float", 8])
@pytest.mark.parametrize("pixels", [False, True])
def test_normalisation_is_kept_exactly(first: bitorch.config.low_bit_config.EndLayer, pixels: bool) -> None:
    net = trained(SVHNNet("D"), (3, 40, 40), bitorch.LowBitConfig(1, 2, first=first))
    model = Normalized(net).eval()
    packed = deploy(model, torch.rand(2, 3, 40, 40), pixels=pixels)
    kinds = [operation["op"] for operation in packed.operations()]
    if pixels:  # one table of 256 numbers for each channel
        assert kinds[1] == ("lookup" if first == 8 else "dequantize")
        assert "affine" not in kinds


def test_two_quantizers_of_one_tensor_are_one() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 8, 3)
            self.left = QConv2d(8, 4, 1, weight_quantization=WeightDoReFa(1), input_quantization=InputDoReFa(2))
            self.right = copy.deepcopy(self.left)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            y: Tensor = self.left(x) + self.right(x)
            return y

    torch.manual_seed(0)
    model = Twice().eval()
    packed = deploy(model, torch.rand(1, 1, 6, 6))
    made = [t["name"] for operation in packed.operations() for t in operation["outputs"] if t["dtype"] == "codes"]
    assert len(made) == 1


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (7, 7), (1, 3), (9, 14)])
def test_adaptive_pools_of_any_size(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = QConv2d(8, 4, 1, weight_quantization=WeightDoReFa(1), input_quantization=InputDoReFa(2))
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(size), layer, nn.Flatten()).eval()
    for side in (6, 9, 11):
        packed = deploy(model, torch.rand(1, 1, side, side))
        assert verify(model, packed, torch.rand(3, 1, side, side))


class Pyramid(nn.Module):
    """Branches of other sizes come back by repeating pixels, and gates of one channel or one pixel are spread."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.small = QConv2d(8, 8, 3, 2, 1, weight_quantization=WeightDoReFa(2), input_quantization=InputDoReFa(2))
        self.large = QConv2d(8, 8, 3, 1, 1, weight_quantization=WeightDoReFa(1), input_quantization=InputDoReFa(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.large(x) + nn.functional.interpolate(self.small(x), scale_factor=2)
        y = y * y[:, 3:4] + y.amax((2, 3), keepdim=True)
        z: Tensor = self.large(y[:, :, ::3, ::2]) - nn.functional.max_pool2d(y, (8, 1), (1, 2))
        return z


def test_pixels_and_channels_are_repeated() -> None:
    torch.manual_seed(0)
    model = Pyramid().eval()
    assert verify(model, deploy(model, torch.rand(1, 1, 8, 10)), torch.randn(5, 1, 8, 10))


def test_adaptive_pools_of_lines() -> None:
    torch.manual_seed(0)
    layer = QConv1d(8, 4, 1, weight_quantization=WeightDoReFa(1), input_quantization=InputDoReFa(2))
    model = nn.Sequential(nn.Conv1d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(5), layer, nn.AdaptiveAvgPool1d(9))
    packed = deploy(model.eval(), torch.rand(1, 1, 13))
    assert [op["op"] for op in packed.operations()].count("adaptive_avg_pool") == 2


def test_sign_layers_pad_with_minus_one() -> None:
    torch.manual_seed(0)
    for pad_value in (None, -1.0, 0.0, 1.0):
        model = nn.Sequential(
            nn.Conv2d(3, 33, 3),
            QConv2d(33, 40, 3, padding=1, pad_value=pad_value, weight_quantization=Sign(), input_quantization=Sign()),
            nn.BatchNorm2d(40),
        ).eval()
        assert deploy(model, torch.rand(2, 3, 7, 7))


def test_a_program_that_differs_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained(LeNet8(), (1, 8, 8), bitorch.LowBitConfig(1, 2, first=8, last=8))
    pack = bitorch_runtime.pack_weights

    def wrong(codes: NDArray[Any], bits: int, grid: str) -> NDArray[np.uint8]:
        codes = codes.copy()
        codes.flat[0] = -codes.flat[0]
        return pack(codes, bits, grid)

    monkeypatch.setattr("bitorch.deployment.runtime.single_operations.pack_weights", wrong)
    with pytest.raises(DeploymentError, match=r"differs first in 'layers\.0/sum'"):
        deploy(model, torch.rand(1, 1, 8, 8))


def test_passes_can_be_printed() -> None:
    model = trained(LeNet8(), (1, 8, 8), bitorch.LowBitConfig(1, 2))
    packed = deploy(model, torch.rand(1, 1, 8, 8))
    names = [name for name, _ in packed.passes]
    assert names[0] == "captured"
    assert names[-1] == "lower"
    assert "fuse_thresholds" in names
    assert all("layers" in text for _, text in packed.passes)


def test_each_pass_keeps_the_numbers() -> None:
    for seed in range(8):
        net = RandomNet(seed)
        x = inputs_of(net)
        expected = net(x)
        for name, graph in compile_graph(capture(net, x).graph).steps:
            assert torch.equal(graph.replay([x])[graph.outputs[0]], expected), name


def test_a_linear_net() -> None:
    torch.manual_seed(0)
    hidden = QLinear(33, 65, weight_quantization=WeightDoReFa(2), input_quantization=InputDoReFa(2))
    model = nn.Sequential(
        nn.Linear(7, 33),
        nn.BatchNorm1d(33),
        nn.ReLU(),
        hidden,
        nn.Dropout(),
        nn.Linear(65, 3),
        nn.Softmax(1),
    ).eval()
    packed = deploy(model, torch.rand(5, 7))
    x = torch.rand(9, 7)
    torch.testing.assert_close(packed(x), model(x))


def test_partial_deployment_gives_a_model() -> None:
    model = trained(LeNet8(), (1, 8, 8), bitorch.LowBitConfig(1, 2))
    x = torch.rand(3, 1, 8, 8)
    deployment = deploy(model, x, partial=True)
    assert torch.equal(deployment.model(x), model(x))
    assert "PackedConv2d" in str(deployment)
    with pytest.raises(ValueError, match="partial=True takes neither"):
        deploy(model, x, partial=True, pixels=True)  # type: ignore[call-overload]


def low_bit(inputs: int, outputs: int, kernel: int = 1, bits: int = 2, **settings: Any) -> QConv2d:
    """A low-bit convolution that keeps the size of images."""
    defaults = {"input_quantization": InputDoReFa(bits), "weight_quantization": WeightDoReFa(1, variant="paper")}
    return QConv2d(inputs, outputs, kernel, padding=kernel // 2, **{**defaults, **settings})


def image(channels: int = 4) -> Tensor:
    return torch.rand(2, channels, 5, 5)


class Function(nn.Module):
    """Layers, and a forward that is told."""

    def __init__(self, forward: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.told = forward
        self.eval()

    def forward(self, x: Tensor) -> Any:
        return self.told(x, *self.layers)


def test_two_sums_that_take_each_others_codes() -> None:
    def crossed(x: Tensor, a: nn.Module, b: nn.Module, c: nn.Module, d: nn.Module) -> tuple[Tensor, Tensor]:
        one, other = a(x), b(x)
        return one + d(other), other + c(one)

    assert deploy(Function(crossed, *(low_bit(4, 4) for _ in range(4))), image())


def test_groups_of_a_deep_graph_are_ordered_without_recursion() -> None:
    def node(name: str, kind: str, *inputs: str) -> Node:
        return Node(name, kind, inputs, (4, 1, 1), lambda x: x)

    depth = 3000
    chain = [node(f"deep{i + 1}", "tanh", f"deep{i}" if i else "x") for i in range(depth)]
    nodes = (node("x", "input"), node("skip", "conv", "x"), *chain, node("sum", "add", "skip", f"deep{depth}"))
    order = [one.anchor.name for one in group(Graph(nodes, ("sum",)))]
    assert order == [*(f"deep{i + 1}" for i in range(depth)), "skip"]


def test_many_tables_are_folded_without_recursion() -> None:
    settings = {"bits": 1, "sign": False, "table": None}
    nodes = [Node("x", "input", (), (1, 1, 1), lambda: torch.zeros(1), {"pixels": True})]
    for i in range(1500):
        nodes.append(Node(f"values{i}", "values", ("x",), (1, 1, 1), lambda x: x, settings))
        nodes.append(Node(f"out{i}", "relu", (f"values{i}",), (1, 1, 1), torch.relu))
    folded = fold_tables(Graph(tuple(nodes), tuple(f"out{i}" for i in range(1500))))
    assert [node.kind for node in folded] == ["input", *["values"] * 1500]


def test_a_uniform_batch_norm_behind_a_choice_of_channels() -> None:
    def chosen(x: Tensor, first: nn.Module, norm: nn.Module, last: nn.Module) -> Any:
        return last(norm(first(x).chunk(2, 1)[1].contiguous()))

    assert deploy(Function(chosen, low_bit(4, 8), nn.BatchNorm2d(4), low_bit(4, 3)), image())


def test_a_batch_norm_of_a_part_of_a_tensor_is_a_problem() -> None:
    def part(x: Tensor, first: nn.Module, norm: nn.Module) -> Any:
        return norm(first(x).chunk(2, 1)[1])

    assert "norm(x.contiguous())" in str(can_deploy(Function(part, low_bit(4, 8), nn.BatchNorm2d(4)), image()))


@pytest.mark.parametrize("bits", [2, 8])
def test_a_clamp_whose_bounds_are_crossed_gives_the_upper_one(bits: int) -> None:
    def crossed(x: Tensor, first: nn.Module, last: nn.Module) -> Any:
        y = first(x).clamp(0.9, 0.4)
        return last(y), y

    assert deploy(Function(crossed, low_bit(4, 4), low_bit(4, 4, bits=bits)), image())


@pytest.mark.parametrize(
    ("what", "forward"),
    [
        ("divides by a constant that is 0", lambda x, conv: conv(conv(x) / 0.0)),
        ("multiplies with a constant that is NaN or inf", lambda x, conv: conv(conv(x) * float("inf"))),
        ("multiplies with a constant that is NaN or inf", lambda x, conv: conv(conv(x) * float("nan"))),
    ],
)
def test_constants_that_make_nan_are_problems(what: str, forward: Callable[..., Any]) -> None:
    assert what in str(can_deploy(Function(forward, low_bit(4, 4)), image()))


def test_a_batch_norm_that_overflows_is_a_problem() -> None:
    norm = nn.BatchNorm2d(4)
    norm.weight.data.fill_(3e38)
    assert norm.running_var is not None
    norm.running_var.fill_(1e-20)
    norm.eps = 0.0
    assert "NaN or infinite" in str(can_deploy(nn.Sequential(low_bit(4, 4), norm).eval(), image()))


class Scaled(InputDoReFa):
    """A quantizer of the user's own, with a setting."""

    def __init__(self, bits: int, factor: float) -> None:
        super().__init__(bits)
        self.factor = factor

    def codes(self, x: Tensor) -> Tensor:
        return super().codes(x * self.factor)


class Ternary(Sign):
    """Has a zero, which the weights of the runtime have not."""

    def codes(self, x: Tensor) -> Tensor:
        return super().codes(x) * (x.abs() > 0.1)


class Backwards(Sign):
    """Falls."""

    def codes(self, x: Tensor) -> Tensor:
        return -super().codes(x)


@pytest.mark.parametrize(
    ("quantizer", "what"),
    [
        (Scaled(2, 2.0), "computes neither"),
        (Scaled(8, 0.99), "computes neither"),
        (Backwards(), "computes neither"),
        (Ternary(), "has signed codes"),
    ],
    ids=str,
)
def test_quantizers_of_other_functions_are_problems(quantizer: Quantization, what: str) -> None:
    model = nn.Sequential(low_bit(4, 4, input_quantization=quantizer)).eval()
    assert what in str(can_deploy(model, image()))


def test_quantizers_with_another_gradient_are_taken_and_shared() -> None:
    def twice(x: Tensor, first: nn.Module, one: nn.Module, other: nn.Module) -> Any:
        y = first(x)
        return one(y) + other(y)

    mine, stock = low_bit(4, 4, input_quantization=Scaled(2, 1.0)), low_bit(4, 4)
    packed = deploy(Function(twice, nn.Conv2d(4, 4, 1), mine, stock), image())
    assert sum(t["dtype"] == "codes" for operation in packed.operations() for t in operation["outputs"]) == 1


def test_the_two_signs_are_not_one() -> None:
    def twice(x: Tensor, first: nn.Module, one: nn.Module, other: nn.Module) -> Any:
        y = torch.relu(first(x))
        return one(y) + other(y)

    sign, heaviside = (low_bit(4, 4, input_quantization=quantizer) for quantizer in (Sign(), SteHeaviside()))
    assert deploy(Function(twice, nn.Conv2d(4, 4, 1), sign, heaviside), image())


def test_weights_other_than_odd_codes_are_problems() -> None:
    model = nn.Sequential(low_bit(4, 4, weight_quantization=Ternary())).eval()
    assert "other codes than the odd integers" in str(can_deploy(model, image()))


@pytest.mark.parametrize(
    ("quantizer", "value", "is_fine"),
    [
        (InputDoReFa(2), 1.0, True),
        (InputDoReFa(2), 2.0, True),
        (InputDoReFa(2), -1 / 3, True),
        (InputDoReFa(7), -1.0, True),
        (InputDoReFa(8), -1.0, False),
        (Sign(), 0.0, True),
        (Sign(), -1.0, True),
        (Sign(), 2.0, False),
    ],
)
def test_pad_values_beyond_the_levels_need_codes_of_eight_bits_at_most(
    quantizer: Quantization, value: float, is_fine: bool
) -> None:
    model = nn.Sequential(low_bit(4, 4, 3, input_quantization=quantizer, pad_value=value)).eval()
    found = can_deploy(model, image())
    assert bool(found) is is_fine
    assert is_fine or f"pad_value={value} is beyond the levels" in str(found)
    if is_fine:
        assert deploy(model, image())


def test_the_reach_of_a_wide_layer_is_exact() -> None:
    weight = torch.full((1, 70001), 255.0)
    node = Node("sum", "product", ("codes",), (1,), lambda x: x, {"weight": weight, "largest": (1, 255)})
    assert reach(node) == (-17850255, 17850255)  # beyond 2^24, and odd


def test_names_that_no_file_can_hold_are_problems() -> None:
    model = nn.Sequential()
    model.add_module("a\nb", low_bit(4, 4))
    assert "'a\\nb': its name has control characters" in str(can_deploy(model.eval(), image()))


def test_the_program_is_planned_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once with every tensor as an output, on which all trials run, and once as the file has it."""
    model = trained(LeNet8(), (1, 8, 8), bitorch.LowBitConfig(1, 2))
    planned: list[int] = []
    plan = bitorch_runtime.Program.__init__

    def counted(self: bitorch_runtime.Program, *args: Any, **options: Any) -> None:
        planned.append(len(args[0]))
        plan(self, *args, **options)

    monkeypatch.setattr(bitorch_runtime.Program, "__init__", counted)
    packed = deploy(model, torch.rand(2, 1, 8, 8), pixels=True, class_names=list("0123456789"))
    assert len(planned) == 2
    assert planned[1] == len(packed.program()[0])


def test_what_the_runtime_refuses_names_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitorch.deployment.runtime.single_operations._borders", lambda padding: [-1, 0, 0, 0])
    with pytest.raises(ValueError, match=r"0 \(QConv2d\).*: the runtime cannot compute this layer: operation 2"):
        deploy(nn.Sequential(low_bit(4, 4)).eval(), image())


def test_verify_says_what_is_wrong_with_inputs() -> None:
    model = nn.Sequential(low_bit(4, 4)).eval()
    packed = deploy(model, image())
    with pytest.raises(ValueError, match=r"\[2, 4, 6, 5\], but must be \[batch, 4, 5, 5\]"):
        verify(model, packed, torch.rand(2, 4, 6, 5))
    with pytest.raises(TypeError, match=r"torch\.float64, but must be torch\.float32"):
        verify(model, packed, image().double())
    with pytest.raises(TypeError, match=r"takes 1 tensors .* but got 0"):
        verify(model, packed)
    with pytest.raises(TypeError, match=r"takes 1 tensors .* but got 2"):
        verify(model, packed, image(), image())
    with pytest.raises(TypeError, match="must be a PackedModel"):
        verify(model, model, image())  # type: ignore[arg-type]
    assert verify(model, packed, image()[:1])
    assert verify(model, packed, image() * torch.inf)


def test_every_wrong_array_is_noticed() -> None:
    model = trained(LeNet8(), (1, 8, 8), bitorch.LowBitConfig(1, 2))
    compiled = compile_graph(capture(model, torch.rand(1, 1, 8, 8)).graph)
    operations, arrays = compiled.lowered.operations, compiled.lowered.arrays
    x = torch.rand(64, 1, 8, 8)
    for name, right in arrays.items():
        if right.dtype == bool:
            continue  # thresholds that do not go the way that it says are refused
        wrong = ~right if right.dtype == np.uint8 else right + right.dtype.type(1)
        changed = {**arrays, name: wrong}
        shapes = [compiled.graph[output].shape for output in compiled.graph.outputs]
        packed = bitorch.PackedModel(operations, changed, input_shapes=[(1, 8, 8)], output_shapes=shapes)
        program = all_tensors(compiled.lowered, operations, changed)
        assert not compare(model, compiled, program, packed, [x]), name


def test_leaky_relus_of_slope_zero_behind_falling_batch_norms() -> None:
    def leaky(x: Tensor, norm: nn.Module, last: nn.Module) -> Any:
        return last(nn.functional.leaky_relu(norm(x), 0.0))

    norm = nn.BatchNorm2d(4)
    norm.weight.data.fill_(-2.0)
    norm.bias.data.fill_(1.0)
    assert deploy(Function(leaky, norm, low_bit(4, 4)), image())


def test_a_mean_of_what_cancels_is_held_to_the_size_of_its_terms() -> None:
    """What is left of it is rounding, which says nothing about how large the numbers were."""
    expected, found = torch.tensor([[1e-8, -3e-8]]), torch.tensor([[2e-8, -3e-8]])
    beside = walk.compared("mean", "global_avg_pool", "floats", expected, found, exact=False)
    assert not beside.ok
    terms = torch.tensor([[0.5, 0.7]])
    beside = walk.compared("mean", "global_avg_pool", "floats", expected, found, exact=False, terms=terms)
    assert beside.ok
    assert (beside.elements, beside.different) == (2, 1)
    far = walk.compared("mean", "global_avg_pool", "floats", expected, found + 1e-3, exact=False, terms=terms)
    assert not far.ok
