"""The tensors of a program as C holds them: floats and integers as ever, codes in fields of 1, 2, 4 or 8 bits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitorch_runtime.program import Program

#: Of the numbers that are no codes.
C_TYPES = {"float32": "float", "int32": "int32_t"}


def field_of(bits: int) -> int:
    """Return how many bits a code takes in memory, so that none lies in two words: 1, 2, 4 or 8."""
    return 1 << (bits - 1).bit_length()


def words_of(count: int, field: int) -> int:
    """Return how many words so many codes take."""
    return -(-count * field // 32)


@dataclass(frozen=True)
class CTensor:
    """A tensor [rows …, channels].

    Attributes:
        name: in the program.
        dtype: "float32", "int32" or "codes".
        rows, channels: its axes.
        bits: of codes, 0 of others.
    """

    name: str
    dtype: str
    rows: tuple[int, ...]
    channels: int
    bits: int = 0

    @property
    def places(self) -> int:
        """How many places the rows have."""
        return math.prod(self.rows)

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return self.places * self.channels

    @property
    def field(self) -> int:
        """Bits of memory of a code."""
        return field_of(self.bits)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return 4 * (words_of(self.count, self.field) if self.bits else self.count)

    @property
    def c_type(self) -> str:
        """What an element is in C."""
        return C_TYPES.get(self.dtype, "uint32_t")

    def axes(self, count: int) -> tuple[int, ...]:
        """Return so many row axes: those of 1 in front of all others say nothing, and are put there or left out."""
        first = next((i for i, size in enumerate(self.rows) if size != 1), len(self.rows))
        sizes = self.rows[first:]
        return (1,) * (count - len(sizes)) + sizes

    def __str__(self) -> str:
        kind = f"{self.bits}-bit codes" if self.bits else self.dtype
        return f"{self.name!r}, {kind} [{', '.join(map(str, (*self.rows, self.channels)))}]"


def tensors_of(program: Program, operations: Sequence[Mapping[str, Any]]) -> dict[str, CTensor]:
    """Return all tensors of a program of one size, by name.

    Args:
        program: of `operations`.
    """
    found = {}
    for planned, operation in zip(program.operations(), operations, strict=True):
        assert planned["op"] == operation["op"]
        for tensor in planned["outputs"]:
            *rows, channels = tensor["shape"]
            bits = tensor["bits"] if tensor["dtype"] == "codes" else 0
            dtype = "codes" if bits else tensor["dtype"]
            found[tensor["name"]] = CTensor(tensor["name"], dtype, tuple(rows), channels, bits)
    return found
