"""set_bits: other bits in place, everything else as it was, and nothing changed by a call that fails."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitorch import Bits, LowBitConfig, Rule, quantize_, set_bits
from bitorch.layers import QConv2d, QConv2d_NoAct, QEmbedding, QLinear, QMultiheadAttention
from bitorch.layers.low_bit import LowBit
from bitorch.quantizations import GradientDoReFa, Identity, InputDoReFa, Sign, WeightDoReFa

CONFIG = LowBitConfig(1, 2, 6, gradient_noise=False)
WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 32)


def net_of(config: LowBitConfig | None = CONFIG) -> Any:
    """Low-bit layers: 1, 2, 4."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 1),
        nn.Flatten(),
        nn.Linear(4 * 36, 8),
        nn.Linear(8, 2),
    )
    if config is not None:
        quantize_(net, config)
    return net


def images() -> Tensor:
    return torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def bits_of(net: nn.Module) -> dict[str, tuple[int, int, int | None]]:
    return {
        name: (
            layer.weight_quantization.bit_width,
            layer.input_quantization.bit_width,
            None if layer.gradient_quantization is None else layer.gradient_quantization.bit_width,
        )
        for name, layer in net.named_modules()
        if isinstance(layer, LowBit)
    }


def objects(net: nn.Module) -> list[tuple[str, int]]:
    return [(name, id(item)) for pairs in (net.named_modules(), net.named_parameters()) for name, item in pairs]


def outcome(net: nn.Module) -> list[Tensor]:
    """Return output and gradients of one step."""
    net.zero_grad()
    y = net(images())
    y.square().sum().backward()
    return [y.detach(), *(p.grad.clone() for p in net.parameters() if p.grad is not None)]


def refused(net: nn.Module, rules: Any, match: str, error: type[Exception] = ValueError) -> None:
    before, bits = objects(net), bits_of(net)
    with pytest.raises(error, match=match):
        set_bits(net, rules)
    assert objects(net) == before
    assert bits_of(net) == bits


# What changes


@pytest.mark.parametrize("weight", WIDTHS)
@pytest.mark.parametrize("activation", [1, 3, 8, 32])
def test_the_model_is_that_of_a_conversion_with_these_bits(weight: int, activation: int) -> None:
    net = net_of()
    before = objects(net)
    set_bits(net, (weight, activation, 4))
    assert objects(net) == before
    expected = net_of(LowBitConfig(weight, activation, 4, gradient_noise=False))
    for new, old in zip(outcome(net), outcome(expected), strict=True):
        assert torch.equal(new, old)
    assert bits_of(net) == dict.fromkeys(("1", "2", "4"), (weight, activation, 4))


def test_there_and_back() -> None:
    net = net_of()
    expected = outcome(net)
    for bits in ((8, 8, 8), (32, 32, 32), (2, 1, 3), (1, 2, 6)):
        set_bits(net, bits)
    for new, old in zip(outcome(net), expected, strict=True):
        assert torch.equal(new, old)


def test_32_bits_are_the_float_layer_behind_a_relu() -> None:
    net = net_of()
    set_bits(net, (32, 32, 32))
    float_net = net_of(None)
    x = float_net[0](images())
    for index in (1, 2, 3, 4):
        x = float_net[index](x if index == 3 else x.relu())
    assert torch.equal(net(images()), float_net[5](x))


def test_what_is_none_stays() -> None:
    net = net_of()
    set_bits(net, Bits(activation=4))
    assert bits_of(net) == dict.fromkeys(("1", "2", "4"), (1, 4, 6))
    set_bits(net, (2, None))
    assert bits_of(net) == dict.fromkeys(("1", "2", "4"), (2, 4, 6))
    set_bits(net, (None, 3, 32))
    assert bits_of(net) == dict.fromkeys(("1", "2", "4"), (2, 3, 32))


def test_float_gradients_get_a_quantizer_when_they_get_bits() -> None:
    net = net_of(LowBitConfig(1, 2)).eval()
    set_bits(net, (1, 2, 32))
    assert bits_of(net)["1"] == (1, 2, None)
    set_bits(net, Bits(gradient=5))
    assert repr(net[1].gradient_quantization) == repr(GradientDoReFa(5))
    assert not net[1].gradient_quantization.training
    own = net[1].gradient_quantization
    set_bits(net, Bits(gradient=32))
    set_bits(net, Bits(gradient=3))
    assert net[1].gradient_quantization is own


def test_settings_of_a_gradient_quantizer_survive() -> None:
    net = net_of()
    set_bits(net, Bits(gradient=32))
    set_bits(net, Bits(gradient=6))
    assert repr(net[1].gradient_quantization) == "GradientDoReFa(bits=6, noise=False)"


