"""benchmarks/networks.py: int8 engines get the network that it is, they are checked, and the pages say who won."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layers_cases import Layer
from networks import Options
from networks_capture import captured
from networks_graph import IMAGE, Graph, Node, Range
from networks_models import NETS, TOKENS, awaken, low_bit_config, settle
from networks_names import NO_AMX, ONNXRUNTIME_INT8, OPENVINO_INT8, OURS
from networks_results import Results, Row, from_json, markdown, to_json, together

ROOT = Path(__file__).parent.parent
SIZE = 12


class Everything(nn.Module):
    """Each kind of node of the graph, each way of folding a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.MaxPool2d(2), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.SiLU())
        self.point = nn.Sequential(nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.Sigmoid())
        self.narrow = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU6())
        self.late = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.AvgPool2d(2))
        self.scores = nn.Linear(16 * 9, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.depthwise(x)
        x = F.relu(x + self.point(y * self.gate(y)))
        one, two = x.chunk(2, 1)
        x = torch.cat([one, self.narrow(two)], 1)
        b, c, h, w = x.shape
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, c, h, w)
        scores: Tensor = self.scores(self.late(x).flatten(1))
        return scores


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    net = Everything()
    settle(net, SIZE)
    return net.requires_grad_(False)


@pytest.fixture(scope="module")
def graph(model: nn.Module) -> Graph:
    return captured(model, np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8))


def computed(graph: Graph) -> np.ndarray:
    """The scores, by the graph's nodes alone."""
    values = {IMAGE: torch.from_numpy(graph.images).permute(0, 3, 1, 2).double() / 255}
    for node in graph.nodes:
        values[node.name] = step(node, [values[name] for name in node.inputs])
        assert tuple(values[node.name].shape) == graph.shapes[node.name]
    scores: np.ndarray = values[graph.nodes[-1].name].numpy()
    return scores


