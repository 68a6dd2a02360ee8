"""A file that is there as a whole or not at all, and the temporary files that this takes."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import sys
from contextlib import suppress
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed anyway
    _CAN_LOCK = False
else:
    _CAN_LOCK = True

_PREFIX, _SUFFIX = ".bitorch-", ".tmp"
#: Names of what the process has open already, which need not be a file.
_OPEN_FILES = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_OPEN_FILE = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")


def write(path: str | bytes, data: bytes) -> None:
    """Write a file under a temporary name in its folder, then rename it. On an error the old file stays.

    A link stays a link: the file that it leads to is replaced, and keeps its permissions. A pipe, a terminal, /dev/null
    and what else takes bytes one after the other is written to, and is never replaced.

    Raises:
        OSError: it cannot be written, is read-only, or is something that no file can replace (a folder, a disk, a
            socket); naming the path, and not the temporary one.
    """
    name = os.fsdecode(path)
    try:
        if _takes_stream(name):
            _write_through(name, data)
        else:
            _write_and_rename(os.path.realpath(name), data)
    except OSError as error:
        if error.errno is None:  # a sentence already
            raise
        raise OSError(error.errno, error.strerror, name) from error


def _takes_stream(path: str) -> bool:
    """Whether a path is written to as it is, rather than replaced; an OSError where neither can be done."""
    if _descriptor(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISREG(mode):
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "the file is read-only")
        return False
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        return True
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    kind = "a disk" if stat.S_ISBLK(mode) else "a socket" if stat.S_ISSOCK(mode) else "no ordinary file"
    raise OSError(errno.EINVAL, f"it is {kind}, which no file may replace")


def _descriptor(path: str) -> int | None:
    """The number of an open file that a path like /dev/stdout or /dev/fd/3 names; None for any other path."""
    name = os.path.abspath(path)
    match = _OPEN_FILE.fullmatch(name)
    return int(match[1]) if match else _OPEN_FILES.get(name)


def _write_through(path: str, data: bytes) -> None:
    descriptor = _descriptor(path)
    if descriptor is None:
        try:
            # A pipe that nobody reads is an error with O_NONBLOCK, and would be waited for without.
            opened = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise OSError(errno.ENXIO, "nobody reads from this pipe") from None
            raise
        os.set_blocking(opened, True)
    else:
        for stream in (sys.stdout, sys.stderr):
            with suppress(ValueError):  # closed
                stream.flush()
        opened = os.dup(descriptor)
    with open(opened, "wb") as file:
        file.write(data)


def _write_and_rename(path: str, data: bytes) -> None:
    folder = os.path.dirname(path)
    _remove_leftovers(folder)
    temporary, file = _create(folder)
    try:
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            with suppress(FileNotFoundError):  # a new file: its permissions are those of the umask already
                os.chmod(temporary, stat.S_IMODE(os.stat(path).st_mode))
            if os.name == "nt":
                file.close()  # which has no rename of open files
            os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):  # it was renamed
            os.unlink(temporary)


def _create(folder: str) -> tuple[str, BinaryIO]:
    """A new file, locked while its writer lives: so those of killed ones are known."""
    while True:
        path = os.path.join(folder, f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}")
        file = open(path, "xb")  # noqa: SIM115  # the caller closes it
        _lock(file, wait=True)
        if _is_name_of(path, file):
            return path, file
        file.close()  # another process has found it before it was locked, and removed it


def _remove_leftovers(folder: str) -> None:
    """Remove the temporary files whose writers were killed, of this package and of bitorch, which names them alike."""
    try:
        names = [name for name in os.listdir(folder) if name.startswith(_PREFIX) and name.endswith(_SUFFIX)]
    except PermissionError:  # a folder that may be written to and not be read
        return
    for name in names:
        with suppress(OSError):  # another process was faster, or it is not ours to remove
            _remove_unless_locked(os.path.join(folder, name))


def _remove_unless_locked(path: str) -> None:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with open(os.open(path, flags), "rb") as file:
        if _lock(file, wait=False) and _is_name_of(path, file) and _CAN_LOCK:
            os.unlink(path)
    if not _CAN_LOCK:
        os.unlink(path)


def _is_name_of(path: str, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _lock(file: BinaryIO, *, wait: bool) -> bool:
    """Whether the file is ours now; a file system without locks gives none, and then nothing is removed."""
    if not _CAN_LOCK:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True
