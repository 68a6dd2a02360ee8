"""Nodes of a captured graph in ONNX Runtime, one at a time, beside what PyTorch computes for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bitorch.deployment.capture.capture import capture
from bitorch.deployment.graph.graph import Graph, Node
from bitorch.deployment.onnx.float_kinds import what_is_missing, write_float
from bitorch.deployment.onnx.writer import Writer

#: What a model without low-bit layers is told, and nothing else.
_NOT_LOW_BIT = "the model has no low-bit layer"


def graph_of(model: nn.Module, *example: Tensor) -> Graph:
    """The captured graph of a float model."""
    found = capture(model.eval(), *example)
    assert {problem.what for problem in found.problems} <= {_NOT_LOW_BIT}  # but of weights alone
    return found.graph


def replays(
    graph: Graph, inputs: Sequence[Tensor], *, opset: int = 21, exact: bool = True
) -> Iterator[tuple[Node, Tensor, Tensor]]:
    """Yield each node but inputs, what PyTorch gives for it, and what its ONNX operators give of the same inputs."""
    values = graph.replay(inputs)
    for node in graph:
        if node.kind in ("input", "constant"):
            continue
        assert what_is_missing(node) is None, node
        yield node, values[node.name], run_node(graph, node, values, opset, exact=exact)


def run_node(graph: Graph, node: Node, values: dict[str, Tensor], opset: int, *, exact: bool) -> Tensor:
    """One node in ONNX Runtime, of the values of its inputs."""
    writer = Writer(opset)
    names, given = {}, {}
    for name in node.inputs:
        if name not in names and graph[name].kind == "constant":
            names[name] = write_float(writer, graph[name], (), ())
        elif name not in names:
            array = values[name].contiguous().numpy()
            if array.dtype == np.int64 and graph[name].kind != "input":
                array = array.astype(np.int32)  # a place
            names[name] = writer.input(name, array.dtype.name, graph[name].shape)
            given[name] = array
    shapes = [graph[name].shape for name in node.inputs]
    value = write_float(writer, node, [names[name] for name in node.inputs], shapes, exact=exact)
    writer.output("result", value, "float32" if values[node.name].is_floating_point() else "int32", node.shape)
    return torch.from_numpy(run_model(writer.model("node", {}), given))


def run_model(model: onnx.ModelProto, inputs: dict[str, NDArray[np.generic]]) -> NDArray[np.generic]:
    """The first output of a model that the checker accepts."""
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    result: NDArray[np.generic] = session.run(None, inputs)[0]
    return result
