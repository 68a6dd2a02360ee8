"""Writing files so that a full disk or a crash never costs the user the file that was there before."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ..atomic_file import write_and_rename


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file as `write_and_rename`; its OSError says what to do in a training run."""
    try:
        write_and_rename(path, write)
    except OSError as error:
        hint = "make space, or choose another folder with --out"
        raise OSError(error.errno, f"{error.strerror}; {hint}", str(path)) from error


def link_atomically(source: Path, path: Path) -> None:
    """Make path a second name of source, or a copy where the file system has no hard links."""
    temporary = path.with_name(f".{path.name}.link")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        content = source.read_bytes()  # here, so that an error of reading does not name the path
        write_atomically(path, lambda file: file.write(content))
    else:
        os.replace(temporary, path)


def check_writable(folder: Path, bytes_needed: int) -> None:
    """Create the folder and write a temporary file into it, so that a run fails before it has started.

    Raises:
        OSError: naming the folder, if it cannot be created or written, or has too little space.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(f"cannot write to the folder {folder}: {error.strerror}; choose another one with --out") from None
    free = shutil.disk_usage(folder).free
    if free < bytes_needed:
        raise OSError(
            f"the folder {folder} has {free / 1e6:.1f} MB free, and this run needs {bytes_needed / 1e6:.1f} MB for its "
            "checkpoints; make space or choose another one with --out"
        )
