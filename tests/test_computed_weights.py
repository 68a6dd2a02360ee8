"""Nets whose weights are computed before each call, by pruning or hook-based weight_norm: every function takes them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils import spectral_norm as hook_spectral_norm

import bitorch
from bitorch.batches import Batch
from bitorch.layers import QMultiheadAttention
from bitorch.model_copy import copied
from bitorch.train.guard import locate_non_finite

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")  # the hook-based one is deprecated


def prune_twice(layer: nn.Module) -> None:
    prune.l1_unstructured(layer, "weight", 0.4)
    prune.random_unstructured(layer, "weight", 0.2)
    prune.random_unstructured(layer, "bias", 0.3)


SOURCES: dict[str, Callable[[nn.Module], object]] = {
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "pruned twice": prune_twice,
    "pruned for good": lambda layer: prune.remove(prune.l1_unstructured(layer, "weight", 0.5), "weight"),
    "weight_norm": nn.utils.weight_norm,
    "spectral_norm": hook_spectral_norm,
}


def images(count: int = 16) -> Tensor:
    return torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def data() -> list[tuple[Tensor, Tensor]]:
    return [(images(), torch.arange(16) % 3)]


def float_net(source: str) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    for index in (0, 3, 8):
        SOURCES[source](model[index])
    if source == "spectral_norm":
        for _ in range(20):  # until its iteration has settled, the weight changes with every call
            model(images())
    return model


def converted(source: str) -> nn.Sequential:
    model = float_net(source)
    bitorch.quantize_(model, bitorch.LowBitConfig(2, 4, range="learned", last="same"))
    bitorch.calibrate(model, [images()])
    return model


def run(model: nn.Module, how: str) -> None:
    """What may have run before: each leaves another kind of tensor as the weight."""
    model.train(how in ("forward", "backward"))
    if how == "backward":
        model(images()).square().sum().backward()
    elif how == "forward":
        model(images())
    elif how != "nothing":
        with torch.no_grad() if how == "no gradients" else torch.inference_mode():
            model(images())


def state(model: nn.Module) -> dict[str, Any]:
    return {
        **{name: value.clone() for name, value in model.state_dict().items()},
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [list(module._forward_pre_hooks.values()) for module in model.modules()],
        "parameters": [id(p) for p in model.parameters()],
    }


def assert_as_before(model: nn.Module, before: dict[str, Any]) -> None:
    now = state(model)
    assert now.keys() == before.keys()
    for name, value in before.items():
        if name == "gradients":
            pairs = zip(value, now[name], strict=True)
            assert all(one is other is None or torch.equal(one, other) for one, other in pairs)
        else:
            assert torch.equal(now[name], value) if isinstance(value, Tensor) else now[name] == value, name


RAN = ["nothing", "forward", "backward", "no gradients", "inference"]
CASES = [*(("pruned", ran) for ran in RAN), *((source, "forward") for source in SOURCES if source != "pruned")]


@pytest.mark.parametrize(("source", "ran"), CASES)
@pytest.mark.parametrize("call", ["check", "sensitivity", "allocate"])
def test_functions_that_run_copies(call: str, source: str, ran: str) -> None:
    model = converted(source)
    run(model, ran)
    before = state(model)
    if call == "check":
        assert not [f for f in bitorch.check(model, data()[0]).findings if f.what == "step does not fit the weight"]
    elif call == "sensitivity":
        assert {row.layer for row in bitorch.sensitivity(model, data(), ((1, 1),)).rows} == {"3", "8"}
    else:
        assert bitorch.allocate(model, data(), bitorch.Budget(bytes=10**6), ((2, 4), (1, 1))).rules
    assert_as_before(model, before)


@pytest.mark.parametrize(("source", "ran"), CASES)
def test_functions_that_deploy(source: str, ran: str) -> None:
    model = converted(source)
    run(model, ran)
    model.eval()
    before = state(model)
    expected = copied(model)(images()).detach()
    bitorch.report(model, images(), repeats=1)
    assert bitorch.can_deploy(model, images())
    packed = bitorch.deploy(model, images())
    assert bitorch.verify(model, packed, images())
    partly = bitorch.deploy(model, partial=True)
    assert [row.became for row in partly.rows] == ["as it was", "PackedConv2d", "PackedLinear"]
    assert torch.equal(partly.model(images()), expected)
    assert_as_before(model, before)


@pytest.mark.parametrize("source", SOURCES)
def test_partial_deployment_packs_the_weights_of_now(source: str) -> None:
    model = converted(source).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".weight" in name and "quantization" not in name:
                parameter.add_(torch.randn(parameter.shape))  # as a step of an optimizer; nothing has been run since
    packed = bitorch.deploy(model, partial=True)
    assert torch.equal(packed.model(images()), model(images()))


@pytest.mark.parametrize("source", SOURCES)
def test_set_bits_training_and_the_way_back(source: str) -> None:
    model = converted(source)
    plain = float_net(source)
    bitorch.set_bits(model, (3, 3))
    model(images()).square().sum().backward()
    assert all(p.grad is not None for p in model[3].parameters())
    bitorch.set_bits(model, (2, 4))
    bitorch.float_(model)
    assert model.state_dict().keys() == plain.state_dict().keys()
    model.load_state_dict(plain.state_dict())
    assert torch.equal(model.eval()(images()), plain.eval()(images()))


@pytest.mark.parametrize("source", ["pruned", "weight_norm"])
def test_pruned_for_good_after_the_conversion(source: str) -> None:
    model = converted(source).eval()
    expected = model(images())
    for index in (0, 3, 8):
        if source == "pruned":
            prune.remove(model[index], "weight")
        else:
            nn.utils.remove_weight_norm(model[index])
    assert isinstance(model[3].weight, nn.Parameter)
    torch.testing.assert_close(model(images()), expected)
    assert bitorch.deploy(model, images())


def test_a_pruned_attention() -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    prune.l1_unstructured(attention, "in_proj_weight", 0.5)
    model = nn.ModuleDict({"attention": attention})
    bitorch.quantize_(model, bitorch.LowBitConfig(2, 4, first="same", last="same", range="learned"))
    assert isinstance(model["attention"], QMultiheadAttention)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = model["attention"]

        def forward(self, x: Tensor) -> Tensor:
            attended: Tensor = self.attention(x, x, x)[0]
            return attended

    x = torch.randn(4, 5, 8)
    net = Net()
    bitorch.calibrate(net, [x])
    net(x).sum().backward()
    assert bitorch.check(net, x)
    packed = bitorch.deploy(net.eval(), x, partial=True)
    assert torch.equal(packed.model(x), net(x))


class Keeps(nn.Module):
    """Keeps what it computed, as many nets do with attention maps."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.kept: dict[str, list[Tensor]] = {}
        self.register_buffer("last", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        self.kept = {"outputs": [y]}
        self.last = y.mean()
        return y


@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad, torch.inference_mode], ids=lambda mode: mode.__name__)
def test_a_copy_of_a_model_that_keeps_outputs(mode: Callable[[], AbstractContextManager[None]]) -> None:
    model = Keeps()
    expected = model(torch.ones(2, 6))
    with pytest.raises(RuntimeError, match="Only Tensors created explicitly by the user"):
        copy.deepcopy(model)
    with mode():
        twin = copied(model)
    assert torch.equal(twin.kept["outputs"][0], expected)
    assert twin.kept["outputs"][0] is not model.kept["outputs"][0]
    assert model.kept["outputs"][0] is expected  # and the model's own still has its history
    assert expected.requires_grad
    assert not expected.is_leaf
    twin(torch.ones(2, 6)).sum().backward()
    assert twin.layer.weight.grad is not None
    assert model.layer.weight.grad is None


