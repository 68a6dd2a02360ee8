"""quantize_ and LowBitConfig: what is replaced, what stays, and that a model is never left half converted."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bitorch
from bitorch import Conversion, LowBitConfig, quantize_
from bitorch.layers import AbsorbedReLU, QConv1d, QConv2d, QConv3d, QLinear
from bitorch.quantizations import GradientDoReFa, InputDoReFa, Sign, WeightDoReFa

LOW_BIT = (QLinear, QConv1d, QConv2d, QConv3d)
W1A2 = LowBitConfig(1, 2)
W2A2G4 = LowBitConfig(2, 2, 4, gradient_noise=False)
ALL_OF_THEM = LowBitConfig(1, 2, first="same", last="same")


def small_net() -> Any:
    """Four layers that can be converted: 0, 3, 6, 8."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 4 * 4, 10, bias=False),
        nn.ReLU(),
        nn.Linear(10, 5),
    )


def images() -> Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def low_bit_names(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, LOW_BIT)]


def snapshot(model: nn.Module) -> list[tuple[str, int, type]]:
    """Which objects stand where."""
    return [(name, id(module), type(module)) for name, module in model.named_modules(remove_duplicate=False)]


def notes(conversion: Conversion) -> dict[str, str]:
    return {row.name: row.note for row in conversion.layers}


# What is replaced


def test_first_and_last_stay_float() -> None:
    net = small_net()
    quantize_(net, W1A2)
    assert low_bit_names(net) == ["3", "6"]
    assert [type(net[i]) for i in (0, 3, 6, 8)] == [nn.Conv2d, QConv2d, QLinear, nn.Linear]


def test_quantizers_are_the_papers() -> None:
    net = small_net()
    quantize_(net, LowBitConfig(1, 2, 6))
    layer: Any = net[3]
    assert repr(layer.weight_quantization) == repr(WeightDoReFa(1, variant="paper"))
    assert repr(layer.input_quantization) == repr(InputDoReFa(2, variant="paper"))
    assert repr(layer.gradient_quantization) == repr(GradientDoReFa(6))
    assert layer.gradient_cancellation_threshold == 0
    assert layer.pad_value == 0
    assert layer.exact


def test_options_reach_the_layers() -> None:
    net = small_net()
    quantize_(net, LowBitConfig(1, 2, 6, gradient_noise=False, exact=False))
    layer: Any = net[3]
    assert not layer.gradient_quantization.noise
    assert not layer.exact
    net = small_net()
    quantize_(net, W1A2)
    assert net[3].gradient_quantization is None


def test_quantizers_are_not_shared_between_layers() -> None:
    net = small_net()
    quantize_(net, W2A2G4)
    first, second = net[3], net[6]
    for name in ("weight_quantization", "input_quantization", "gradient_quantization"):
        assert getattr(first, name) is not getattr(second, name)


def test_parameters_are_the_same_objects() -> None:
    net = small_net()
    before = dict(net.named_parameters())
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    quantize_(net, W2A2G4)
    after = dict(net.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert list(net.state_dict()) == list(state)
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in state.items())


def test_state_dicts_go_both_ways() -> None:
    plain, low_bit = small_net(), small_net()
    quantize_(low_bit, W2A2G4)
    nn.init.normal_(plain[3].weight)
    low_bit.load_state_dict(plain.state_dict(), strict=True)
    assert torch.equal(low_bit[3].weight, plain[3].weight)
    nn.init.normal_(low_bit[6].weight)
    plain.load_state_dict(low_bit.state_dict(), strict=True)
    assert torch.equal(low_bit[6].weight, plain[6].weight)


