"""Which tensors are one and the same memory: what an operation only renames, or may write over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bitorch_runtime.operations import given_names, read_names

from .memory_plan import Buffer
from .tensors import CTensor


def input_buffer(name: str) -> str:
    """Return the name of what the caller gives for an input."""
    return f"input {name}"


def output_buffer(name: str) -> str:
    """Return the name of where the caller wants an output."""
    return f"output {name}"


class Places:
    """The memory of tensors: their own in the arena, another's, or one outside, which has a home in C."""

    def __init__(self, operations: Sequence[Mapping[str, Any]], tensors: Mapping[str, CTensor]) -> None:
        """Begin with memory of its own for each tensor."""
        self._tensors, self._end = tensors, len(operations)
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}
        for index, operation in enumerate(operations):
            for name in given_names(operation).values():
                self._first[name] = self._last[name] = index
            for name in read_names(operation):
                self._last[name] = index
        self._group = {name: [name] for name in self._first}
        self._homes: dict[str, str] = {}
        self._fixed: set[str] = set()

    def outside(self, buffer: str, home: str, *, read_only: bool) -> None:
        """Say that a buffer or tensor lies outside of the arena, and what it is called in C."""
        self._group.setdefault(buffer, [buffer])
        self._homes[buffer] = home
        if read_only:
            self._fixed.add(buffer)
        if buffer not in self._last:
            self._last[buffer] = -1 if read_only else self._end

    def _members(self, name: str) -> list[str]:
        return self._group[name]

    def _last_of(self, name: str) -> int:
        return max(self._last[member] for member in self._members(name))

    def unite(self, result: str, source: str) -> bool:
        """Make two buffers one, if they can be; else the operation copies."""
        one, other = self._members(result), self._members(source)
        if one is other or (any(n in self._homes for n in one) and any(n in self._homes for n in other)):
            return False
        together = [*one, *other]
        for name in together:
            self._group[name] = together
        return True

    def overwrite(self, result: str, source: str) -> bool:
        """Make two tensors one where nobody needs the source after the operation that gives the result."""
        if any(name in self._fixed for name in self._members(source)):
            return False
        if self._tensors[result].nbytes != self._tensors[source].nbytes:
            return False
        return self._last_of(source) <= self._first[result] and self.unite(result, source)

    def home(self, buffer: str) -> str | None:
        """Return what a buffer's memory is called in C, None where it lies in the arena."""
        return next((self._homes[name] for name in self._group.get(buffer, ()) if name in self._homes), None)

    def key(self, tensor: str) -> str:
        """Return the name under which a tensor's memory is planned."""
        return self._members(tensor)[0]

    def buffers(self) -> Iterable[Buffer]:
        """Yield the memory in the arena that tensors need."""
        for name in self._first:
            members = [member for member in self._members(name) if member in self._first]
            if self.home(name) is None and self.key(name) == name:
                first = min(self._first[member] for member in members)
                nbytes = max(self._tensors[member].nbytes for member in members)
                yield Buffer(name, nbytes, first, self._last_of(name))
