"""How many bytes of code a compiler makes of a header."""

from __future__ import annotations

import shlex
import struct
import subprocess
import tempfile
from pathlib import Path

_EXECUTABLE = 0x4


def code_bytes(text: str, name: str, compiler: str) -> int:
    """Return the bytes of code of a header, without constants and what libraries add.

    Args:
        text: of the header.
        name: that it begins its names with.
        compiler: a command, such as "arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -Os".

    Raises:
        ValueError: the command is none, fails, or makes no object file of ELF.
    """
    words = shlex.split(compiler)
    if not words:
        raise ValueError("compiler: must be a command such as 'gcc -Os', got none")
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "net.c", Path(folder) / "net.o"
        source.write_text(f"#define {name.upper()}_IMPLEMENTATION\n{text}", encoding="utf-8")
        command = [*words, "-std=c99", "-c", str(source), "-o", str(made)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            raise ValueError(f"compiler: {words[0]!r} cannot be run: {error.strerror}") from None
        if done.returncode != 0 or not made.is_file():
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise ValueError(f"compiler: {compiler!r} fails: {lines[0] if lines else 'it says nothing'}")
        return _executable_bytes(made.read_bytes(), compiler)


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
