"""Deployment: random nets, the zoo and special cases, each equal to its packed program in every tensor."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

import bitorch
import bitorch_runtime
from bitorch import DeploymentError, deploy, verify
from bitorch.deployment.capture import capture
from bitorch.deployment.pipeline import compile_graph
from bitorch.layers import QConv2d, QLinear
from bitorch.models import LeNet8, LeNet28, ResNet20, SVHNNet
from bitorch.quantizations import InputDoReFa, Sign, WeightDoReFa
from random_nets import RandomNet, SignalNet

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


def trained(model: nn.Module, shape: tuple[int, ...], config: bitorch.DoReFaConfig) -> nn.Module:
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


@pytest.mark.parametrize("bits", BITS, ids=str)
@pytest.mark.parametrize("net", range(len(ZOO)))
@pytest.mark.parametrize("ends", ["float", 8])
def test_the_zoo_is_equal_in_every_tensor(
    net: int, bits: tuple[int, int], ends: bitorch.dorefa_config.EndLayer
) -> None:
    build, shape = ZOO[net]
    model = trained(build(), shape, bitorch.DoReFaConfig(*bits, first=ends, last=ends))
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
    model = trained(LeNet8(), (1, 8, 8), bitorch.DoReFaConfig(1, 2))
    before = copy.deepcopy(model.state_dict())
    flags = [parameter.requires_grad for parameter in model.parameters()]
    deploy(model, torch.rand(1, 1, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert flags == [parameter.requires_grad for parameter in model.parameters()]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_verification_names_the_first_tensor_that_differs() -> None:
    model = trained(LeNet8(), (1, 8, 8), bitorch.DoReFaConfig(1, 2, first=8, last=8))
    packed = deploy(model, torch.rand(1, 1, 8, 8))
    x = torch.rand(4, 1, 8, 8)
    assert verify(model, packed, x)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.get_parameter("layers.3.weight").view(-1)[0].neg_()
    verification = verify(changed, packed, x)
    assert not verification
    first = verification.first_difference
    assert first is not None
    assert first.tensor == "layers.3/sum"
    assert first.different > 0
    assert "layers.3/sum" in str(verification)


def test_a_program_of_another_network_is_refused() -> None:
    small = trained(LeNet8(), (1, 8, 8), bitorch.DoReFaConfig(1, 2))
    other = trained(LeNet8(), (1, 8, 8), bitorch.DoReFaConfig(1, 3))
    packed = deploy(small, torch.rand(1, 1, 8, 8))
    with pytest.raises(ValueError, match="another network"):
        verify(other, packed, torch.rand(1, 1, 8, 8))


def test_pixels_go_straight_into_an_eight_bit_layer() -> None:
    model = trained(LeNet8(), (1, 8, 8), bitorch.DoReFaConfig(1, 2, first=8))
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
def test_normalisation_is_kept_exactly(first: bitorch.dorefa_config.EndLayer, pixels: bool) -> None:
    net = trained(SVHNNet("D"), (3, 40, 40), bitorch.DoReFaConfig(1, 2, first=first))
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
    model = trained(LeNet8(), (1, 8, 8), bitorch.DoReFaConfig(1, 2, first=8, last=8))
    pack = bitorch_runtime.pack_weights

    def wrong(codes: NDArray[Any], bits: int) -> NDArray[np.uint8]:
        codes = codes.copy()
        codes.flat[0] = -codes.flat[0]
        return pack(codes, bits)

    monkeypatch.setattr("bitorch.deployment.lower.pack_weights", wrong)
    with pytest.raises(DeploymentError, match=r"differs first in 'layers\.0/sum'"):
        deploy(model, torch.rand(1, 1, 8, 8))


def test_passes_can_be_printed() -> None:
    model = trained(LeNet8(), (1, 8, 8), bitorch.DoReFaConfig(1, 2))
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
    model = trained(LeNet8(), (1, 8, 8), bitorch.DoReFaConfig(1, 2))
    x = torch.rand(3, 1, 8, 8)
    deployment = deploy(model, x, partial=True)
    assert torch.equal(deployment.model(x), model(x))
    assert "PackedConv2d" in str(deployment)
    with pytest.raises(ValueError, match="partial=True takes neither"):
        deploy(model, x, partial=True, pixels=True)  # type: ignore[call-overload]
