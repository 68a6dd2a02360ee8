"""From a packed network to a header on disk."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from bitorch_runtime import atomic_file, format
from bitorch_runtime.arguments import check_integer
from bitorch_runtime.model import load

from .measuring import measured
from .names import check_name
from .source import c_source, with_measured


@dataclass(frozen=True)
class CHeader:
    """A header that was written.

    Attributes:
        path: where it is.
        constant_bytes: of weights, thresholds and tables: read-only memory, beside the code.
        arena_bytes: of memory that tensors share.
        code_bytes: of code, by the compiler that was named; None where none was.
        stack_bytes: of the deepest chain of calls from `net_run` on, by the same; None where it does not tell, as GCC
            does from 10 on.
        float_weights: layers that keep floats, with the bytes of their weights, which are among the constants.
    """

    path: str
    constant_bytes: int
    arena_bytes: int
    code_bytes: int | None
    stack_bytes: int | None
    float_weights: dict[str, int]

    def __str__(self) -> str:
        code = "" if self.code_bytes is None else f"code {self.code_bytes:,} bytes, "
        floats = sum(self.float_weights.values())
        of_floats = f" ({floats:,} of them float weights of {', '.join(self.float_weights)})" if floats else ""
        stack = "" if self.stack_bytes is None else f", stack {self.stack_bytes:,} bytes"
        constants, arena = f"constants {self.constant_bytes:,} bytes", f"arena {self.arena_bytes:,} bytes"
        return f"{self.path}: {code}{constants}{of_floats}, {arena}{stack}"


def export_c(
    net: str | os.PathLike[str],
    path: str | os.PathLike[str],
    name: str = "net",
    *,
    shapes: Sequence[Sequence[int]] | None = None,
    arena_limit: int | None = None,
    compiler: str | None = None,
) -> CHeader:
    """Write a packed file as one header in C99, which computes the same numbers.

    Args:
        net: the packed file.
        path: of the header; a file that is there is replaced when the new one is complete.
        name: that its names begin with: `net_run`, `NET_INPUT_SIZE`.
        shapes: of one image of each input, where the network leaves sizes open.
        arena_limit: the most bytes of memory that its tensors may share; None: any.
        compiler: a command, by which code and stack are measured, such as "arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb
            -Os"; None: they are not.

    Raises:
        TypeError: an argument is of another type.
        ValueError: `name` is no name of C, an operation has no C, sizes are open or do not fit, the arena is larger
            than `arena_limit`, or the compiler fails. Nothing is written then. Or the file is no packed network.
        OSError: a file cannot be read or written.
    """
    load(net)  # all of it is checked
    operations, arrays, info = format.read(net)
    return write_c(operations, arrays, info, path, name, shapes=shapes, arena_limit=arena_limit, compiler=compiler)


def write_c(
    operations: Sequence[Mapping[str, Any]],
    arrays: Mapping[str, NDArray[Any]],
    info: Mapping[str, Any],
    path: str | os.PathLike[str],
    name: str = "net",
    *,
    shapes: Sequence[Sequence[int]] | None = None,
    arena_limit: int | None = None,
    compiler: str | None = None,
) -> CHeader:
    """`export_c` of what is in a packed file, see `bitorch_runtime.format.read`."""
    check_name(name)
    if arena_limit is not None:
        check_integer("arena_limit", arena_limit, 0, 2**40)
    source = c_source(operations, arrays, name, shapes=shapes, info=info, arena_limit=arena_limit)
    code = stack = None
    if compiler is not None:
        found = measured(source.text, name, compiler)
        code, stack = found.code, found.stack
        source = with_measured(source, found)
    atomic_file.write(os.fspath(path), source.text.encode("ascii", "backslashreplace"))
    return CHeader(os.fspath(path), source.constant_bytes, source.arena_bytes, code, stack, source.float_weights)
