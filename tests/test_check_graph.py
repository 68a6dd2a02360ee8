"""What holds of every graph: each rule is broken once, and each pass is held to what it promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig, quantize_
from bitorch.deployment.capture.capture import capture
from bitorch.deployment.graph.check_graph import GraphError, check_graph
from bitorch.deployment.graph.graph import Graph, Node
from bitorch.deployment.graph.kinds import CAPTURED, KINDS
from bitorch.deployment.passes.pipeline import READ_PIXELS, Pass, steps
from bitorch.deployment.runtime.compile import PASSES, compile_graph
from capture_oracle import value_of


class Net(nn.Module):
    """A net that has every kind of node which passes remove or make."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.third = nn.Conv2d(4, 4, 1)
        self.act = bitorch.layers.QActivation(bitorch.quantizations.InputDoReFa(2))
        self.last = nn.Linear(16, 3)
        codes = bitorch.quantizations.InputDoReFa
        self.product = bitorch.layers.QMatmul(codes(2), codes(2))
        weights = bitorch.quantizations.WeightAbsMax(2, group_size=4)
        self.groups = bitorch.layers.QLinear(16, 16, input_quantization=codes(2), weight_quantization=weights)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.nn.functional.max_pool2d(self.norm(self.first(x)).relu(), 2)
        x = self.second(x) * 0.5 + self.third(self.act(x) * 0.75)
        tokens = torch.nn.functional.max_pool2d(x, 2).flatten(2)
        y: Tensor = self.last(self.groups(self.product(tokens, tokens).flatten(1)))
        return y


@pytest.fixture(scope="module")
def captured() -> Graph:
    torch.manual_seed(0)
    model = Net()
    quantize_(model, LowBitConfig(2, 2, first="same", last="same"), filter_fn=lambda layer, name: name != "groups")
    found = capture(model.eval(), torch.rand(2, 2, 8, 8))
    found.check()
    return found.graph


def changed(graph: Graph, kind: str, change: Callable[[Node], Node]) -> Graph:
    """The graph with the first node of a kind changed."""
    node = next(node for node in graph if node.kind == kind)
    return graph.replaced({node.name: change(node)})


def with_setting(key: str, value: Any) -> Callable[[Node], Node]:
    return lambda node: replace(node, settings={**node.settings, key: value})


def without(key: str) -> Callable[[Node], Node]:
    return lambda node: replace(node, settings={k: v for k, v in node.settings.items() if k != key})


