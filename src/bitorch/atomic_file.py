"""A file that is there as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def write_and_rename(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file under a temporary name in the same folder, then rename it. On an error the old file stays.

    Raises:
        OSError: it cannot be written; naming the path, and not the temporary one.
    """
    try:
        _write_and_rename(path, write)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text as UTF-8; as `write_and_rename`."""
    write_and_rename(Path(path), lambda file: file.write(text.encode()))


def _write_and_rename(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            write(file)
            file.flush()
            os.fsync(file.fileno())  # the data before the name, or a power cut leaves an empty file
        temporary.chmod(0o666 & ~_umask())  # a temporary file is private
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C, too, must not leave the temporary file behind; all go on up
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