def test_rules() -> None:
    net = net_of()
    conversion = set_bits(net, [("*", (2, 2)), Rule(nn.Linear, Bits(weight=4)), ("re:[2]", (8, 8, 8))])
    assert bits_of(net) == {"1": (2, 2, 6), "2": (8, 8, 8), "4": (4, 2, 6)}
    assert {row.name: row.rule for row in conversion.layers} == {
        "0": None, "1": "1: *", "2": "3: re:[2]", "4": "2: Linear", "5": None,
    }  # fmt: skip
    set_bits(net, [(QConv2d, (3, 3))])
    assert bits_of(net) == {"1": (3, 3, 6), "2": (3, 3, 8), "4": (4, 2, 6)}


def test_the_table() -> None:
    net = net_of()
    lines = str(set_bits(net, [("1", (4, 4)), ("4", (1, 2))])).splitlines()
    assert lines[0].split() == ["layer", "was", "weight", "shape", "is", "W", "A", "G", "rule", "note"]
    assert [line.split() for line in lines[2:6]] == [
        ["0", "Conv2d", "4×3×3×3", "float", "float"],
        ["1", "QConv2d", "4×4×3×3", "QConv2d", "4", "4", "6", "1:", "1", "was", "W1", "A2", "G6"],
        ["2", "QConv2d", "4×4×1×1", "QConv2d", "1", "2", "6", "no", "rule"],
        ["4", "QLinear", "8×144", "QLinear", "1", "2", "6", "2:", "4", "unchanged"],
    ]
    assert "rule" not in str(set_bits(net, (1, 1))).splitlines()[0].split()


def test_a_layer_alone_and_a_shared_one() -> None:
    layer = QLinear(4, 4, input_quantization=InputDoReFa(1), weight_quantization=WeightDoReFa(1))
    set_bits(layer, (3, 3))
    assert bits_of(layer) == {"": (3, 3, None)}
    net = nn.ModuleDict({"one": layer, "two": layer})
    set_bits(net, [("two", (4, 4))])
    assert bits_of(net) == {"one": (4, 4, None)}


def test_an_optimizer_and_a_copy() -> None:
    net = net_of()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    twin = copy.deepcopy(net)
    set_bits(net, (2, 2))
    assert bits_of(twin)["1"] == (1, 2, 6)
    before = [p.detach().clone() for p in net.parameters()]
    outcome(net)
    optimizer.step()
    assert not any(torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))


def test_converting_again_after_set_bits() -> None:
    net = net_of()
    set_bits(net, (2, 4, 32))
    quantize_(net, LowBitConfig(2, 4))
    with pytest.raises(ValueError, match="low-bit already, with other quantizers"):
        quantize_(net, CONFIG)


@pytest.mark.parametrize("learned_by", ["lsq", "lsq+", "pact"])
def test_learned_ranges_are_kept(learned_by: Any) -> None:
    config = LowBitConfig(4, 4, range="learned", learned_by=learned_by)
    net = net_of(config)
    for layer in (net[1], net[2], net[4]):
        layer.input_quantization.fit_(torch.rand(1000) * 3)
    before = objects(net)
    values = [p.detach().clone() for p in net.parameters()]
    expected = net(images())
    width = net[1].input_quantization.width()
    set_bits(net, (2, 2))
    assert objects(net) == before
    torch.testing.assert_close(net[1].input_quantization.width(), width)
    outcome(net)
    set_bits(net, (32, 32))
    set_bits(net, (4, 4))
    for new, old in zip(net.parameters(), values, strict=True):
        torch.testing.assert_close(new.detach(), old)
    torch.testing.assert_close(net(images()), expected)


def test_layers_without_quantized_input_take_the_weight_bits() -> None:
    table = QEmbedding(5, embedding_dim=4, weight_quantization=WeightDoReFa(1), output_quantization=Identity())
    convolution = QConv2d_NoAct(2, 2, 1, weight_quantization=WeightDoReFa(1))
    net = nn.Sequential(table, convolution)
    conversion = set_bits(net, (4, 2, 6))
    assert [layer.weight_quantization.bit_width for layer in (table, convolution)] == [4, 4]
    assert isinstance(table.output_quantization, Identity)
    assert [(row.became, row.activation_bits, row.note) for row in conversion.layers] == [
        ("QEmbedding", None, "was W1"), ("QConv2d_NoAct", None, "was W1"),
    ]  # fmt: skip
    set_bits(net, [(nn.Embedding, (8, 8))])
    assert table.weight_quantization.bit_width == 8


