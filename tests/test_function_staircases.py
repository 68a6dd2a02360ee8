"""Codes behind SiLU and its like: thresholds against every integer and many floats, and nets of them, deployed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig, PackedModel, deploy, verify
from bitorch.deployment.graph.graph import Node
from bitorch.deployment.graph.kinds import KINDS
from bitorch.deployment.graph.last_bits import ROOM, codes_between, is_bounded
from bitorch.deployment.runtime import every_integer
from bitorch.deployment.runtime.every_integer import staircase_of_every_integer
from bitorch.deployment.runtime.threshold_search import Staircase
from bitorch.layers import QConv2d, QLinear
from bitorch.models import build_external
from bitorch.quantizations import InputDoReFa, InputLSQ, InputPACT, Quantization, WeightDoReFa

Function = Callable[[Tensor], Tensor]
LOW, HIGH = -700, 650
FUNCTIONS: dict[str, Function] = {
    "silu": F.silu,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "elu": F.elu,
    "falling elu": lambda x: F.elu(x, -0.5),
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "falling leaky": lambda x: F.leaky_relu(x, -0.5),
    "square": torch.square,
    "mish": F.mish,
    "softplus": F.softplus,
    "softplus that jumps": lambda x: F.softplus(x, 2.0, 1.0),
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 0.6),
    "erf": torch.erf,
    "exp": torch.exp,
    "logsigmoid": F.logsigmoid,
    "softsign": F.softsign,
    "abs": torch.abs,
    "sign": torch.sign,
    "threshold": lambda x: F.threshold(x, 0.2, -0.3),
    "falling threshold": lambda x: F.threshold(x, 0.1, 0.9),
    "hardshrink": F.hardshrink,
    "softshrink": F.softshrink,
    "tanhshrink": F.tanhshrink,
}


def pact(bits: int) -> Quantization:
    quantizer = InputPACT(bits)
    quantizer.alpha.data.fill_(2.3)
    quantizer._mark_set()
    return quantizer


def lsq_plus(bits: int) -> Quantization:
    """With an offset such that the dip of SiLU and hardswish is in its range."""
    quantizer = InputLSQ(bits, offset=True)
    quantizer.step.data.fill_(1.2 / 2**bits)
    assert quantizer.offset is not None
    quantizer.offset.data.fill_(-0.4)
    quantizer._mark_set()
    return quantizer


def signed_lsq(bits: int) -> Quantization:
    quantizer = InputLSQ(bits)
    quantizer.step.data.fill_(1.7 / 2**bits)
    quantizer.range_zero.fill_(2 ** (bits - 1))
    quantizer._mark_set()
    return quantizer


def dorefa(bits: int) -> Quantization:
    return InputDoReFa(bits, variant="paper")


QUANTIZERS: dict[str, Callable[[int], Quantization]] = {
    "unit": dorefa,
    "pact": pact,
    "lsq+": lsq_plus,
    "lsq": signed_lsq,
}
SLOPES = torch.tensor([1.0, -1.0, 0.0, -0.0, 1e-6, -1e-6, 30.0, -30.0, 0.3, 1e30])


def batch_norm(slopes: Tensor, seed: int, spread: float) -> nn.BatchNorm2d:
    torch.manual_seed(seed)
    norm = nn.BatchNorm2d(len(slopes)).eval()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_(0, spread / 2)
    norm.running_var.uniform_(spread**2 / 10, spread**2)
    nn.init.normal_(norm.bias, 0.3, 0.5)
    norm.weight.data.copy_(slopes)
    return norm


def codes_of(function: Function, quantizer: Quantization, norm: nn.BatchNorm2d) -> Function:
    arithmetic = quantizer.arithmetic()
    assert arithmetic is not None

    def codes(d: Tensor) -> Tensor:
        with torch.no_grad():
            return arithmetic.stored(function(norm(d * torch.tensor(0.0173))))

    return codes


def apply(staircase: Staircase, x: Tensor) -> Tensor:
    """Codes [P, C] of x [P, C], by comparison and by table."""
    thresholds, x = staircase.thresholds, x.unsqueeze(-1)
    counts = torch.where(staircase.descending.unsqueeze(-1), x <= thresholds, x >= thresholds).sum(-1)
    if staircase.table is None:
        return counts
    channels = x.shape[1]
    table = staircase.table.expand(channels, -1)
    return table[torch.arange(channels), counts].long()


def every(low: int, high: int, channels: int) -> Tensor:
    return torch.arange(low, high + 1).unsqueeze(1).repeat(1, channels)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_integer_gets_its_code(function: str, quantizer: str, bits: int) -> None:
    if quantizer == "lsq" and bits == 1:
        pytest.skip("signed from 2 bits on")
    norm = batch_norm(SLOPES, bits, 5.0)
    codes = codes_of(FUNCTIONS[function], QUANTIZERS[quantizer](bits), norm)
    points = every(LOW, HIGH, len(SLOPES))
    expected = codes(points.float()[..., None, None]).flatten(1)
    staircase = staircase_of_every_integer(codes, (len(SLOPES), 1, 1), 2**bits - 1, LOW, HIGH)
    changes = int((expected[1:] != expected[:-1]).sum(0).max())
    if staircase is None:
        assert changes > 15
        return
    assert torch.equal(apply(staircase, points).float(), expected)
    assert staircase.thresholds.dtype == torch.int32
    steps = expected.diff(dim=0)
    falls_and_rises = bool(((steps < 0).any(0) & (steps > 0).any(0)).any())
    assert (staircase.table is not None) == falls_and_rises
    if quantizer in ("unit", "pact") and function in ("silu", "hardswish", "sigmoid", "tanh", "elu", "gelu"):
        assert not falls_and_rises


def test_many_integers_are_gone_through_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    norm = batch_norm(SLOPES, 3, 5.0)
    for quantizer in (dorefa(2), lsq_plus(2)):
        codes = codes_of(F.silu, quantizer, norm)
        whole = staircase_of_every_integer(codes, (10, 1, 1), 3, -90, 120)
        for at_once in (1, 70, 71 * 10):
            monkeypatch.setattr(every_integer, "_AT_ONCE", at_once)
            parts = staircase_of_every_integer(codes, (10, 1, 1), 3, -90, 120)
            assert whole is not None
            assert parts is not None
            assert torch.equal(parts.thresholds, whole.thresholds)
            assert torch.equal(parts.descending, whole.descending)
            assert (parts.table is None) == (whole.table is None) == (quantizer.name != "lsq")
        monkeypatch.undo()


def test_thresholds_are_those_of_a_monotone_chain() -> None:
    """Where both searches can be asked, they say the same."""
    from bitorch.deployment.runtime.threshold_search import integer_staircase

    slopes = torch.tensor([1.0, -1.0, 0.0, 1e-6, -30.0])
    for bits in (1, 2, 4):
        codes = codes_of(torch.relu, dorefa(bits), batch_norm(slopes, bits, 5.0))
        one = staircase_of_every_integer(codes, (5, 1, 1), 2**bits - 1, LOW, HIGH)
        other = integer_staircase(codes, (5, 1, 1), 2**bits - 1, LOW, HIGH)
        assert one is not None
        assert one.table is None
        assert torch.equal(one.thresholds, other.thresholds)
        assert torch.equal(one.descending, other.descending)


def test_what_is_no_staircase_is_refused() -> None:
    waves = lambda d: torch.sin(d).clamp(0, 1).mul(3).round()  # noqa: E731
    assert staircase_of_every_integer(waves, (2, 1, 1), 3, LOW, HIGH) is None
    last = lambda d: torch.where(d == HIGH, torch.nan, 0.0)  # noqa: E731
    assert staircase_of_every_integer(last, (2, 1, 1), 3, LOW, HIGH) is None
    never_asked = lambda d: pytest.fail("too many")  # noqa: E731
    assert staircase_of_every_integer(never_asked, (2, 1, 1), 3, 0, every_integer._MOST_NUMBERS // 2) is None


class Net(nn.Module):
    """A layer, a BatchNorm with slopes of all kinds, a function, and a layer whose quantizer reads it."""

    def __init__(self, function: Function, quantizer: Quantization, slopes: Sequence[float]) -> None:
        super().__init__()
        channels = len(slopes)
        torch.manual_seed(1)
        weights = WeightDoReFa(2, variant="paper")
        self.one = QConv2d(3, channels, 3, bias=False, input_quantization=dorefa(2), weight_quantization=weights)
        self.norm = batch_norm(torch.tensor(slopes), 2, 1.0)
        self.function = function
        self.two = QConv2d(channels, 4, 3, input_quantization=quantizer, weight_quantization=weights)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.two(self.function(self.norm(self.one(x))))
        return y


def functions_of(packed: PackedModel) -> list[str]:
    operations, _ = packed.program()
    return [operation["function"] for operation in operations if operation["op"] == "activation"]


def operations_of(packed: PackedModel) -> list[str]:
    operations, _ = packed.program()
    return [operation["op"] for operation in operations]


@pytest.mark.parametrize("bits", [2, *(pytest.param(bits, marks=pytest.mark.slow) for bits in (1, 4, 8))])
@pytest.mark.parametrize("quantizer", ["unit", "lsq+"])
@pytest.mark.parametrize(
    "function",
    [
        *("silu", "gelu", "gelu tanh", "hardswish", "tanh", "elu", "falling leaky", "mish", "softplus", "selu", "celu"),
        *("erf", "logsigmoid", "softsign", "abs", "sign", "falling threshold", "hardshrink", "softshrink"),
    ],
)
@pytest.mark.one_in(2)
def test_nets_have_no_function_before_a_quantizer_of_few_levels(function: str, quantizer: str, bits: int) -> None:
    net = Net(FUNCTIONS[function], QUANTIZERS[quantizer](bits), [1.0, -1.0, 0.0, 1e-6, 30.0, -3.0, 0.3]).eval()
    packed = deploy(net, torch.rand(2, 3, 9, 9))
    verification = verify(net, packed, torch.rand(10, 3, 9, 9))
    assert verification, str(verification)
    operations = operations_of(packed)
    if bits <= 2:
        assert "activation" not in operations
        assert "mul" not in operations
    if bits == 8 and function in ("silu", "sigmoid", "gelu"):
        assert functions_of(packed) == [function]  # too many levels for comparisons


def test_a_dip_is_a_table_behind_thresholds() -> None:
    net = Net(F.silu, lsq_plus(2), [1.0, -1.0, 0.5]).eval()
    packed = deploy(net, torch.rand(2, 3, 9, 9))
    operations, arrays = packed.program()
    assert [operation["op"] for operation in operations] == [
        "input",
        "quantize",
        "conv2d",
        "lookup",
        "conv2d",
        "output",
    ]
    counted, lookup = operations[2], operations[3]
    assert (counted["bits"], lookup["bits"]) == (3, 2)
    assert counted["codes"] == lookup["input"] == f"{lookup['output']}/steps"
    assert arrays[lookup["table"]].shape in ((8,), (3, 8))


def chain(function: str, **settings: Tensor) -> list[Node]:
    def node(name: str, kind: str, function: Function, **settings: object) -> Node:
        return Node(name, kind, ("x",), (1,), function, settings)

    return [
        node("relu", "relu", torch.relu),
        node("function", function, FUNCTIONS[function], **settings),
        node("times", "times", lambda x: x * -2.0, constant=torch.tensor([-2.0])),
    ]


def test_where_last_bits_decide_either_code_is_the_models() -> None:
    steps = chain("silu")
    codes = Node("codes", "codes", ("times",), (1,), lambda x: (x * -1.5).round().clamp(0, 3))
    between = codes_between(steps, codes)
    assert between is not None
    # 3·silu(x) = 0.5 at a number between these two
    low, high = torch.tensor(0.2), torch.tensor(0.4)
    while float(high.nextafter(low)) != float(low):
        middle = (low + high) / 2
        low, high = (low, middle) if float(F.silu(middle)) * 3 > 0.5 else (middle, high)
    x = torch.stack([low * (1 - 8 * ROOM), low, high, high * (1 + 8 * ROOM)])
    least, most = between(x)
    assert least.tolist() == [0, 0, 0, 1]
    assert most.tolist() == [0, 1, 1, 1]
    assert codes_between([steps[0], steps[2]], codes) is None


def test_one_function_of_free_last_bits_is_gone_through_and_nothing_that_bends_behind_it() -> None:
    silu = chain("silu")
    assert is_bounded(silu)
    assert is_bounded([*chain("hardswish"), *chain("hardswish")])
    assert is_bounded([*chain("hardswish"), *silu])
    assert not is_bounded([*silu, *silu])
    assert not is_bounded([*silu, *chain("hardswish")])


class OfFloats(nn.Module):
    """A function of a float tensor that is no sum of a low-bit layer, and a layer whose quantizer reads it."""

    def __init__(self, function: Function, quantizer: Quantization, slopes: Sequence[float]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.norm = batch_norm(torch.tensor(slopes), 2, 1.0)
        self.function = function
        weights = WeightDoReFa(2, variant="paper")
        self.layer = QLinear(len(slopes), 4, input_quantization=quantizer, weight_quantization=weights)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        y = self.norm((x + other)[..., None, None]).flatten(1)
        z: Tensor = self.layer(self.function(y))
        return z


@pytest.mark.parametrize("bits", [2, *(pytest.param(bits, marks=pytest.mark.slow) for bits in (1, 4))])
@pytest.mark.parametrize(
    "function",
    [
        *("silu", "gelu", "gelu tanh", "hardswish", "sigmoid", "tanh", "elu", "hardsigmoid", "mish", "softplus"),
        *("selu", "celu", "erf", "exp", "logsigmoid"),
    ],
)
@pytest.mark.parametrize("quantizer", ["unit", "pact"])
def test_floats_are_compared_where_a_function_is_known_to_rise(function: str, quantizer: str, bits: int) -> None:
    slopes = [1.0, -1.0, 3e-3, 30.0, -30.0, 0.7]
    net = OfFloats(FUNCTIONS[function], QUANTIZERS[quantizer](bits), slopes).eval()
    packed = deploy(net, torch.rand(2, 6), torch.rand(2, 6))
    # hardsigmoid rises to the bit, so it goes in front of flatten, behind which the clip's division stays
    assert ("activation" in operations_of(packed)) == (function == "hardsigmoid" and quantizer == "pact")
    x = torch.randn(3000, 6) * 4
    verification = verify(net, packed, x, torch.zeros(1).expand(3000, 6).contiguous())
    assert verification, str(verification)


@pytest.mark.parametrize(
    ("function", "quantizer"),
    [
        ("silu", "lsq+"),
        ("gelu", "lsq+"),
        ("hardswish", "lsq"),
        ("falling leaky", "unit"),
        ("square", "unit"),
        ("mish", "lsq+"),
        ("softplus that jumps", "unit"),
        ("falling threshold", "unit"),
        ("abs", "unit"),
        ("softsign", "pact"),
    ],
)
def test_floats_behind_what_bends_are_computed(function: str, quantizer: str) -> None:
    net = OfFloats(FUNCTIONS[function], QUANTIZERS[quantizer](2), [1.0, -1.0, 0.7]).eval()
    packed = deploy(net, torch.rand(2, 3), torch.rand(2, 3))
    assert {"activation", "mul"} & set(operations_of(packed))


@pytest.mark.parametrize("function", ["silu", "hardswish", "gelu", "gelu tanh", "mish"])
def test_a_function_that_bends_lies_where_its_kind_says(function: str) -> None:
    lowest = KINDS[function.replace(" ", "_")].lowest
    assert lowest is not None
    x = torch.linspace(-20, 0, 200001)
    y = FUNCTIONS[function](x)
    assert lowest <= float(y.min()) <= lowest + 2e-4
    assert float(y.max()) <= 0
    assert bool((FUNCTIONS[function](torch.linspace(0, 20, 20001)).diff() >= 0).all())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenetv3_small_100", "mobilenetv3_large_100"])
@pytest.mark.parametrize(("weight_bits", "bits"), [(1, 2), (2, 4)])
def test_networks_that_people_run(name: str, weight_bits: int, bits: int) -> None:
    torch.manual_seed(0)
    net = build_external(f"timm:{name}", 10)
    bitorch.quantize_(net, LowBitConfig(weight_bits, bits))
    net.train()
    with torch.no_grad():
        for _ in range(2):
            net(torch.rand(4, 3, 64, 64))
    net.eval()
    packed = deploy(net, torch.rand(1, 3, 64, 64))
    verification = verify(net, packed, torch.rand(2, 3, 64, 64))
    assert verification, str(verification)
    operations, _ = packed.program()
    read = {operation["input"] for operation in operations if operation["op"] == "quantize"}
    made = {operation["output"]: operation["function"] for operation in operations if operation["op"] == "activation"}
    assert not read & made.keys()