def test_geometry_survives() -> None:
    net = nn.Sequential(
        nn.Conv1d(4, 6, 3, 2, 1, 1, 2, padding_mode="circular"),
        nn.Conv2d(4, 6, (3, 2), padding="same", dilation=2, bias=False),
        nn.Conv3d(4, 8, 2, (1, 2, 1), (1, 0, 1), groups=4),
        nn.Linear(4, 3, bias=False),
    )
    before = [copy.deepcopy(module) for module in net]
    quantize_(net, ALL_OF_THEM)
    names = ["in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"]
    for old, new in zip(before, net, strict=True):
        assert isinstance(new, LOW_BIT)
        for name in names if not isinstance(new, QLinear) else ["in_features", "out_features"]:
            assert getattr(new, name) == getattr(old, name)
        assert (new.bias is None) == (old.bias is None)
    inputs = [torch.rand(2, 4, 9), torch.rand(2, 4, 9, 9), torch.rand(2, 4, 5, 5, 5), torch.rand(2, 4)]
    for old, new, x in zip(before, net, inputs, strict=True):
        assert new(x).shape == old(x).shape


def test_a_converted_layer_equals_one_built_directly() -> None:
    net = small_net()
    quantize_(net, W2A2G4)
    built = QConv2d(
        4,
        6,
        3,
        2,
        1,
        groups=2,
        bias=True,
        weight_quantization=WeightDoReFa(2, variant="paper"),
        input_quantization=InputDoReFa(2, variant="paper"),
        gradient_quantization=GradientDoReFa(4, noise=False),
        gradient_cancellation_threshold=0.0,
    )
    built.load_state_dict(net[3].state_dict())
    x = torch.rand(2, 4, 8, 8)
    assert torch.equal(net[3](x), built(x))
    assert repr(net[3]) == repr(built)


