"""How many bytes of code, and of stack, a compiler makes of a header."""

from __future__ import annotations

import shlex
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .compiling import compile_c
from .stack_size import stack_bytes

_EXECUTABLE = 0x4
#: How GCC, from 10 on, is asked for its functions' bytes of stack and whom they call.
_CALL_GRAPH = "-fcallgraph-info=su"


@dataclass(frozen=True)
class Measured:
    """What a compiler makes of a header, without what libraries add.

    Attributes:
        compiler: the command.
        code: bytes.
        stack: bytes of the deepest chain of calls; None where the compiler does not tell.
    """

    compiler: str
    code: int
    stack: int | None


def measured(text: str, name: str, compiler: str) -> Measured:
    """Compile a header, and return its sizes.

    Args:
        text: of the header.
        name: that it begins its names with.
        compiler: a command, such as "arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -Os".

    Raises:
        ValueError: the command is none, fails, or makes no object file of ELF.
    """
    command = shlex.split(compiler)
    if not command:
        raise ValueError("compiler: must be a command such as 'gcc -Os', got none")
    source = f"#define {name.upper()}_IMPLEMENTATION\n{text}"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "net.o"
        code = _executable_bytes(compile_c([*command, "-std=c99", "-c"], source, made).read_bytes(), compiler)
        try:
            compile_c([*command, "-std=c99", "-c", _CALL_GRAPH], source, made)
        except ValueError:  # Clang has no such flag, and the header is compiled already
            return Measured(compiler, code, None)
        graph = made.with_suffix(".ci")
        stack = stack_bytes(graph.read_text(encoding="utf-8"), f"{name}_run") if graph.is_file() else None
        return Measured(compiler, code, stack)


def _executable_bytes(data: bytes, compiler: str) -> int:
    """The bytes of the sections of an ELF file that are code."""
    if data[:4] != b"\x7fELF":
        raise ValueError(f"compiler: {compiler!r} makes no ELF files, whose sizes could be read")
    order = "<" if data[5] == 1 else ">"
    wide = data[4] == 2
    offset = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", data, 40 if wide else 32)[0]
    size, count = struct.unpack_from(f"{order}HH", data, 58 if wide else 46)
    form = f"{order}IIQQQQ" if wide else f"{order}IIIIII"
    sections = [struct.unpack_from(form, data, offset + i * size) for i in range(count)]
    return sum(nbytes for _, _, flags, _, _, nbytes in sections if flags & _EXECUTABLE)
