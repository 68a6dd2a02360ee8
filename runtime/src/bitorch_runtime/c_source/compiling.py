"""A compiler of C, as a command that somebody names."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path


def compile_c(command: Sequence[str], text: str, made: Path) -> Path:
    """Compile C of headers that lie beside it.

    Args:
        command: the compiler and its flags, such as ("gcc", "-Os", "-c").
        text: the source, written beside what is made.
        made: the file that the compiler writes.

    Raises:
        ValueError: the command cannot be run, fails, or writes nothing; the message has its first line.
    """
    source = made.with_suffix(".c")
    source.write_text(text, encoding="utf-8")
    words = [*command, str(source), "-o", str(made), "-lm"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise ValueError(f"compiler: {command[0]!r} cannot be run: {error.strerror}") from None
    if done.returncode != 0 or not made.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise ValueError(f"compiler: {command[0]!r} fails: {lines[0] if lines else 'it says nothing'}")
    return made
