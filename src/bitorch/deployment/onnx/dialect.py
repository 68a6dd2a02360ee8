"""What a dialect is: a way of saying a network in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..capture.problems import Problem
from ..graph.graph import Graph, Node
from ..passes.pipeline import Pass
from .writer import BATCH, Writer


@dataclass(frozen=True)
class Dialect:
    """A way of saying a network in ONNX; each is a constant in a file of its own.

    Attributes:
        name: as `export_onnx` takes it.
        doc: what it is for, in one sentence.
        passes: what a captured graph goes through before it is written.
        opset: the version of the operators unless another is asked for.
        least_opset: the oldest that has all operators that it uses.
        refusals: of a graph behind all passes all that the dialect cannot say, by name of place; [] if it can be
            written. Given the opset, too.
        is_exact: whether every tensor of the graph is in the file, with the model's numbers; else only what leaves is
            compared, as sums of floats are.
        runs_in_onnx_runtime: whether that has all its operators.
        plus_one: as what a code of +1 is stored, where codes are ±1, in uint8; −1 is 0.
        write: writes all nodes but the inputs, of a graph without refusals, from the values of its inputs, by name, and
            returns for each node that has a value its name; outputs must be among them.
        batch: that files are for; the name of any.
        finish: changes the onnx.ModelProto before it is sealed and checked, where the dialect's readers want more.
    """

    name: str
    doc: str
    passes: tuple[Pass, ...]
    opset: int
    least_opset: int
    refusals: Callable[[Graph, int], list[Problem]]
    write: Callable[[Graph, Writer, dict[str, str]], dict[str, str]]
    is_exact: bool = False
    runs_in_onnx_runtime: bool = True
    plus_one: int = 1
    batch: int | str = BATCH
    finish: Callable[[Any], None] | None = None


def cannot_say(dialect: str, node: Node, why: str) -> Problem:
    """Return the problem of a node that a dialect has no words for."""
    place = node.place if node.place else node.name
    return Problem(
        node.name, place, f"dialect {dialect!r} cannot say it: {why}", "Change this layer, or deploy the model instead"
    )
