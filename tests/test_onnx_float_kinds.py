"""Every kind of the captured graph as stock ONNX operators: in ONNX Runtime they give what PyTorch gives."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import torch
from torch import Tensor

from bitorch.deployment.graph.graph import Node
from bitorch.deployment.graph.kinds import CAPTURED
from bitorch.deployment.onnx.float_kinds import what_is_missing
from onnx_float_nets import ELEMENTWISE, IMAGE, OTHERS, model_of, random
from onnx_replays import graph_of, replays

#: What functions of floats do odd things at.
EDGES = torch.tensor(
    [0.0, -0.0, 1, -1, 0.5, -0.5, 3, -3, 6, -6, 2.9999998, 1e-45, -1e-45, 1e-38, 20, 20.5, -88, -100,
     3e38, -3e38, torch.inf, -torch.inf, torch.nan]
)  # fmt: skip
#: Kinds that multiply or make codes, which dialects write.
LOW_BIT = {"low_bit", "low_bit_matmul", "quantizer"}


def assert_as_pytorch(node: Node, expected: Tensor, found: Tensor) -> None:
    """Equal where the kind is exact, but for which zero it is and NaN; else within the last bits."""
    assert found.shape == expected.shape
    found = found.to(expected.dtype)
    if node.row.exact:
        same = (found == expected) | (found.isnan() & expected.isnan())
    else:
        within = 1e-5 if node.kind == "resize" else 2e-6  # its places are float32, too
        same = torch.isclose(found, expected, rtol=1e-5, atol=within, equal_nan=True)
    assert bool(same.all()), (str(node), expected[~same][:4], found[~same][:4])


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_functions_of_each_number(name: str) -> None:
    model = model_of(ELEMENTWISE[name])
    image = random(2, 4, 5, 7) * 2
    edges = EDGES[:-5] if name.startswith("gelu") else EDGES  # of which PyTorch's vectors make inf, and NaN of inf
    image[0, 1].view(-1)[: len(edges)] = edges
    graph = graph_of(model, image)
    for node, expected, found in replays(graph, [image]):
        assert_as_pytorch(node, expected, found)


@pytest.mark.parametrize("name", OTHERS)
def test_other_kinds(name: str) -> None:
    model, example = OTHERS[name]
    graph = graph_of(model_of(model), example)
    for node, expected, found in replays(graph, [torch.cat([example, example.flip(-1)])]):
        assert_as_pytorch(node, expected, found)


@pytest.mark.parametrize("name", ["variance", "largest", "layer norm", "bilinear", "with a constant", "length 1"])
def test_operators_that_were_otherwise_before_opset_18(name: str) -> None:
    model, example = OTHERS[name]
    for node, expected, found in replays(graph_of(model_of(model), example), [example], opset=15):
        assert_as_pytorch(node, expected, found)


@pytest.mark.parametrize("name", [name for name in OTHERS if "pool" in name or "batch norm" in name])
def test_operators_that_more_tools_know(name: str) -> None:
    model, example = OTHERS[name]
    for _, expected, found in replays(graph_of(model_of(model), example), [example], exact=False):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6)


def test_every_kind_is_tried_here() -> None:
    models = [*((model, IMAGE) for model in ELEMENTWISE.values()), *OTHERS.values()]
    tried = {node.kind for model, example in models for node in graph_of(model_of(model), example)}
    assert tried == CAPTURED - LOW_BIT
    graph = graph_of(model_of(ELEMENTWISE["relu"]), IMAGE)
    (node,) = [node for node in graph if node.kind == "relu"]
    assert what_is_missing(node) is None
    assert what_is_missing(Node("d", "product", (), (), node.function)) == "no stock operator computes 'product'"
