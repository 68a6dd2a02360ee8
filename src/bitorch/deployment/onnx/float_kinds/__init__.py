"""What a node of a float kind is in ONNX's own operators: every kind of the captured graph that multiplies no codes."""

from __future__ import annotations

from collections.abc import Sequence

from ...graph.graph import Node
from ..writer import Writer


def what_is_missing(node: Node) -> str | None:
    """Return, in a few words, why `write_float` cannot write a node; None if it can.

    It stands behind the node's place in a message: "no stock operator takes a pad of mode 'x'".
    """
    return f"{node.kind!r} has no counterpart yet"


def write_float(writer: Writer, node: Node, inputs: Sequence[str]) -> str:
    """Write one node of which `what_is_missing` is None.

    Where its kind is `exact`, the operators must give PyTorch's bits, and its last bits are free elsewhere.

    Args:
        writer: takes the nodes; the last one's output should be named `node.name`.
        inputs: the values of its inputs, float32 [batch, C, *rows]; of codes the dialect says what they are.

    Returns:
        The value, float32 [batch, *node.shape].
    """
    raise NotImplementedError(node.kind)
