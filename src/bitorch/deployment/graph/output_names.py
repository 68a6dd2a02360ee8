"""Names of a program's outputs: those that the model gives them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .graph import Graph


class OutputNames:
    """Decides what the tensors that leave are called, and which must be copied to leave once more.

    Args:
        graph: of the program.
        wanted: names of its outputs, in order, all different; None: as the tensor is called.

    Attributes:
        names: new names of tensors and nodes, by the old ones.
    """

    def __init__(self, graph: Graph, wanted: Sequence[str | None]) -> None:
        self.inputs = {node.name for node in graph.inputs}
        self.names: dict[str, str] = {}
        self._nodes = {node.name for node in graph}
        self._wanted = {name for name in wanted if name is not None}
        self._left: set[str] = set()  # tensors
        self._given: set[str] = set()  # their names

    def must_copy(self, tensor: str, wanted: str | None) -> bool:
        """Say whether a tensor cannot leave under a name itself: it leaves already, or is an input of another name."""
        return tensor in self._left or (tensor in self.inputs and wanted not in (None, tensor))

    def leave(self, tensor: str, wanted: str | None, *, copy_of: str | None = None) -> None:
        """Let a tensor leave, or a new one that is a copy."""
        others = self.inputs - {tensor}
        if wanted is not None:
            name = unused(wanted, self._given | others)
        else:
            others |= self._given | self._wanted | (self._nodes if copy_of is not None else set())
            name = unused(tensor if copy_of is None else copy_of, others)
        self._left.add(tensor)
        self._given.add(name)
        if name != tensor:
            self.names[tensor] = name

    def settle(self) -> None:
        """Give other names to what has one that an output has now."""
        for name in self._nodes & self._given - self._left - self.inputs:
            self.names[name] = unused(name, self._nodes | self._given)


def unused(name: str, names: Collection[str]) -> str:
    """Return the name, or with "@2", "@3", … behind it."""
    found, count = name, 1
    while found in names:
        count += 1
        found = f"{name}@{count}"
    return found
