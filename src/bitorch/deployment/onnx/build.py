"""From a trained model to an onnx.ModelProto."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ..capture.capture import Capture, capture
from ..capture.problems import Problem
from ..graph.graph import Graph, Node
from ..passes.pipeline import READ_PIXELS, steps
from .dialect import Dialect
from .output_values import with_output_names
from .writer import Writer


@dataclass(frozen=True)
class Understood:
    """What a dialect makes of a model before it is written.

    Attributes:
        captured: what `capture` found.
        graph: behind the dialect's passes; as it was captured where there are problems of capture.
        problems: all that is in the way.
    """

    captured: Capture
    graph: Graph
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Written:
    """A model as ONNX, without metadata.

    Attributes:
        writer: all nodes, inputs and outputs.
        values: of each node of the graph that has a tensor, its name.
    """

    writer: Writer
    values: Mapping[str, str]


def understood(
    model: nn.Module, example: Sequence[Tensor], dialect: Dialect, opset: int, *, pixels: bool
) -> Understood:
    """Capture a model and bring it to where a dialect writes it; arguments as of `export_onnx`."""
    captured = capture(model, *example)
    if captured.problems:
        return Understood(captured, captured.graph, captured.problems)
    passes = (READ_PIXELS, *dialect.passes) if pixels else dialect.passes
    *_, (_, graph) = steps(captured.graph, passes)
    return Understood(captured, graph, tuple(dialect.refusals(graph, opset)))


def written(found: Understood, dialect: Dialect, opset: int) -> Written:
    """Write what has no problems, with its inputs and outputs."""
    writer = Writer(opset, dialect.batch)
    named, outputs = with_output_names(found.graph, found.captured.tensor_names)
    writer.reserve([*outputs, *(node.name for node in named)])
    inputs = {node.name: writer.input(node.name, _dtype(named, node), node.shape) for node in named.inputs}
    values = dialect.write(named, writer, inputs)
    for name, node in zip(outputs, named.outputs, strict=True):
        writer.output(name, values[node], _dtype(named, named[node]), named[node].shape)
    by_new_name = zip(found.graph, named, strict=True)
    return Written(writer, {old.name: values[new.name] for old, new in by_new_name if new.name in values})


def _dtype(graph: Graph, node: Node) -> str:
    """The dtype of what enters or leaves as a node."""
    while node.row.moves or node.kind == "identity":
        node = graph[node.inputs[0]]
    if node.kind == "input":
        return "uint8" if node.settings["pixels"] else str(node.settings["dtype"])
    return "int32" if node.kind == "place" else "float32"