def step(node: Node, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    weight, bias = (torch.from_numpy(array).double() for array in (node.weight, node.bias))
    match node.kind:
        case "conv":
            return F.conv2d(x, weight, bias, node.stride, node.padding, groups=node.groups)
        case "linear":
            return F.linear(x.flatten(1), weight, bias)
        case "affine":
            return x * weight[:, None, None] + bias[:, None, None]
        case "relu" | "relu6" | "silu" | "sigmoid":
            functions = {"relu": nn.ReLU(), "relu6": nn.ReLU6(), "silu": nn.SiLU(), "sigmoid": nn.Sigmoid()}
            y: Tensor = functions[node.kind](x)
            return y
        case "add" | "mul":
            return inputs[0] + inputs[1] if node.kind == "add" else inputs[0] * inputs[1]
        case "concat":
            return torch.cat(inputs, 1)
        case "max_pool":
            return F.max_pool2d(x, node.window, node.stride, node.padding, ceil_mode=node.ceil)
        case "avg_pool":
            return F.avg_pool2d(x, node.window, node.stride, node.padding)
        case "mean":
            return x.mean((2, 3), keepdim=True)
        case "shuffle":
            apart: Tensor = x.unflatten(1, (node.groups, -1))
            return apart.transpose(1, 2).flatten(1, 2)
        case "slice":
            return x[:, node.channels[0] : node.channels[1]]


def test_the_graph_computes_what_the_model_does(model: nn.Module, graph: Graph) -> None:
    kinds = {node.kind for node in graph.nodes}
    assert len(kinds) == 15, kinds
    images = torch.from_numpy(graph.images).permute(0, 3, 1, 2).float() / 255
    np.testing.assert_allclose(computed(graph), model(images).numpy(), atol=1e-4)
    np.testing.assert_allclose(graph.scores, model(images).numpy(), atol=1e-6)


def test_batch_norms_are_folded_and_clamps_come_before_pools(graph: Graph) -> None:
    assert sum(node.kind == "affine" for node in graph.nodes) == 1  # the one behind the concatenation
    pool = next(node for node in graph.nodes if node.kind == "max_pool")
    assert graph.by_name[pool.inputs[0]].kind == "relu"


def test_what_is_concatenated_has_one_range(graph: Graph) -> None:
    concat = next(node for node in graph.nodes if node.kind == "concat")
    ranges = {graph.ranges[name] for name in (*concat.inputs, concat.name)}
    assert len(ranges) == 1
    for name, (low, high) in graph.seen.items():
        range_ = graph.ranges[name]
        assert range_.low <= low
        assert range_.high >= high - range_.scale - 1e-9
        assert range_.signed or low >= 0


def test_zero_has_a_code() -> None:
    for range_ in (Range(False, 3.0), Range(True, 3.0)):
        codes = np.arange(256)
        values = (codes - range_.zero) * range_.scale
        assert values[range_.zero] == 0
        np.testing.assert_allclose((values[0], values[-1]), (range_.low, range_.high), rtol=1e-12)


def test_weights_of_8_bits_are_near(graph: Graph) -> None:
    for node in graph.nodes:
        if node.kind in ("conv", "linear"):
            codes, scale = node.int8_weight()
            wide = scale.reshape(-1, *[1] * (codes.ndim - 1))
            assert (np.abs(codes * wide - node.weight) <= 0.5001 * wide).all()


@pytest.mark.parametrize("engine", ["networks_openvino", "networks_onnxruntime"])
def test_an_int8_engine_gives_the_scores_and_wrong_ones_are_noticed(engine: str, graph: Graph) -> None:
    pytest.importorskip({"networks_openvino": "openvino", "networks_onnxruntime": "onnxruntime"}[engine])
    module = __import__(engine)
    found = module.contestants(graph, 1, True) if engine == "networks_openvino" else module.contestants(graph, 1)
    assert all(contestant.sample().call > 0 for contestant in found)
    wrong = dataclasses.replace(graph, scores=graph.scores[:, ::-1])
    with pytest.raises(RuntimeError, match="the scores are off by"):
        module.contestants(wrong, 1, False) if engine == "networks_openvino" else module.contestants(wrong, 1)


def test_linear_layers_of_few_bits_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    import layers_few_bits

    layer = Layer.parse("linear-256-32@2")
    names = [each.name for each in layers_few_bits.contestants(layer, 1, np.random.default_rng(0))]
    assert names == ["ONNX Runtime, 2-bit weights", "ONNX Runtime, 4-bit weights"]
    assert layers_few_bits.contestants(Layer.parse("3x3-8@5"), 1, np.random.default_rng(0)) == []
    right = layers_few_bits._packed
    monkeypatch.setattr(layers_few_bits, "_packed", lambda codes, bits: np.flip(right(codes, bits), 0))
    with pytest.raises(RuntimeError, match="the output is off by"):
        layers_few_bits.contestants(layer, 1, np.random.default_rng(0))


def results() -> Results:
    rows = [
        Row("net", 1, 1, f"{OURS} W1A2", "", 2e-3, 1.9e-3),
        Row("net", 1, 1, f"{OURS} W8A8", "", 4e-3, 3.9e-3),
        Row("net", 1, 1, OPENVINO_INT8, "amx", 3e-3, 2.5e-3),
        Row("net", 1, 1, OPENVINO_INT8 + NO_AMX, "", 5e-3, 4e-3),
        Row("net", 2, 8, f"{OURS} W1A2", "", 1e-3, 1e-3),
        Row("net", 2, 8, ONNXRUNTIME_INT8, "", 1e-3, 1e-3),
    ]
    return Results({"CPU": "this", "command": "python x"}, rows)


def test_the_page_says_how_many_times_faster() -> None:
    page = markdown(results())
    assert "## One thread, batch 1" in page
    assert f"| network | bits | ms | × {OPENVINO_INT8} | × {OPENVINO_INT8}{NO_AMX} |" in page
    assert "| net | W1A2 | 2.000 | 1.50 | 2.50 |" in page
    assert "| net | W8A8 | 4.000 | 0.75 | 1.25 |" in page
    assert f"- {OPENVINO_INT8}: W1A2 in 1 of 1 (1.50×), W8A8 in 0 of 1 (0.75×)" in page
    assert "## 2 threads, batch 8" in page
    assert f"| network | {ONNXRUNTIME_INT8} |\n| --- | ---: |\n| net | 1.000 |" in page
    assert from_json(to_json(results())) == results()


def test_runs_are_put_together() -> None:
    other = Results({"CPU": "this", "command": "python y"}, results().rows[:1])
    both = together([results(), other])
    assert both.machine == {"CPU": "this", "command": "python x; python y"}
    assert both.rows == [*results().rows, *other.rows]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(rounds=0), "at least 1"),
        (Options(threads=(0,)), "at least 1"),
        (Options(nets=("resnet19",)), "there is no 'resnet19'"),
        (Options(bits=("W9A9",)), "W9A9"),
    ],
)
def test_wrong_options_are_refused(options: Options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options.check()


def test_all_networks_have_settings() -> None:
    assert len(NETS) == 13
    assert set(TOKENS) < set(NETS)
    assert low_bit_config("svhn-a", 1, 2) != low_bit_config("resnet18", 1, 2)


def test_what_begins_at_nothing_gets_numbers() -> None:
    head = nn.Linear(4, 3)
    nn.init.zeros_(head.weight)
    kept = nn.Linear(4, 3)
    weight = kept.weight.clone()
    awaken(nn.Sequential(head, kept))
    assert head.weight.any()
    assert torch.equal(kept.weight, weight)


@pytest.mark.slow
def test_a_run_measures_and_writes(tmp_path: Path) -> None:
    kept = tmp_path / "networks.json"
    options = ["--nets", "svhn-a", "--bits", "W1A2", "--only-ours", "--rounds", "2", "--batches", "1", "2"]
    command = [sys.executable, str(ROOT / "benchmarks" / "networks.py"), *options]
    command += ["--json", str(kept), "--docs", str(tmp_path)]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300, env=os.environ).stdout
    assert "svhn-a, 1 thread, batch 2" in shown
    assert [row.batch for row in from_json(kept.read_text()).rows] == [1, 2]
    assert "| svhn-a | W1A2 |" in (tmp_path / "networks.md").read_text()
