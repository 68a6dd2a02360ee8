"""float_: the float model comes back, with the parameters of the low-bit one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitorch import LowBitConfig, float_, quantize_
from bitorch.conversion.convertible import LOW_BIT
from bitorch.layers import AbsorbedReLU, QActivation, QConv2d_NoAct, QLinear, QMultiheadAttention
from bitorch.layers.low_bit import WeightQuantized
from bitorch.quantizations import InputDoReFa, WeightDoReFa

ALL = LowBitConfig(1, 2, 4, first="same", last="same", absorb_relu=True)


def small_net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, stride=2, padding="valid", groups=2, bias=False),
        nn.ReLU(),
        nn.Flatten(2),
        nn.Conv1d(6, 4, 3, dilation=2),
        nn.Unflatten(2, (1, 1, 5)),
        nn.Conv3d(4, 4, 1),
        nn.ConvTranspose3d(4, 4, 1),
        nn.Flatten(),
        nn.ReLU(),
        nn.Linear(20, 3),
    )


def images() -> Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def kinds(model: nn.Module) -> list[tuple[str, int, type]]:
    return [(name, id(module), type(module)) for name, module in model.named_modules(remove_duplicate=False)]


def is_float(model: nn.Module) -> bool:
    return not any(isinstance(module, WeightQuantized | AbsorbedReLU) for module in model.modules())


def test_the_float_model_comes_back() -> None:
    net, expected = small_net(), small_net()
    parameters = dict(net.named_parameters())
    quantize_(net, ALL)
    assert not is_float(net)
    float_(net)
    assert is_float(net)
    assert repr(net) == repr(expected)
    assert [vars(new).keys() ^ vars(old).keys() for new, old in zip(net, expected, strict=True)] == [set()] * len(net)
    assert list(net.state_dict()) == list(expected.state_dict())
    assert all(parameter is parameters[name] for name, parameter in net.named_parameters())
    assert torch.equal(net(images()), expected(images()))
    for new, old in zip(net(images()).split(1), expected(images()).split(1), strict=True):
        assert torch.equal(new, old)
    net(images()).sum().backward()
    expected(images()).sum().backward()
    for new, old in zip(net.parameters(), expected.parameters(), strict=True):
        assert torch.equal(new.grad, old.grad)


def test_float_and_back_again() -> None:
    net = small_net()
    quantize_(net, ALL)
    torch.manual_seed(0)
    expected = net.eval()(images())
    float_(net)
    quantize_(net, ALL)
    assert torch.equal(net(images()), expected)


def test_an_optimizer_built_before_still_trains() -> None:
    net = small_net()
    quantize_(net, ALL)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    net(images()).square().sum().backward()
    optimizer.step()
    float_(net)
    before = [p.detach().clone() for p in net.parameters()]
    optimizer.zero_grad()
    net(images()).square().sum().backward()
    optimizer.step()
    assert not any(torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))


def test_hooks_attributes_and_mode_survive() -> None:
    net = small_net()
    quantize_(net, ALL)
    calls: list[str] = []
    net[3].register_forward_hook(lambda *_: calls.append("layer"))
    net[4].register_forward_hook(lambda *_: calls.append("relu"))
    net[3].register_buffer("mask", torch.ones(1), persistent=False)
    net[3].note = "mine"
    net[3].weight.requires_grad_(False)
    net.train()
    net[3].eval()
    net[4].eval()
    float_(net)
    assert [module.training for module in net] == [i not in (3, 4) for i in range(len(net))]
    assert net[3].note == "mine"
    assert "mask" in dict(net[3].named_buffers())
    assert not net[3].weight.requires_grad
    net(images())
    assert calls == ["layer", "relu"]
    assert [net[i].inplace for i in (2, 4)] == [True, False]


def test_the_low_bit_layer_is_left_as_it_was() -> None:
    net = small_net()
    quantize_(net, ALL)
    old = net[12]
    x = torch.rand(2, 20)
    expected = old(x)
    float_(net)
    assert type(old) is QLinear
    assert torch.equal(old(x), expected)


def test_shared_modules_and_copies() -> None:
    layer = nn.Linear(4, 4)
    net: Any = nn.Sequential(layer, layer, nn.Sequential(layer))
    quantize_(net, ALL)
    conversion = float_(net)
    assert net[0] is net[1] is net[2][0]
    assert type(net[0]) is nn.Linear
    assert [row.name for row in conversion.layers] == ["0"]
    assert torch.equal(copy.deepcopy(net)(torch.ones(2, 4)), net(torch.ones(2, 4)))


def test_some_layers_only() -> None:
    net = small_net()
    quantize_(net, ALL)
    conversion = float_(net, ["3"])
    assert type(net[3]) is nn.Conv2d
    assert type(net[2]) is nn.ReLU  # in front of 3, which does not clip any more
    assert isinstance(net[11], AbsorbedReLU)  # in front of 12, which does
    notes = {row.name: (row.became, row.note) for row in conversion.layers}
    assert notes["3"] == ("Conv2d", "")
    assert notes["12"] == ("QLinear", "left out by filter_fn")
    assert notes["2"] == ("ReLU", "")
    float_(net, lambda module, name: isinstance(module, QLinear))
    assert isinstance(net[11], nn.ReLU)
    assert type(net[6]).__name__ == "QConv1d"


def test_the_table() -> None:
    net = small_net()
    quantize_(net, LowBitConfig(1, 2))
    lines = str(float_(net)).splitlines()
    assert lines[2].split() == ["0", "Conv2d", "4×3×3×3", "float", "float", "already"]
    assert lines[3].split() == ["3", "QConv2d", "6×2×3×3", "Conv2d"]


def test_layers_without_activation_and_loose_quantizers() -> None:
    net: Any = nn.Sequential(QActivation(), QConv2d_NoAct(3, 3, 1, weight_quantization="sign"), InputDoReFa(2))
    conversion = float_(net)
    assert type(net[1]) is nn.Conv2d
    assert {row.name: (row.layer, row.became, row.note) for row in conversion.layers} == {
        "0": ("QActivation", "QActivation", "stays: it stands outside a layer"),
        "1": ("QConv2d_NoAct", "Conv2d", ""),
        "2": ("InputDoReFa", "InputDoReFa", "stays: it stands outside a layer"),
    }


@pytest.mark.parametrize(("float_class", "low_bit_class"), LOW_BIT.items(), ids=lambda cls: cls.__name__)
def test_every_low_bit_class_knows_its_float_one(float_class: type, low_bit_class: type) -> None:
    assert vars(low_bit_class)["_float_class"] is float_class


def test_attention_is_one_layer() -> None:
    attention = QMultiheadAttention(4, 2, weight_quantization=WeightDoReFa(2), input_quantization=InputDoReFa(2))
    expected = nn.MultiheadAttention(4, 2)
    expected.load_state_dict(attention.state_dict())
    net: Any = nn.ModuleDict({"attention": attention})
    refused(net, "filter_fn names 'attention.out_proj', which is no low-bit layer", ["attention.out_proj"])
    conversion = float_(net)
    assert [(row.name, row.became) for row in conversion.layers] == [("attention", "MultiheadAttention")]
    assert type(net["attention"]) is nn.MultiheadAttention
    x = torch.rand(3, 2, 4)
    assert torch.equal(net["attention"](x, x, x)[0], expected(x, x, x)[0])
    assert repr(net["attention"]) == repr(expected)


def test_parameters_of_quantizers_are_no_weights() -> None:
    net: Any = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(3)))
    config = LowBitConfig(1, 1, sign="rsign", first="same", last="same")  # with a shift [C, 1, 1] per layer
    quantize_(net, config)
    assert [row.name for row in quantize_(net, config).layers] == ["0", "1", "2"]
    assert [row.name for row in float_(net).layers] == ["0", "1", "2"]
    assert list(net.state_dict()) == [f"{i}.{name}" for i in range(3) for name in ("weight", "bias")]


@pytest.mark.parametrize("learned_by", ["lsq", "lsq+", "pact"])
def test_learned_ranges_are_dropped(learned_by: Any) -> None:
    net, expected = small_net(), small_net()
    quantize_(net, LowBitConfig(2, 2, range="learned", learned_by=learned_by, first="same", last="same"))
    assert len(list(net.parameters())) > len(list(expected.parameters()))
    float_(net)
    assert list(net.state_dict()) == list(expected.state_dict())
    assert torch.equal(net(images()), expected(images()))


# Errors


def refused(net: nn.Module, match: str, filter_fn: Any = None, error: type[Exception] = ValueError) -> None:
    before = kinds(net)
    with pytest.raises(error, match=match):
        float_(net, filter_fn)
    assert kinds(net) == before


def test_a_float_model() -> None:
    net = small_net()
    refused(net, "the model has no low-bit layer to take out; it is float already")
    quantize_(net, ALL)
    float_(net)
    refused(net, "it is float already")


def test_a_model_that_is_itself_a_layer() -> None:
    refused(QLinear(4, 4), r"model is itself a QLinear, .*; wrap it: nn.Sequential\(model\)")


def test_wrong_filters() -> None:
    net = small_net()
    quantize_(net, LowBitConfig(1, 2))
    refused(net, "filter_fn names '0', which is no low-bit layer; there are 3, 6, 8, 9", ["3", "0"])
    refused(net, "filter_fn matches none", lambda module, name: False)
    refused(net, "filter_fn matches none", [])
    refused(net, "got the string '3'", "3", error=TypeError)
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got list"):
        float_([net])  # type: ignore[arg-type]


class Mine(QLinear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


def test_classes_derived_from_a_low_bit_one() -> None:
    net: Any = nn.Sequential(Mine(4, 4), QLinear(4, 4))
    refused(net, "layer '0' is a Mine, and what a class derived from a low-bit one is in float nobody can tell")
    float_(net, ["1"])
    assert [type(module) for module in net] == [Mine, nn.Linear]
    parametrized = nn.Sequential(nn.utils.parametrizations.weight_norm(QLinear(4, 4)))
    refused(parametrized, "remove_parametrizations")


def test_a_forward_replaced_on_the_instance() -> None:
    net: Any = nn.Sequential(QLinear(4, 4), QLinear(4, 4))
    net[1].forward = net[1].forward
    refused(net, "layer '1' has a forward of its own")
    del net[1].forward
    float_(net)
    assert is_float(net)
