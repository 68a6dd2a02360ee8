"""Rules: which layers they match, which of them decides, and that a mistake in them is an error before any change."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig, Rule, quantize_
from bitorch.layers import AbsorbedReLU, QConv2d, QLinear

W1A2 = LowBitConfig(1, 2)
W4A4 = LowBitConfig(4, 4)
W8A8 = LowBitConfig(8, 8, first="same", last="same")
SAME = LowBitConfig(2, 2, first="same", last="same")


class Net(nn.Module):
    """Convertible: stem.conv, layer1.0.conv1, layer1.0.conv2, layer1.1.conv1, layer2.fc, head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 1)})
        self.layer1 = nn.Sequential(
            nn.ModuleDict({"conv1": nn.Conv2d(4, 4, 1), "conv2": nn.Conv2d(4, 4, 1)}),
            nn.ModuleDict({"conv1": nn.Conv2d(4, 4, 1)}),
        )
        self.layer2 = nn.ModuleDict({"fc": nn.Linear(4, 4)})
        self.memory = nn.Bilinear(4, 4, 4)
        self.head = nn.Linear(4, 2)


NAMES = ["stem.conv", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer2.fc", "head"]
INNER = NAMES[1:-1]


def weight_bits(model: nn.Module) -> dict[str, int]:
    """Return the weight bits of the low-bit layers, by name."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, QConv2d | QLinear)}
    return {name: layer.weight_quantization.bit_width for name, layer in layers.items()}


def kinds(model: nn.Module) -> list[tuple[str, int, type]]:
    return [(name, id(module), type(module)) for name, module in model.named_modules(remove_duplicate=False)]


def refused(match: str, rules: Any, filter_fn: Any = None, error: type[Exception] = ValueError) -> None:
    """Assert that quantize_ raises an error that says so, and leaves the model as it was."""
    net = Net()
    before = kinds(net)
    with pytest.raises(error, match=match):
        quantize_(net, rules, filter_fn)
    assert kinds(net) == before


# Matches


@pytest.mark.parametrize(
    ("match", "names"),
    [
        ("layer1.0.conv1", ["layer1.0.conv1"]),
        ("layer1.*", ["layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1"]),
        ("*.conv1", ["layer1.0.conv1", "layer1.1.conv1"]),
        ("layer1.?.conv[2-9]", ["layer1.0.conv2"]),
        ("*", INNER),
        (r"re:layer1\.\d\.conv1", ["layer1.0.conv1", "layer1.1.conv1"]),
        (r"re:.*2\..*", ["layer2.fc"]),
        (nn.Linear, ["layer2.fc"]),
        (nn.Conv2d, ["layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1"]),
        ((nn.Conv2d, nn.Linear), INNER),
        ((nn.Conv1d, nn.Linear), ["layer2.fc"]),
    ],
    ids=str,
)
def test_matches(match: Any, names: list[str]) -> None:
    for rule in (Rule(match, W1A2), (match, W1A2)):
        net = Net()
        quantize_(net, [rule])
        assert list(weight_bits(net)) == names


def test_a_regular_expression_has_to_match_the_whole_name() -> None:
    refused("rule 1 .re:layer1. matches no layer", [("re:layer1", W1A2)])


def test_case_counts() -> None:
    refused("matches no layer; there are stem.conv", [("LAYER*", W1A2)])


def test_later_rules_win() -> None:
    net = Net()
    quantize_(net, [("*", W1A2), ("layer1.*", W4A4), ("*.conv2", None), (nn.Linear, SAME)])
    assert weight_bits(net) == {"layer1.0.conv1": 4, "layer1.1.conv1": 4, "layer2.fc": 2, "head": 2}


def test_what_no_rule_matches_stays_float() -> None:
    net = Net()
    conversion = quantize_(net, [("layer2.*", W1A2)])
    assert list(weight_bits(net)) == ["layer2.fc"]
    found = {row.name: row.note for row in conversion.layers if row.rule == ""}
    assert found == dict.fromkeys(["stem.conv", *INNER[:3], "head"], "no rule")


def test_a_module_matches_by_any_of_its_names() -> None:
    net = Net()
    net.alias = net.layer2
    quantize_(net, [("alias.fc", W1A2)])
    assert list(weight_bits(net)) == ["layer2.fc"]
    assert net.alias is net.layer2


def test_a_subclass_is_not_its_type() -> None:
    class Mine(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) ** 2

    net = nn.Sequential(Mine(4, 4), nn.Linear(4, 4))
    with pytest.raises(ValueError, match=r"rule 1 \(Mine\) is for Mine, which cannot be converted; supported are nn.L"):
        quantize_(net, [(Mine, SAME)])
    quantize_(net, [(nn.Linear, SAME)])
    assert list(weight_bits(net)) == ["1"]


# First and last


def test_the_config_that_decides_says_what_the_ends_get() -> None:
    net = Net()
    quantize_(net, [("*", LowBitConfig(1, 2, first=8)), (nn.Linear, LowBitConfig(4, 4, last="same"))])
    assert weight_bits(net) == {"stem.conv": 8, **dict.fromkeys(INNER[:3], 1), "layer2.fc": 4, "head": 4}


def test_a_named_layer_gets_the_bits_wherever_it_stands() -> None:
    net = Net()
    conversion = quantize_(net, [("*", W1A2), ("stem.conv", LowBitConfig(8, 8)), ("head", LowBitConfig(4, 8, last=8))])
    assert weight_bits(net) == {"stem.conv": 8, **dict.fromkeys(INNER, 1), "head": 4}
    assert {row.note for row in conversion.layers if row.name in ("stem.conv", "head")} == {""}


def test_a_glob_that_matches_the_last_layer_only_does_not_name_it() -> None:
    net = Net()
    conversion = quantize_(net, [("*", W1A2), ("hea?", W4A4)])
    assert list(weight_bits(net)) == INNER
    assert {row.name: row.note for row in conversion.layers}["head"] == "last layer"


def test_ends_named_by_the_config() -> None:
    net = Net()
    quantize_(net, [("*", LowBitConfig(1, 2, first_layers=("layer1.0.conv1",), last_layers=("layer2.fc",)))])
    assert list(weight_bits(net)) == ["stem.conv", "layer1.0.conv2", "layer1.1.conv1", "head"]
    refused("first_layers names 'nose'", [("*", W1A2), ("head", LowBitConfig(1, 2, first_layers=("nose",)))])


# Errors


def test_rules_that_match_nothing() -> None:
    refused(r"rule 2 \(layer1.0.conv3\) matches no layer; did you mean 'layer1.0.conv[12]'", [
        ("*", W1A2), ("layer1.0.conv3", None),
    ])  # fmt: skip
    refused(r"rule 1 \(layer9\.\*\) matches no layer; did you mean|there are", [("layer9.*", W1A2)])
    refused(r"rule 1 \(layer1\) names a Sequential.*'layer1\.\*' matches the layers in it: layer1", [("layer1", W1A2)])
    refused("rule 1 .Conv1d. matches no layer; the model's layers are of type Conv2d, Linear", [(nn.Conv1d, W1A2)])


def test_layers_that_cannot_be_converted() -> None:
    for match in ("memory", "mem*", "re:m.*"):
        for config in (W1A2, None):
            refused(r"\(memory: Bilinear is not supported\); supported are nn.Linear", [("*", W1A2), (match, config)])
    refused(
        "rule 1 .Bilinear. is for Bilinear, which cannot be converted; supported are nn.Linear", [(nn.Bilinear, W1A2)]
    )


def test_rules_that_are_overruled_everywhere() -> None:
    refused(
        r"rule 1 \(layer1.\*\) is overruled everywhere by rule 2 \(\*\), because later rules win; move it behind",
        [("layer1.*", W4A4), ("*", W1A2)],
    )
    refused(
        r"rule 1 \(Conv2d\) is overruled everywhere by rule 2 \(layer1.\*\) and rule 3 \(stem.conv\)",
        [(nn.Conv2d, W4A4), ("layer1.*", W1A2), ("stem.conv", None)],
    )


@pytest.mark.parametrize("same", ["layer1.*", nn.Linear, (nn.Conv2d, nn.Linear)], ids=str)
def test_the_same_match_twice(same: Any) -> None:
    again = same[::-1] if isinstance(same, tuple) else same
    refused("rules 1 and 3 have the same match, .*; leave one of them out", [
        (same, W1A2), ("head", W4A4), (again, None),
    ])  # fmt: skip


def test_a_type_and_a_tuple_of_it_are_the_same_match() -> None:
    refused("rules 1 and 2 have the same match, Linear", [(nn.Linear, W1A2), ((nn.Linear,), W4A4)])


def test_a_filter_that_leaves_a_rule_nothing() -> None:
    rules = [("layer1.*", W1A2), ("layer2.fc", W4A4)]
    refused("filter_fn leaves out every layer of rule 2: layer2.fc", rules, ["layer1.0.conv1"])
    net = Net()
    conversion = quantize_(net, rules, ["layer1.0.conv1", "layer2.fc"])
    assert weight_bits(net) == {"layer1.0.conv1": 1, "layer2.fc": 4}
    assert {row.name: row.note for row in conversion.layers}["layer1.0.conv2"] == "left out by filter_fn"


@pytest.mark.parametrize("match", ["", "re:"])
def test_an_empty_match(match: str) -> None:
    refused("rule 2: match must be a name, a glob such as '[*]', or 're:…', got '", [("*", W1A2), (match, W1A2)])


def test_an_invalid_regular_expression() -> None:
    with pytest.raises(ValueError, match=r"match 're:layer\(' is no regular expression: missing \)"):
        Rule("re:layer(", W1A2)
    refused(r"rule 1: match 're:\[' is no regular expression", [("re:[", W1A2)])


@pytest.mark.parametrize("match", [3, None, int, (), (nn.Linear, int), ("a", "b"), nn.Linear(1, 1)], ids=str)
def test_a_match_of_another_type(match: Any) -> None:
    with pytest.raises(TypeError, match="match must be a name, a glob, 're:…', a layer type"):
        Rule(match, W1A2)


def test_what_are_no_rules() -> None:
    refused("the list of rules is empty; a first rule", [])
    refused("rule 2 must be a bitorch.Rule or a pair", [("*", W1A2), "head"], error=TypeError)
    refused(
        r"rule 1 \(\*\) must give a LowBitConfig such as LowBitConfig\(4, 4\), or None, got \(1, 2\)",
        [("*", (1, 2))],
        error=TypeError,
    )
    for nothing in ({"*": W1A2}, ("*", W1A2), "rules.yaml", None):
        refused(
            "config must be a LowBitConfig such as .*, got .* or a list of rules .* bitorch.load_rules reads a file",
            nothing,
            error=TypeError,
        )


def test_a_tuple_of_rules() -> None:
    net = Net()
    quantize_(net, (Rule("*", W1A2), ("head", W4A4)))
    assert weight_bits(net)["head"] == 4


def test_rules_that_make_nothing_low_bit() -> None:
    refused("no layer would become low-bit", [("stem.*", W1A2)])
    net = Net()
    before = kinds(net)
    quantize_(net, [("*", None)])  # as 32 bits everywhere
    assert kinds(net) == before


def test_a_layer_that_is_too_wide_is_named() -> None:
    net = nn.Sequential(*(nn.Linear(70_000, 2, device="meta") for _ in range(2)))
    before = kinds(net)
    with pytest.raises(ValueError, match="layer '1': a layer with 70000 inputs per output is too wide"):
        quantize_(net, [("*", SAME), ("1", W8A8)])
    assert kinds(net) == before


# Again


RULES = [Rule("*", LowBitConfig(1, 2, first=8)), Rule("layer1.*", W4A4), Rule("*.conv2", None), Rule("head", W4A4)]


def test_a_second_call_changes_nothing() -> None:
    net = Net()
    quantize_(net, RULES)
    before = kinds(net)
    conversion = quantize_(net, RULES)
    assert kinds(net) == before
    assert {row.name: row.note for row in conversion.layers}["head"] == "low-bit already"


def test_one_part_after_the_other() -> None:
    net = Net()
    quantize_(net, [("layer1.*", W1A2)])
    conversion = quantize_(net, [("layer2.*", W4A4)])
    assert weight_bits(net) == {**dict.fromkeys(INNER[:3], 1), "layer2.fc": 4}
    assert {row.name: row.note for row in conversion.layers}["layer1.0.conv1"] == "low-bit already, no rule"


def test_low_bit_layers_that_a_rule_wants_otherwise() -> None:
    net = Net()
    quantize_(net, [("layer1.*", W1A2)])
    before = kinds(net)
    with pytest.raises(ValueError, match=r"'layer1.0.conv2' is low-bit already, but rule 2: \*.conv2 leaves it float"):
        quantize_(net, [("layer1.*", W1A2), ("*.conv2", None)])
    with pytest.raises(ValueError, match=r"'layer1.0.conv1' is low-bit already, with other quantizers.*bitorch.set_"):
        quantize_(net, [(nn.Conv2d, W4A4)])
    assert kinds(net) == before


# The table


def test_the_table_says_which_rule_decided() -> None:
    net = Net()
    conversion = quantize_(net, RULES)
    assert {row.name: row.rule for row in conversion.layers} == {
        "stem.conv": "1: *",
        "layer1.0.conv1": "2: layer1.*",
        "layer1.0.conv2": "3: *.conv2",
        "layer1.1.conv1": "2: layer1.*",
        "layer2.fc": "1: *",
        "memory": None,
        "head": "4: head",
    }
    lines = str(conversion).splitlines()
    assert lines[0].split() == ["layer", "was", "weight", "shape", "is", "W", "A", "G", "rule", "note"]
    column = lines[0].index("rule")
    assert [line[column:].strip() for line in lines[2:5]] == ["1: *         first layer", "2: layer1.*", "3: *.conv2"]
    assert "rule" not in str(quantize_(Net(), W1A2)).splitlines()[0].split()


def test_relus_are_absorbed_where_the_deciding_config_says_so() -> None:
    net: Any = nn.Sequential(*(m for _ in range(4) for m in (nn.Linear(4, 4), nn.ReLU())))
    quantize_(net, [("*", SAME), ("4", LowBitConfig(2, 2, absorb_relu=True))])
    assert [isinstance(net[i], AbsorbedReLU) for i in (1, 3, 5, 7)] == [False, True, False, False]


def test_the_public_names() -> None:
    assert bitorch.Rule is Rule
    assert bitorch.quantize_ is quantize_
