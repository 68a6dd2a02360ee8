"""A captured network: nodes in the order of computation, each of which PyTorch can compute again.

A tensor of one image is [C, *rows]: channels, and any number of row axes behind them, such as height and width, length,
or tokens; [F] of features has none. Only windows (``conv``, pools, ``pad``) know one or two spatial axes; everything
else sees rows × channels. What the model has as [batch, *rows, C] is such a tensor too: capture follows which axis is
which.

`capture` makes a graph of the model's own modules and functions; the passes rewrite it step by step, and each step can
be replayed on any batch and compared with the model. What kinds of nodes there are, and their settings, says `kinds`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .kind import Kind
from .kinds import KINDS


@dataclass(frozen=True)
class Node:
    """One tensor, and how it is computed.

    Attributes:
        name: of the tensor, unique in its graph: the module's path, or the path of the calling module and the function.
        kind, settings: see `kinds`.
        inputs: names of the nodes it reads.
        shape: of one image, without the batch: (C, *rows), so (C, H, W), (C, L), (F,); or () of one number.
        function: computes the value, [batch, *shape], from the values of the inputs; [1, *shape] where there are none.
        place: for messages: where in the model it is, and what it is there.
        module: the path of the module that computes it: "" of the model itself, and of inputs.
        between: of codes behind a function of free last bits the least and the largest that they may be, see
            `last_bits`; None of all others.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    function: Callable[..., Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""
    module: str = ""
    between: Callable[..., tuple[Tensor, Tensor]] | None = None

    @property
    def row(self) -> Kind:
        """What is known of its kind."""
        return KINDS[self.kind]

    @property
    def channels(self) -> int:
        """C, or F; 1 of a single number."""
        return self.shape[0] if self.shape else 1

    def value(self, batch: int, *inputs: Tensor) -> Tensor:
        """Compute it, [batch, *shape], from the values of its inputs; of none it is the same for every image."""
        value = self.function(*inputs)
        return value if self.inputs else value.expand(batch, *self.shape)

    def __str__(self) -> str:
        shape = "×".join(map(str, self.shape))
        shown = {k: v for k, v in self.settings.items() if isinstance(v, (bool, int, float, str, tuple, list))}
        settings = (f"{key}={_short(value)}" for key, value in shown.items())
        return f"{self.name} [{shape}] = {self.kind}({', '.join([*self.inputs, *settings])})"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


@dataclass(frozen=True)
class Graph:
    """Nodes, each behind the nodes that it reads, and the names of those that leave."""

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    def __getitem__(self, name: str) -> Node:
        return self._by_name[name]

    def __str__(self) -> str:
        return "\n".join([*map(str, self.nodes), f"return {', '.join(self.outputs)}"])

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The input nodes, in the order of the model's arguments."""
        return tuple(node for node in self.nodes if node.kind == "input")

    def readers(self) -> dict[str, list[Node]]:
        """Return the nodes that read each node, by its name; one that reads it twice stands there twice."""
        readers: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in node.inputs:
                readers[name].append(node)
        return readers

    def renamed(self, names: Mapping[str, str]) -> Graph:
        """Return the graph with other names in the place of those that nodes read and that leave."""
        nodes = tuple(replace(n, inputs=tuple(names.get(i, i) for i in n.inputs)) for n in self.nodes)
        return Graph(nodes, tuple(names.get(name, name) for name in self.outputs))

    def replaced(self, nodes: Mapping[str, Node]) -> Graph:
        """Return the graph with other nodes in the place of those of these names."""
        return Graph(tuple(nodes.get(node.name, node) for node in self.nodes), self.outputs)

    def pruned(self) -> Graph:
        """Return the graph without nodes that no output needs; inputs stay."""
        needed = set(self.outputs)
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
        return Graph(tuple(n for n in self.nodes if n.name in needed or n.kind == "input"), self.outputs)

    def replay(self, inputs: Sequence[Tensor], given: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Compute every node in PyTorch.

        Args:
            inputs: one tensor per input node, [batch, *shape].
            given: values to take in place of computed ones.

        Returns:
            The values by name. Those in `given` are not in it: there stands what the node gives itself.
        """
        values: dict[str, Tensor] = {}
        taken: dict[str, Tensor] = {} if given is None else dict(given)
        remaining = iter(inputs)
        with torch.no_grad():
            for node in self.nodes:
                if node.kind == "input":
                    values[node.name] = next(remaining)
                else:
                    arguments = [taken[name] if name in taken else values[name] for name in node.inputs]
                    values[node.name] = node.value(len(inputs[0]), *arguments)
        return values
