"""Where tensors and working memory lie in one arena: what is not needed at the same time may lie in the same place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Offsets are multiples of this many bytes.
ALIGNMENT = 8


@dataclass(frozen=True)
class Buffer:
    """Some bytes that must be there from one operation to another, both included."""

    name: str
    nbytes: int
    first: int
    last: int

    def meets(self, other: Buffer) -> bool:
        """Whether both are needed at some time."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Plan:
    """Offsets in bytes by name, and how large the arena is."""

    offsets: dict[str, int]
    nbytes: int


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _placed(order: Sequence[Buffer]) -> Plan:
    """Put each buffer in the lowest gap between those that it meets."""
    offsets: dict[str, int] = {}
    placed: list[Buffer] = []
    for buffer in order:
        at = 0
        others = sorted((offsets[o.name], o.nbytes) for o in placed if o.meets(buffer))
        for offset, nbytes in others:
            if at + buffer.nbytes <= offset:
                break
            at = max(at, _aligned(offset + nbytes))
        offsets[buffer.name] = at
        placed.append(buffer)
    return Plan(offsets, max((_aligned(offsets[b.name] + b.nbytes) for b in placed), default=0))


def plan(buffers: Sequence[Buffer]) -> Plan:
    """Return the smaller of two plans: the largest buffers first, or those that are needed longest."""
    orders = (
        sorted(buffers, key=lambda b: (-b.nbytes, b.first, b.name)),
        sorted(buffers, key=lambda b: (b.first - b.last, -b.nbytes, b.name)),
    )
    return min((_placed(order) for order in orders), key=lambda found: found.nbytes)


def peak(buffers: Sequence[Buffer], count: int) -> tuple[int, int]:
    """Return the operation at which most bytes are needed, and how many.

    Args:
        count: of operations.
    """
    needed = [sum(_aligned(b.nbytes) for b in buffers if b.first <= at <= b.last) for at in range(count)]
    most = max(needed, default=0)
    return needed.index(most) if needed else 0, most
