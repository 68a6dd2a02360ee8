"""Arrays of constants, each once, as C writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .names import Names

_DTYPES = {
    "float": np.float32,
    "int32_t": np.int32,
    "uint32_t": np.uint32,
    "int8_t": np.int8,
    "uint8_t": np.uint8,
}
_WIDTH = 116


def float_text(value: float) -> str:
    """Return a float32 as C writes it, with the fewest digits that read back as the same number."""
    number = np.float32(value)
    if math.isnan(number):
        return "NAN"
    if math.isinf(number):
        return "INFINITY" if number > 0 else "-INFINITY"
    return f"{np.format_float_scientific(number, unique=True, trim='0', exp_digits=1)}f".replace("e+0f", "f")


def integer_text(value: int, c_type: str) -> str:
    """Return an integer as C writes it."""
    if c_type == "int32_t" and value == -(2**31):
        return "INT32_MIN"
    return f"0x{value:08x}" if c_type == "uint32_t" and value > 0xFFFF else str(value)


def rows_of(texts: Sequence[str], indent: str = "    ") -> str:
    """Return texts between commas, in lines."""
    lines, line = [], indent
    for text in texts:
        if len(line) + len(text) + 2 > _WIDTH and line.strip():
            lines.append(line.rstrip())
            line = indent
        line += f"{text}, "
    return "\n".join([*lines, line.rstrip().rstrip(",")])


class Constants:
    """What a header keeps in read-only memory."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, bytes], str] = {}
        self._texts: list[str] = []
        self._taken = Names()
        self.nbytes = 0
        self.needs_math = False

    def add(self, values: NDArray[Any], c_type: str, hint: str) -> str:
        """Return the name of an array; equal ones are kept once.

        Args:
            values: of any shape; C has them in one row.
            c_type: of an element.
            hint: what it should be called.
        """
        flat = np.ascontiguousarray(values, _DTYPES[c_type]).reshape(-1)
        key = (c_type, flat.tobytes())
        if key not in self._names:
            name = f"net_data_{self._taken.new(hint)}"  # an array may have the name of a function
            self._names[key] = name
            self.nbytes += flat.nbytes
            self._texts.append(f"static const {c_type} {name}[{len(flat)}] = {{\n{self._rows(flat, c_type)}\n}};\n")
        return self._names[key]

    def _rows(self, flat: NDArray[Any], c_type: str) -> str:
        if c_type != "float":
            return rows_of([integer_text(int(value), c_type) for value in flat])
        self.needs_math = self.needs_math or not bool(np.isfinite(flat).all())
        return rows_of([float_text(float(value)) for value in flat])

    @property
    def text(self) -> str:
        """The C of all arrays."""
        return "\n".join(self._texts)