def test_projections_of_attention_go_by_its_name_and_type() -> None:
    net = nn.ModuleDict({"attention": QMultiheadAttention(
        4, 2, weight_quantization=WeightDoReFa(1), input_quantization=InputDoReFa(1)
    )})  # fmt: skip
    conversion = set_bits(net, [("attention", (2, 2)), ("*.k_projection", (8, 8))])
    names = ("attention.out_proj", *(f"attention.{letter}_projection" for letter in "qkv"))
    assert bits_of(net) == {name: (8, 8, None) if "k_" in name else (2, 2, None) for name in names}
    assert tuple(row.name for row in conversion.layers) == names
    set_bits(net, [(nn.MultiheadAttention, (3, 3))])
    assert bits_of(net) == dict.fromkeys(names, (3, 3, None))


# Errors


def test_bits_outside_the_set() -> None:
    net = net_of()
    refused(net, (9, 2), "rules: weight must be one of 1…8, or 32 for none, got 9")
    refused(net, (1, 2, 0), "rules: gradient must be one of")
    refused(net, (True, 2), "rules: weight must be an integer", TypeError)
    refused(net, [("*", (2, 2)), ("4", (2, 16))], "rule 2 .4.: activation must be one of")
    refused(net, (None, None), r"rules: Bits\(\) would change nothing; give weight, activation or gradient")
    with pytest.raises(ValueError, match="would change nothing"):
        Bits()


@pytest.mark.parametrize("given", [4, "2", None, (2,), (1, 2, 3, 4), (1.0, 2), LowBitConfig(1, 2)], ids=str)
def test_what_are_no_bits(given: Any) -> None:
    refused(net_of(), given, r"rules must be Bits, or a tuple of weight, .* or a list of rules such as", TypeError)
    refused(net_of(), [("*", given)], r"rule 1 \(\*\) must be Bits, or a tuple of weight, activation", TypeError)


def test_rules_that_match_no_low_bit_layer() -> None:
    net = net_of()
    refused(net, [("0", (2, 2))], r"rule 1 \(0\) matches only what it cannot change \(0: a float Conv2d\); bitorch")
    refused(net, [("*", (2, 2)), ("6", (2, 2))], r"rule 2 \(6\) matches no layer; there are 1, 2, 4")
    refused(net, [("1", (2, 2)), ("*", (4, 4))], "is overruled everywhere by rule 2")
    refused(net, [("1", (2, 2)), ("1", (4, 4))], "rules 1 and 2 have the same match, 1")
    refused(net, [], "the list of rules is empty")


def test_models_without_low_bit_layers() -> None:
    refused(net_of(None), (1, 2), "the model has no low-bit layer; bitorch.quantize_ converts layers")
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got list"):
        set_bits([], (1, 2))  # type: ignore[arg-type]


def test_a_quantizer_of_fixed_bits() -> None:
    net = nn.Sequential(
        QLinear(4, 4, weight_quantization=WeightDoReFa(1), input_quantization=InputDoReFa(1)),
        QLinear(4, 4, weight_quantization=Sign(), input_quantization=InputDoReFa(2)),
    )
    refused(net, (2, 2), "layer '1': Sign always has 1 bit")
    set_bits(net, (1, 4))
    set_bits(net, [("1", Bits(activation=8)), ("0", (4, 4))])
    assert bits_of(net) == {"0": (4, 4, None), "1": (1, 8, None)}


def test_a_layer_that_is_too_wide() -> None:
    net = nn.Sequential(nn.Linear(4, 70_000, device="meta"), nn.Linear(70_000, 4, device="meta"))
    quantize_(net, LowBitConfig(1, 2, 6, first="same", last="same"))
    refused(net, (8, 8, 4), "layer '1': a layer with 70000 inputs per output is too wide for exact sums")
    set_bits(net, [("0", (8, 8)), ("1", (4, 4))])


def test_a_padding_off_the_grid() -> None:
    layer = QConv2d(2, 2, 3, padding=1, pad_value=1 / 3, weight_quantization=WeightDoReFa(1),
                    input_quantization=InputDoReFa(2))  # fmt: skip
    refused(nn.Sequential(layer), (1, 3), "layer '0': pad_value=0.333.* is no multiple of 1/7")
    set_bits(nn.Sequential(layer), (1, 4))


def test_a_quantizer_that_two_layers_share() -> None:
    shared = InputDoReFa(2)
    net = nn.Sequential(*(
        QLinear(4, 4, weight_quantization=WeightDoReFa(1), input_quantization=shared) for _ in range(2)
    ))  # fmt: skip
    message = "layers '0' and '1' share one InputDoReFa, which cannot have both 4 and 2 bits"
    refused(net, [("0", (1, 4))], message)
    refused(net, [("0", (1, 4)), ("1", (1, 2))], message)
    set_bits(net, (1, 4))
    assert shared.bit_width == 4
    set_bits(net, [("0", Bits(weight=3))])
