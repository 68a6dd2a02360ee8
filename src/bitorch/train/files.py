"""Writing files so that a full disk or a crash never costs the user the file that was there before."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ..atomic_file import write_and_rename
from ..temporary_file import locked, remove_leftovers, temporary_name


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file as `write_and_rename`; its OSError says what to do in a training run."""
    try:
        write_and_rename(path, write)
    except OSError as error:
        hint = "make space, or choose another folder with --out"
        raise OSError(error.errno, f"{error.strerror}; {hint}", str(path)) from error


def link_atomically(source: Path, path: Path) -> None:
    """Make path a second name of source, or a copy where the file system has no hard links."""
    temporary = temporary_name(path.parent)
    try:
        if path.exists() and not path.is_file():
            raise OSError(f"{path} is no ordinary file")  # and so not replaced, but written to, or refused
        with source.open("rb") as file, locked(file):
            os.link(source, temporary)
            os.replace(temporary, path)
    except OSError:
        content = source.read_bytes()  # here, so that an error of reading does not name the path
        write_atomically(path, lambda file: file.write(content))
    finally:
        temporary.unlink(missing_ok=True)  # POSIX renames nothing where both were names of one file before


def check_writable(folder: Path, bytes_needed: int) -> None:
    """Create the folder and write a temporary file into it, so that a run fails before it has started.

    What killed writers have left there is removed.

    Raises:
        OSError: naming the folder, if it cannot be created or written, or has too little space.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
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