class Nested(nn.Module):
    """Layers in a module, a list, a dict, and one call of a function."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.blocks = nn.ModuleList([nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)) for _ in range(2)])
        self.branches = nn.ModuleDict({"a": nn.Conv2d(4, 4, 1), "b": nn.Identity()})
        self.functional = nn.Parameter(torch.randn(4, 4, 1, 1))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = self.branches["b"](self.branches["a"](x))
        x = nn.functional.conv2d(x, self.functional)
        y: Tensor = self.head(x.mean((2, 3)))
        return y


def test_nested_modules() -> None:
    net = Nested()
    functional = net.functional
    conversion = quantize_(net, W1A2)
    assert low_bit_names(net) == ["blocks.0.1", "blocks.1.1", "branches.a"]
    assert net.functional is functional
    assert net(images()).shape == (2, 2)
    assert "stem" in notes(conversion)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.one = nn.Linear(4, 4)
        self.two = self.one
        self.box = nn.Sequential(self.one, nn.ReLU())
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.box(self.two(self.one(self.stem(x)))))
        return y


def test_a_shared_module_is_converted_once() -> None:
    net = Shared()
    conversion = quantize_(net, W1A2)
    assert isinstance(net.one, QLinear)
    assert net.one is net.two is net.box[0]
    assert [row.name for row in conversion.layers] == ["stem", "one", "head"]
    net(torch.rand(2, 4)).sum().backward()
    assert net.one.weight.grad is not None


def test_a_shared_parent_is_converted_once() -> None:
    block = nn.Sequential(nn.Linear(4, 4))
    net: Any = nn.Sequential(nn.Linear(4, 4), block, block, nn.Linear(4, 4))
    quantize_(net, W1A2)
    assert net[1] is net[2]
    assert isinstance(net[1][0], QLinear)


def test_tied_weights_stay_tied() -> None:
    net = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    net[2].weight = net[1].weight
    quantize_(net, W1A2)
    assert net[2].weight is net[1].weight
    assert isinstance(net[2], QLinear)


def test_a_second_call_changes_nothing() -> None:
    for config in (W2A2G4, ALL_OF_THEM, LowBitConfig(1, 2, first=8, last=8, absorb_relu=True)):
        net = small_net()
        quantize_(net, config)
        before = snapshot(net)
        conversion = quantize_(net, config)
        assert snapshot(net) == before
        assert {note for name, note in notes(conversion).items() if name in ("3", "6")} == {"low-bit already"}


def test_a_layer_with_other_bits_is_an_error() -> None:
    net = small_net()
    quantize_(net, W1A2)
    before = snapshot(net)
    for other in (LowBitConfig(2, 2), LowBitConfig(1, 3), LowBitConfig(1, 2, 6), LowBitConfig(32, 32)):
        with pytest.raises(ValueError, match=r"layer '3' is low-bit already, with other quantizers"):
            quantize_(net, other)
        assert snapshot(net) == before
    other_kind = nn.Sequential(nn.Linear(4, 4), QLinear(4, 4, weight_quantization=Sign()), nn.Linear(4, 4))
    with pytest.raises(ValueError, match="layer '1' is low-bit already"):
        quantize_(other_kind, W1A2)


def test_hooks_attributes_and_mode_survive() -> None:
    net = small_net()
    calls: list[str] = []
    net[3].register_forward_hook(lambda *_: calls.append("forward"))
    net[3].register_forward_pre_hook(lambda *_: calls.append("before"))
    net[3].register_full_backward_hook(lambda *_: calls.append("backward"))
    net[3].register_buffer("mask", torch.ones(1), persistent=False)
    net[3].note = "mine"
    net.eval()
    net[6].train()
    quantize_(net, W1A2)
    layer: Any = net[3]
    assert [module.training for module in (net[3], net[6])] == [False, True]
    assert layer.note == "mine"
    assert "mask" in dict(layer.named_buffers())
    net(images()).sum().backward()
    assert calls == ["before", "forward", "backward"]


def test_the_float_layer_is_left_as_it_was() -> None:
    """A copy that the user kept still works, on the shared parameters."""
    net = small_net()
    old = net[3]
    x = torch.rand(2, 4, 8, 8)
    expected = old(x)
    quantize_(net, W2A2G4)
    assert type(old) is nn.Conv2d
    assert not list(old.children())
    assert torch.equal(old(x), expected)


def test_frozen_parameters_stay_frozen() -> None:
    net = small_net()
    net[3].weight.requires_grad_(False)
    quantize_(net, W1A2)
    net(images()).sum().backward()
    assert net[3].weight.grad is None
    assert net[6].weight.grad is not None


def test_an_optimizer_built_before_still_trains() -> None:
    net = small_net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    quantize_(net, W2A2G4)
    before = [p.detach().clone() for p in net.parameters()]
    net(images()).square().sum().backward()
    optimizer.step()
    moved = [not torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True)]
    assert all(moved)


def test_converted_models_can_be_copied() -> None:
    net = small_net()
    quantize_(net, W1A2)
    assert torch.equal(copy.deepcopy(net).eval()(images()), net.eval()(images()))


def test_parametrized_layers_stay_float() -> None:
    """Their class is a subclass, made by PyTorch, that computes its weight anew at each access."""
    net = nn.Sequential(nn.Linear(4, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), *small_linears(2))
    conversion = quantize_(net, W1A2)
    assert low_bit_names(net) == ["2"]
    assert type(net[1]).__name__ == "ParametrizedLinear"
    assert "3" in notes(conversion)


def small_linears(count: int) -> Iterator[nn.Linear]:
    return (nn.Linear(4, 4) for _ in range(count))


# First and last


@pytest.mark.parametrize(
    ("first", "last", "bits"),
    [
        ("float", "float", [None, 1, 1, None]),
        ("same", "float", [1, 1, 1, None]),
        ("float", "same", [None, 1, 1, 1]),
        (8, 8, [8, 1, 1, 8]),
        (8, "same", [8, 1, 1, 1]),
    ],
)
def test_ends(first: Any, last: Any, bits: list[int | None]) -> None:
    net = small_net()
    conversion = quantize_(net, LowBitConfig(1, 2, 6, first=first, last=last))
    assert [row.weight_bits for row in conversion.layers] == bits
    for row in conversion.layers:
        layer: Any = net.get_submodule(row.name)
        if row.weight_bits is None:
            assert not isinstance(layer, LOW_BIT)
            assert (row.activation_bits, row.gradient_bits, row.became) == (None, None, "float")
        elif row.weight_bits == 8:
            assert (row.activation_bits, row.gradient_bits) == (8, 32)
            assert layer.input_quantization.bit_width == layer.weight_quantization.bit_width == 8
            assert layer.gradient_quantization is None
        else:
            assert (row.activation_bits, row.gradient_bits) == (2, 6)
            assert (layer.input_quantization.bit_width, layer.gradient_quantization.bit_width) == (2, 6)
    net(images()).sum().backward()


def test_named_ends() -> None:
    net = small_net()
    quantize_(net, LowBitConfig(1, 2, first_layers=("0", "3"), last_layers=("6",)))
    assert low_bit_names(net) == ["8"]
    net = small_net()
    conversion = quantize_(net, LowBitConfig(1, 2, first=8, first_layers=("3",), last_layers=("6", "8")))
    assert low_bit_names(net) == ["0", "3"]
    assert [row.weight_bits for row in conversion.layers] == [1, 8, None, None]
    assert notes(conversion) == {"0": "", "3": "first layer", "6": "last layer", "8": "last layer"}


@pytest.mark.parametrize("field", ["first_layers", "last_layers"])
def test_named_ends_that_do_not_exist(field: str) -> None:
    net = small_net()
    before = snapshot(net)
    with pytest.raises(
        ValueError, match=rf"{field} names 'stem', which is no layer with a weight; there are 0, 3, 6, 8"
    ):
        quantize_(net, LowBitConfig(1, 2, **{field: ("stem",)}))  # type: ignore[arg-type]  # a field of names
    assert snapshot(net) == before


def test_a_model_of_one_layer() -> None:
    net = nn.Sequential(nn.Linear(4, 2))
    with pytest.raises(ValueError, match="no layer would become low-bit"):
        quantize_(net, LowBitConfig(1, 2, first="float", last="same"))
    assert type(net[0]) is nn.Linear
    quantize_(net, LowBitConfig(1, 2, first="same", last="float"))
    assert type(net[0]) is QLinear


# Filter


@pytest.mark.parametrize(
    "filter_fn",
    [
        lambda module, name: isinstance(module, nn.Linear),
        lambda module, name: name in ("6", "8"),
        ["6"],
        ("6", "8"),
        {"6"},
        frozenset({"6"}),
        {"6": None},
    ],
)
def test_filters(filter_fn: Any) -> None:
    net = small_net()
    conversion = quantize_(net, W1A2, filter_fn)
    assert low_bit_names(net) == ["6"]
    assert notes(conversion)["3"] == "left out by filter_fn"


def test_a_filter_that_matches_nothing() -> None:
    net = small_net()
    nothing: Any
    for nothing in ([], (), set(), lambda module, name: False):
        with pytest.raises(ValueError, match=r"filter_fn matches none of the layers.*: 0, 3, 6, 8"):
            quantize_(net, W1A2, nothing)
    assert not low_bit_names(net)


def test_a_filter_with_an_unknown_name() -> None:
    net = small_net()
    for name in ("7", "conv", "1.weight", ""):
        with pytest.raises(ValueError, match=rf"filter_fn names '{name}', which is no layer with a weight"):
            quantize_(net, W1A2, ["6", name])
    assert not low_bit_names(net)


def test_a_filter_that_is_a_string() -> None:
    with pytest.raises(TypeError, match="function or a collection of names, got the string '6'"):
        quantize_(small_net(), W1A2, "6")


def test_an_unsupported_layer_named_explicitly() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Bilinear(4, 4, 4), nn.Linear(4, 4))
    with pytest.raises(
        ValueError,
        match=r"filter_fn names '1', which stays float: Bilinear is not supported. Supported are nn.L",
    ):
        quantize_(net, W1A2, ["1"])
    with pytest.raises(ValueError, match="last_layers names '1', which stays float"):
        quantize_(net, LowBitConfig(1, 2, last_layers=("1",)))


def test_first_and_last_are_found_among_all_layers() -> None:
    net = small_net()
    conversion = quantize_(net, W1A2, ["6", "8"])
    assert low_bit_names(net) == ["6"]
    assert notes(conversion)["8"] == "last layer"


# What stays float


class MyLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) ** 2


class MyAttention(nn.MultiheadAttention):
    pass


def test_what_stays_float() -> None:
    net = nn.ModuleDict(
        {
            "first": nn.Linear(4, 4),
            "own": MyLinear(4, 4),
            "attention": MyAttention(4, 2),
            "bilinear": nn.Bilinear(4, 4, 3),
            "inner": nn.Linear(4, 4),
            "last": nn.Linear(4, 4),
        }
    )
    conversion = quantize_(net, W1A2)
    assert low_bit_names(net) == ["inner"]
    found = notes(conversion)
    assert found["own"] == "a subclass may compute something else"
    assert found["attention"] == "a subclass may compute something else"
    assert found["attention.out_proj"] == "a part of 'attention', and becomes what that becomes"
    assert found["bilinear"] == "Bilinear is not supported"


def test_attention_that_is_the_first_layer_stays_float() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2)
            self.one = nn.Linear(4, 4)
            self.two = nn.Linear(4, 4)
            self.three = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.three(self.two(self.one(self.attention(x, x, x)[0])))
            return y

    net = Net()
    quantize_(net, W1A2)
    assert low_bit_names(net) == ["one", "two"]
    net(torch.rand(3, 2, 4)).sum().backward()


def test_32_bits_leave_everything_float() -> None:
    for ends in ("float", "same"):
        config = LowBitConfig(32, 32, 32, first=ends, last=ends)
        net = small_net()
        before = snapshot(net)
        conversion = quantize_(net, config)
        assert snapshot(net) == before
        assert config.is_float
        assert {row.became for row in conversion.layers} == {"float"}
        assert notes(conversion)["3"] == "32 bits"


def test_some_of_32_bits() -> None:
    net = small_net()
    conversion = quantize_(net, LowBitConfig(2, 32, 32))
    assert low_bit_names(net) == ["3", "6"]
    row = next(row for row in conversion.layers if row.name == "3")
    assert (row.weight_bits, row.activation_bits, row.gradient_bits) == (2, 32, 32)
    x = torch.randn(2, 4, 8, 8)
    layer: Any = net[3]
    value = WeightDoReFa(2, variant="paper")(layer.weight)
    expected = nn.functional.conv2d(x.relu(), value, layer.bias, 2, 1, 1, 2)
    torch.testing.assert_close(layer(x), expected)


def test_ends_of_8_bits_in_a_float_model() -> None:
    config = LowBitConfig(32, 32, first=8, last=8)
    assert not config.is_float
    net = small_net()
    quantize_(net, config)
    assert low_bit_names(net) == ["0", "8"]


# Errors leave the model as it was


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(4, 4), nn.Conv1d(1, 1, 1), nn.Conv2d(1, 1, 1), nn.Conv3d(1, 1, 1)],
    ids=lambda m: type(m).__name__,
)
def test_a_root_that_is_itself_a_layer(layer: nn.Module) -> None:
    with pytest.raises(ValueError, match=rf"model is itself a {type(layer).__name__}.*wrap it: nn.Sequential\(model\)"):
        quantize_(layer, ALL_OF_THEM)
    quantize_(nn.Sequential(layer), ALL_OF_THEM)


def test_a_model_without_layers() -> None:
    with pytest.raises(ValueError, match=r"no layer that can be converted; supported are nn.Linear, nn.Conv1d"):
        quantize_(nn.Sequential(nn.ReLU(), nn.Bilinear(3, 3, 3)), W1A2)


def test_wrong_types() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got function"):
        quantize_(small_net, W1A2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"config must be a LowBitConfig such as LowBitConfig\(1, 2\), got tuple"):
        quantize_(small_net(), (1, 2, 6))  # type: ignore[arg-type]


def test_torchscript_is_refused() -> None:
    net = small_net()
    with pytest.warns(DeprecationWarning, match="deprecated"):
        scripted = torch.jit.script(net)
    with pytest.raises(
        TypeError, match="model is a TorchScript module, whose layers cannot be replaced; convert it be"
    ):
        quantize_(scripted, W1A2)


def test_a_way_of_learning_needs_a_range_that_learns() -> None:
    with pytest.raises(ValueError, match="learned_by='pact' needs range=\"learned\", got range='calibrated'"):
        LowBitConfig(1, 2, range="calibrated", learned_by="pact")


def test_a_layer_that_is_too_wide_is_named() -> None:
    net = nn.Sequential(
        nn.Linear(4, 4), nn.Linear(4, 70_000, device="meta"), nn.Linear(70_000, 4, device="meta"), nn.Linear(4, 4)
    )
    before = snapshot(net)
    with pytest.raises(ValueError, match=r"layer '2': a layer with 70000 inputs per output is too wide"):
        quantize_(net, LowBitConfig(8, 8))
    assert snapshot(net) == before
    quantize_(net, LowBitConfig(8, 8, exact=False))
    assert low_bit_names(net) == ["1", "2"]


def test_a_filter_that_raises_leaves_the_model() -> None:
    def broken(module: nn.Module, name: str) -> bool:
        if name == "6":
            raise RuntimeError("mine")
        return True

    net = small_net()
    before = snapshot(net)
    with pytest.raises(RuntimeError, match="mine"):
        quantize_(net, W1A2, broken)
    assert snapshot(net) == before


# The table


def test_the_table() -> None:
    net = small_net()
    conversion = quantize_(net, LowBitConfig(1, 2, 6))
    assert [row.name for row in conversion.layers] == ["0", "3", "6", "8"]
    row = conversion.layers[1]
    assert (row.layer, row.shape, row.became, row.note) == ("Conv2d", (6, 2, 3, 3), "QConv2d", "")
    assert (row.weight_bits, row.activation_bits, row.gradient_bits) == (1, 2, 6)
    lines = str(conversion).splitlines()
    assert len(lines) == 7 + len({row.kernels for row in conversion.layers} - {None})
    assert lines[-1] == f"low-bit: {6 * 2 * 9 + 960:,} of {4 * 3 * 9 + 6 * 2 * 9 + 960 + 50:,} weights (87.1%)"
    assert lines[0].split() == ["layer", "was", "weight", "shape", "is", "W", "A", "G", "note"]
    assert set(lines[1]) == {"─"}
    assert lines[2].split() == ["0", "Conv2d", "4×3×3×3", "float", "first", "layer"]
    assert lines[3].split() == ["3", "Conv2d", "6×2×3×3", "QConv2d", "1", "2", "6"]
    assert lines[5].split() == ["8", "Linear", "5×10", "float", "last", "layer"]
    column = lines[0].index("is")
    assert [line[column:].split()[0] for line in (lines[0], *lines[2:6])] == [
        "is",
        "float",
        "QConv2d",
        "QLinear",
        "float",
    ]
    assert all(line == line.rstrip() for line in lines)


# absorb_relu


def relu_net(*between: nn.Module) -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *between, nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 2, 1),
    )  # fmt: skip


def absorbed_names(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, AbsorbedReLU)]


@pytest.mark.parametrize(
    "between",
    [
        (),
        (nn.MaxPool2d(2),),
        (nn.Identity(), nn.MaxPool2d(2), nn.Dropout(0.5), nn.Dropout2d(0.5)),
    ],
    ids=len,
)
@pytest.mark.parametrize("gradient_bits", [32, 4])
def test_absorbing_relu_changes_no_number(between: tuple[nn.Module, ...], gradient_bits: int) -> None:
    results = []
    for absorb in (False, True):
        net = relu_net(*between)
        conversion = quantize_(net, LowBitConfig(2, 2, gradient_bits, gradient_noise=False, absorb_relu=absorb))
        assert absorbed_names(net) == (["2"] if absorb else [])  # the other one feeds a float layer
        assert ("2" in notes(conversion)) == absorb
        torch.manual_seed(3)
        y = net(images())
        y.square().sum().backward()
        results.append([y.detach(), *(p.grad for p in net.parameters())])
    for kept, absorbed in zip(*results, strict=True):
        assert kept is not None
        assert torch.equal(kept, absorbed)


@pytest.mark.parametrize("between", [nn.AvgPool2d(2), nn.BatchNorm2d(4), nn.Tanh()], ids=lambda m: type(m).__name__)
def test_relu_is_kept_where_something_does_not_commute(between: nn.Module) -> None:
    net = relu_net(between)
    quantize_(net, LowBitConfig(1, 2, absorb_relu=True))
    assert not absorbed_names(net)


def test_relu_is_kept_outside_a_plain_sequential() -> None:
    class Chain(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            for module in reversed(self):
                x = module(x)
            return x

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()
            self.one = nn.Linear(4, 4)

    layers = [nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 4)]
    for net in (Chain(*layers), nn.Sequential(nn.Linear(4, 4), Own(), nn.Linear(4, 4)), nn.ModuleList(layers)):
        quantize_(net, LowBitConfig(1, 2, absorb_relu=True))
        assert not absorbed_names(net)


def test_relu_subclasses_are_kept() -> None:
    for kind in (nn.ReLU6, nn.LeakyReLU, nn.Hardtanh):
        net = nn.Sequential(nn.Linear(4, 4), kind(), nn.Linear(4, 4), nn.Linear(4, 4))
        quantize_(net, LowBitConfig(1, 2, absorb_relu=True))
        assert type(net[1]) is kind


def test_state_dict_keys_and_indices_stay_with_absorbed_relu() -> None:
    net = relu_net()
    keys = list(net.state_dict())
    quantize_(net, LowBitConfig(1, 2, absorb_relu=True))
    assert list(net.state_dict()) == keys


# LowBitConfig


@pytest.mark.parametrize("field", ["weight_bits", "activation_bits", "gradient_bits"])
@pytest.mark.parametrize(
    ("bits", "error"), [(0, ValueError), (9, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)]
)
def test_bits_outside_the_set(field: str, bits: Any, error: type[Exception]) -> None:
    arguments = {"weight_bits": 1, "activation_bits": 2, field: bits}
    with pytest.raises(error, match=rf"^{field} must be .*1…8, or 32 for none.*, got {bits}$"):
        LowBitConfig(**arguments)


@pytest.mark.parametrize("field", ["first", "last"])
@pytest.mark.parametrize("value", ["Float", 4, None, True, "8"])
def test_ends_outside_the_set(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf'^{field} must be "float", 8 or "same", got {value!r}$'):
        LowBitConfig(1, 2, **{field: value})


@pytest.mark.parametrize("field", ["first_layers", "last_layers"])
@pytest.mark.parametrize("value", ["stem", (1,), ["stem", None]])
def test_names_that_are_no_names(field: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{field} must be a tuple of module names"):
        LowBitConfig(1, 2, **{field: value})


def test_names_become_a_tuple() -> None:
    config = LowBitConfig(1, 2, first_layers=["a", "b"])  # type: ignore[arg-type]
    assert config.first_layers == ("a", "b")
    assert hash(config) == hash(LowBitConfig(1, 2, first_layers=("a", "b")))


@pytest.mark.parametrize(
    "config",
    [
        LowBitConfig(1, 2),
        LowBitConfig(8, 8, 8, first=8, last="same"),
        LowBitConfig(1, 32, 6, "same", "float", ("a", "b.c"), ("d",), False, False, True),
    ],
)
def test_json_round_trip(config: LowBitConfig) -> None:
    assert LowBitConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_keys() -> None:
    fields = LowBitConfig(1, 2).to_dict() | {"weigth_bits": 1, "acts": 2}
    with pytest.raises(ValueError, match=r"unknown keys acts, weigth_bits; LowBitConfig has weight_bits, "):
        LowBitConfig.from_dict(fields)


def test_from_dict_checks_values() -> None:
    with pytest.raises(ValueError, match="weight_bits must be one of"):
        LowBitConfig.from_dict({"weight_bits": 9, "activation_bits": 2})


def test_a_config_does_not_change() -> None:
    config = LowBitConfig(1, 2)
    with pytest.raises(AttributeError):
        config.weight_bits = 2  # type: ignore[misc]


def test_public_names() -> None:
    checks: list[Callable[..., object]] = [bitorch.quantize_, bitorch.LowBitConfig, bitorch.Conversion]
    assert checks == [quantize_, LowBitConfig, Conversion]
    assert bitorch.LayerConversion is type(quantize_(small_net(), W1A2).layers[0])


# Training


@pytest.mark.parametrize("bits", [(1, 1, 32), (1, 2, 6), (2, 2, 2), (8, 8, 8)])
def test_a_converted_model_trains(bits: tuple[int, int, int]) -> None:
    torch.manual_seed(4)
    net = nn.Sequential(nn.Linear(6, 24), nn.BatchNorm1d(24), nn.Linear(24, 24), nn.BatchNorm1d(24), nn.Linear(24, 1))
    quantize_(net, LowBitConfig(*bits))
    x = torch.randn(128, 6)
    y = x[:, :1] * x[:, 1:2]
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = nn.functional.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_a_lazy_layer_without_shape_is_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(3))
    with pytest.raises(ValueError, match="layer '1' has no shape yet; run one batch"):
        quantize_(model, LowBitConfig(1, 2))


def test_nothing_to_convert_between_the_ends_is_an_error() -> None:
    """A float net that looks converted would be the worst outcome."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"no layer would become low-bit \(0: first layer; 2: last layer\)"):
        quantize_(model, LowBitConfig(1, 2))
    assert all(type(module) is not QLinear for module in model)
    quantize_(model, LowBitConfig(1, 2, first="same"))
    assert type(model[0]) is QLinear


