"""A model captured and compiled at the size of its example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

import bitorch_runtime

from .capture.capture import Capture, capture, listing
from .capture.problems import beyond_the_runtime
from .runtime.all_tensors import all_tensors, output_ports
from .runtime.compile import Compiled, compile_graph, told_by_layer
from .runtime.lower import Operation
from .runtime.port_shapes import with_shapes


@dataclass(frozen=True)
class AtSize:
    """What a model is for inputs of one size.

    Attributes:
        captured, compiled: what was made of it.
        program: that of `all_tensors`.
        operations: of the packed program, with the shapes that its arrays have in the model.
    """

    captured: Capture
    compiled: Compiled
    program: bitorch_runtime.Program
    operations: list[Operation]


def at_size(model: nn.Module, example: Sequence[Tensor], *, pixels: bool) -> AtSize:
    """Capture a model and compile it.

    Args:
        model, example, pixels: as of `bitorch.deploy`.

    Raises:
        ValueError: it cannot be captured, or the runtime does not take it.
    """
    captured = capture(model, *example)
    captured.check()
    compiled, program = _compiled(captured, pixels=pixels)
    graph, lowered = compiled.graph, compiled.lowered
    operations = with_shapes(
        lowered.operations,
        program.inputs,
        output_ports(program, lowered.operations),
        [node.shape for node in graph.inputs],
        [graph[name].shape for name in graph.outputs],
    )
    return AtSize(captured, compiled, program, operations)


def _compiled(captured: Capture, *, pixels: bool) -> tuple[Compiled, bitorch_runtime.Program]:
    """Compile what was captured; the second result is the program of `all_tensors`."""
    try:
        compiled = compile_graph(captured.graph, pixels=pixels, names=captured.tensor_names, tied=captured.tied)
        with told_by_layer(compiled):
            return compiled, all_tensors(compiled.lowered, compiled.lowered.operations, compiled.lowered.arrays)
    except ValueError as error:
        raise ValueError(listing([beyond_the_runtime(error)])) from error
