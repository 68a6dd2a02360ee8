"""A file that is there as a whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from .temporary_file import remove_leftovers, temporary_file

#: Names of what the process has open already, which need not be a file.
_OPEN_FILES = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_OPEN_FILE = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")


def write_and_rename(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file under a temporary name in the same folder, then rename it. On an error the old file stays.

    A link stays a link: the file that it leads to is replaced, and keeps its permissions. A pipe, a terminal, /dev/null
    and what else takes bytes one after the other is written to, and is never replaced.

    Raises:
        OSError: it cannot be written, is read-only, or is something that no file can replace (a folder, a disk, a
            socket); naming the path, and not the temporary one.
    """
    try:
        if takes_stream(path):
            _write_through(path, write)
        else:
            _write_and_rename(Path(os.path.realpath(path)), write)
    except OSError as error:
        if error.errno is None:  # a sentence already
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text as UTF-8; as `write_and_rename`."""
    write_and_rename(Path(path), lambda file: file.write(text.encode()))


def takes_stream(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is written to as it is, as a pipe or /dev/null, rather than replaced.

    Raises:
        OSError: nothing can be written there: it is a folder, a disk, a socket or a file that is read-only, or its
            folder does not exist.
    """
    if _descriptor(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        folder = os.path.dirname(os.path.realpath(path))
        if not os.path.isdir(folder):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path)) from None
        return False
    if stat.S_ISREG(mode):
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "the file is read-only", os.fspath(path))
        return False
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        return True
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    kind = "a disk" if stat.S_ISBLK(mode) else "a socket" if stat.S_ISSOCK(mode) else "no ordinary file"
    raise OSError(errno.EINVAL, f"it is {kind}, which no file may replace", os.fspath(path))


def _write_and_rename(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    remove_leftovers(path.parent)
    with temporary_file(path.parent) as (temporary, file):
        write(file)
        file.flush()
        os.fsync(file.fileno())  # the data before the name, or a power cut leaves an empty file
        temporary.chmod(_permissions(path))
        if os.name == "nt":
            file.close()  # which has no rename of open files
        os.replace(temporary, path)


def _write_through(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    content = io.BytesIO()  # so that an error while it is made writes nothing
    write(content)
    descriptor = _descriptor(path)
    if descriptor is None:
        try:
            # A pipe that nobody reads is an error with O_NONBLOCK, and would be waited for without.
            opened = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise OSError(errno.ENXIO, "nobody reads from this pipe", str(path)) from None
            raise
        os.set_blocking(opened, True)
    else:
        for stream in (sys.stdout, sys.stderr):
            with suppress(ValueError):  # closed
                stream.flush()
        opened = os.dup(descriptor)
    with open(opened, "wb") as file:
        file.write(content.getbuffer())


def _descriptor(path: str | os.PathLike[str]) -> int | None:
    """Return the number of an open file that a path like /dev/stdout or /dev/fd/3 names; None for any other path."""
    name = os.path.abspath(path)
    match = _OPEN_FILE.fullmatch(name)
    return int(match[1]) if match else _OPEN_FILES.get(name)


def _permissions(path: Path) -> int:
    """Return those of the file that is there, or of a new one: a temporary file is made with some of its own."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