def test_a_forward_replaced_on_the_instance_keeps_the_layer_float() -> None:
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(4)])
    model[1].forward = lambda x: x
    rows = quantize_(model, LowBitConfig(1, 2)).layers
    assert [row.became for row in rows] == ["float", "float", "QLinear", "float"]
    assert rows[1].note == "its forward was replaced on the instance"


def test_a_compiled_layer_becomes_low_bit() -> None:
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(3)])
    model[1].compile(backend="eager")
    quantize_(model, LowBitConfig(1, 2))
    x = torch.rand(2, 4)
    assert torch.equal(model[1](x), model[1].forward(x))


def test_another_exactness_is_not_silently_ignored() -> None:
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(3)])
    quantize_(model, LowBitConfig(1, 2))
    with pytest.raises(ValueError, match="`exact` or `kernels` than the config asks for"):
        quantize_(model, LowBitConfig(1, 2, exact=False))


def test_relu_in_front_of_a_module_used_twice_is_judged_by_its_own_reader() -> None:
    pool = nn.AvgPool1d(1)
    model = nn.Sequential(nn.Linear(4, 4), pool, nn.Linear(4, 4), nn.ReLU(), pool, nn.Linear(4, 4), nn.Linear(4, 2))
    quantize_(model, LowBitConfig(1, 2, absorb_relu=True))
    assert type(model[3]) is nn.ReLU  # its reader is the pool
