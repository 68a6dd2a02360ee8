"""One node of a graph as it is written: what its operators read, and the parts of ONNX that many kinds are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...graph.graph import Node
from ..writer import Writer

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """A node that becomes operators.

    Attributes:
        writer: takes them.
        node: of the graph.
        inputs: the values of its inputs, [batch, *shape].
        shapes: of these, without the batch.
        exact: whether kinds of certain bits are to give them; else the plainest operators are taken, which may round
            differently in the last bits.
    """

    writer: Writer
    node: Node
    inputs: tuple[str, ...]
    shapes: tuple[Shape, ...]
    exact: bool

    @property
    def x(self) -> str:
        """The first input."""
        return self.inputs[0]

    @property
    def rank(self) -> int:
        """Axes of the result, with the batch."""
        return len(self.node.shape) + 1

    def setting(self, key: str) -> Any:
        return self.node.settings[key]

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator between; return its value."""
        return self.writer.node(op_type, inputs, **attributes)

    def last(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add the operator that gives the node's value, and that has its name."""
        return self.writer.node(op_type, inputs, self.node.name, **attributes)

    def constant(self, stem: str, values: NDArray[Any]) -> str:
        return self.writer.constant(stem, values)

    def number(self, stem: str, number: float) -> str:
        """A constant of float32, without axes."""
        return self.constant(stem, np.asarray(number, np.float32))

    def integers(self, stem: str, numbers: Sequence[int]) -> str:
        """A constant of int64, as shapes and axes are."""
        return self.constant(stem, np.asarray(numbers, np.int64))

    def per_channel(self, key: str) -> str:
        """A setting [1] or [C] as it meets [batch, C, *rows]."""
        return self.constant(key, along_channels(self.setting(key), self.rank))

    def reshaped(self, value: str, shape: Shape, *, is_last: bool = False) -> str:
        """Give a value another shape, this one behind the batch."""
        add = self.last if is_last else self.op
        return add("Reshape", value, self.integers("shape", (0, *shape)))

    def transposed(self, value: str, axes: Sequence[int], *, is_last: bool = False) -> str:
        """Put axes elsewhere, the batch counted; nothing is written for what stays."""
        if [*axes] == [*range(len(axes))]:
            return value
        add = self.last if is_last else self.op
        return add("Transpose", value, perm=[*axes])


def floats(values: Tensor) -> NDArray[np.float32]:
    """The numbers of a setting."""
    array: NDArray[np.float32] = values.detach().to(torch.float32).numpy()
    return array


def along_channels(values: Tensor, rank: int) -> NDArray[np.float32]:
    """Numbers [1] or [C] as they meet a value of so many axes, [batch, C, *rows]; of [batch] they are one."""
    return floats(values).reshape(-1, *[1] * (rank - 2)) if rank > 1 else floats(values).reshape(-1)[:1]