def test_a_copy_keeps_what_deepcopy_keeps() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    model(torch.ones(1, 3)).sum().backward()
    twin = copied(model)
    assert twin[1].weight is twin[0].weight
    assert twin[0].weight is not model[0].weight
    assert not twin[0].bias.requires_grad
    with torch.inference_mode():
        made = nn.Linear(3, 3)
    copied(made)(torch.ones(1, 3)).sum().backward()


@pytest.mark.parametrize("source", SOURCES)
def test_the_search_for_what_is_not_finite(source: str) -> None:
    model = converted(source)
    model(images())
    with torch.no_grad():
        assert model[8].bias is not None
        next(p for name, p in model[8].named_parameters() if name.startswith("bias")).fill_(float("nan"))
    assert "is 8 " in locate_non_finite(model, Batch((images(),)), lambda y: y.sum())


@pytest.mark.parametrize("index", [0, 8])  # a float layer, and a low-bit one
def test_a_weight_that_is_computed_as_nan_is_refused_by_name(index: int) -> None:
    model = float_net("weight_norm")
    nn.init.zeros_(model[index].get_parameter("weight_v"))  # 0/0
    bitorch.quantize_(model, bitorch.LowBitConfig(1, 2, last="same"))
    found = bitorch.can_deploy(model.eval(), images())
    (problem,) = [problem for problem in found.problems if problem.name == f"{index}.weight"]
    assert problem.what == f"{index}.weight, which a hook computes, has values that are NaN or infinite"
    assert "weight_norm and spectral_norm divide by a norm" in problem.remedy
    with pytest.raises(ValueError, match=f"{index}.weight, which a hook computes"):
        bitorch.deploy(model, images())