def test_a_captured_graph_is_fine(captured: Graph) -> None:
    check_graph(captured, CAPTURED, "capture")


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("relu", lambda n: replace(n, kind="sinc"), "of kind 'sinc' is of no kind that there is"),
        ("relu", lambda n: replace(n, kind="lookup"), "of kind 'lookup' must not occur any more"),
        ("relu", lambda n: replace(n, inputs=()), "reads 0 nodes, but must read 1"),
        ("add", lambda n: replace(n, inputs=n.inputs[:1]), "reads 1 nodes, but must read 2"),
        ("relu", lambda n: replace(n, inputs=("last",)), "reads 'last', which is no node before it"),
        ("relu", lambda n: replace(n, inputs=("nowhere",)), "reads 'nowhere', which is no node before it"),
        (
            "relu",
            lambda n: replace(n, shape=(4, 8, 7)),
            r"the shape \[4, 8, 7\], which does not follow from \[4, 8, 8\]",
        ),
        ("low_bit", lambda n: replace(n, shape=(5, 8, 8)), r"the shape \[5, 8, 8\]"),
        ("max_pool", lambda n: replace(n, shape=(4, 3, 4)), r"the shape \[4, 3, 4\]"),
        ("flatten", lambda n: replace(n, shape=(15,)), r"the shape \[15\]"),
        ("relu", with_setting("alpha", 1.0), "has a setting 'alpha', which its kind does not"),
        ("times", without("constant"), "lacks the setting 'constant'"),
        ("times", with_setting("constant", 0.5), "has 'constant' of type float, which must be Tensor"),
        ("low_bit", with_setting("weight", nn.Linear(1, 1)), "has 'weight' of type Linear, which must be Tensor"),
        ("low_bit", with_setting("bits", True), "has 'bits' of type bool, which must be int"),
        ("max_pool", with_setting("stride", (2.0, 2.0)), "has 'stride' of type tuple"),
        ("max_pool", with_setting("stride", [2, 2]), "has 'stride' of type list"),
        ("low_bit", without("dilation"), "lacks the setting 'dilation'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_rule(captured: Graph, kind: str, change: Callable[[Node], Node], message: str) -> None:
    with pytest.raises(GraphError, match=f"after capture: node .*{message}.*fault of bitorch"):
        check_graph(changed(captured, kind, change), CAPTURED, "capture")


def test_names_and_outputs(captured: Graph) -> None:
    twice = Graph((*captured.nodes, captured.nodes[-1]), captured.outputs)
    with pytest.raises(GraphError, match="2 nodes are called 'last'"):
        check_graph(twice, CAPTURED, "capture")
    with pytest.raises(GraphError, match="output 'scores' is no node"):
        check_graph(Graph(captured.nodes, ("scores",)), CAPTURED, "capture")


@pytest.mark.parametrize("number", [i for i, one in enumerate(PASSES) if one.removes], ids=lambda i: PASSES[i].name)
def test_a_pass_that_leaves_what_it_has_promised_to_remove(captured: Graph, number: int) -> None:
    for kind in PASSES[number].removes:

        def lazy(graph: Graph, kind: str = kind) -> Graph:
            """As the pass, but one node of the kind stays."""
            made = PASSES[number](graph)
            left = next(node for node in graph if node.kind == kind)
            return Graph((*made.nodes, replace(left, name="left")), made.outputs)

        passes = [*PASSES[:number], replace(PASSES[number], run=lazy)]
        with pytest.raises(GraphError, match=f"after lazy: node 'left' of kind '{kind}' must not occur"):
            list(steps(captured, passes))


@pytest.mark.parametrize("number", [i for i, one in enumerate(PASSES) if one.makes], ids=lambda i: PASSES[i].name)
def test_a_pass_that_makes_what_it_does_not_say(captured: Graph, number: int) -> None:
    silent = replace(PASSES[number], makes=frozenset())
    with pytest.raises(GraphError, match=rf"after {silent.name}: node .* must not occur any more"):
        list(steps(captured, [*PASSES[:number], silent]))


def test_passes_make_all_that_they_say(captured: Graph) -> None:
    made: dict[str, set[str]] = {}
    before: set[str] = {node.kind for node in captured}
    for name, graph in compile_graph(captured, pixels=True).steps:
        made[name] = made.get(name, set()) | {node.kind for node in graph} - before
        before |= {node.kind for node in graph}
    for one in (READ_PIXELS, *PASSES):
        assert one.makes - {"values"} <= made[one.name], one.name


def test_passes_print_what_they_do() -> None:
    lines = [str(one) for one in PASSES]
    made = "code_matmul, codes, group_product, product, scale, values"
    assert f"split_quantized: low_bit, low_bit_matmul, quantizer → {made}" in lines
    assert "swap_pools" in lines
    assert str(Pass(lambda graph: graph)) == "<lambda>"


def test_compiling_names_the_pass_that_is_wrong(captured: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(graph: Graph) -> Graph:
        return changed(graph, "product", without("zero_point"))

    with pytest.raises(GraphError, match="after wrong: node 'first/sum' of kind 'product' lacks the setting"):
        compile_graph(captured, passes=[*PASSES, Pass(wrong)])


#: Settings of each elementwise kind that has any, and whether it is monotone and rises with them.
SETTINGS: list[tuple[str, dict[str, Any], bool, bool]] = [
    ("relu", {}, True, True),
    ("hardsigmoid", {}, True, True),
    ("hardswish", {}, False, False),
    ("sigmoid", {}, False, False),
    ("tanh", {}, False, False),
    ("silu", {}, False, False),
    ("gelu", {}, False, False),
    ("gelu_tanh", {}, False, False),
    *((kind, {}, False, False) for kind in ("selu", "mish", "logsigmoid", "softsign", "erf", "exp", "log", "sqrt")),
    *((kind, {}, False, False) for kind in ("rsqrt", "reciprocal", "abs", "sign")),
    ("celu", {"alpha": 0.5}, False, False),
    ("softplus", {"beta": 0.5, "threshold": 20.0}, False, False),
    ("threshold", {"threshold": 0.5, "value": 0.25}, True, True),
    ("threshold", {"threshold": 0.5, "value": 0.75}, False, False),
    ("hardshrink", {"lambda": 0.5}, True, True),
    ("softshrink", {"lambda": 0.5}, True, True),
    ("elu", {"alpha": [1.0, 0.5]}, False, False),
    ("clamp", {"low": -0.5, "high": None}, True, True),
    ("clamp", {"low": 1.0, "high": -1.0}, True, True),
    *(("leaky_relu", {"slope": [s, 0.1]}, s > 0, s > 0) for s in (0.25, 0.0, -0.5)),
    ("plus", {"constant": [-3.0, 0.5]}, True, True),
    ("plus", {"constant": [torch.inf, 0.5]}, True, False),
    *(("times", {"constant": [c, 2.0]}, True, c > 0) for c in (0.5, 0.0, -2.0)),
    ("times", {"constant": [torch.inf, 2.0]}, False, False),
    *(("divide", {"constant": [c, 2.0]}, True, c > 0) for c in (3.0, -3.0)),
    ("divide", {"constant": [0.0, 2.0]}, False, False),
    *(("batch_norm", {"multiply": [m, 1.0], "offset": [1.0, -1.0]}, True, m > 0) for m in (1.5, 0.0, -1.5)),
]


@pytest.mark.parametrize(("kind", "numbers", "is_monotone", "is_rising"), SETTINGS)
def test_which_way_kinds_go(kind: str, numbers: dict[str, Any], is_monotone: bool, is_rising: bool) -> None:
    """What a row says, and what the numbers do: a row that promises nothing may be wrong about nothing."""
    settings = {key: torch.tensor(v) if isinstance(v, list) else v for key, v in numbers.items()}
    row = KINDS[kind]
    assert (row.monotone(settings), row.rising(settings)) == (is_monotone, is_rising)
    points = torch.tensor(
        [-torch.inf, -1e38, -7.5, -3.0, -1.4, -1.0, -1e-40, 0.0, 1e-40, 0.3, 1.0, 6.5, 1e38, torch.inf]
    )
    x = points.unsqueeze(1).repeat(1, 2)  # [points, 2 channels]
    node = Node("y", kind, ("x",), (2,), lambda x: x, settings)
    with np.errstate(all="ignore"):
        y = value_of(node, x)
    inner = y[1:-1]  # NaN may be at the ends
    if is_monotone:
        assert bool(((inner[1:] >= inner[:-1]).all(0) | (inner[1:] <= inner[:-1]).all(0)).all())
    if is_rising:
        assert bool((y[1:] >= y[:-1]).all())


def test_rows_of_elementwise_kinds() -> None:
    """Each is among the cases above, but for scale, which is times by another name; rows agree with themselves."""
    elementwise = {name for name, row in KINDS.items() if row.elementwise}
    assert elementwise - {"scale"} == {kind for kind, *_ in SETTINGS}
    for name, row in KINDS.items():
        assert row.name == name
        assert row.doc.endswith(".")
        assert not (row.sums and row.exact)
