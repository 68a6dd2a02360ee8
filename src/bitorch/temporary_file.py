"""Temporary files beside their targets: each is locked while its writer lives, so that those of killed ones are known.

bitorch_runtime, which shares no code with this package, gives its temporary files the same names and locks.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed anyway
    _CAN_LOCK = False
else:
    _CAN_LOCK = True

_PREFIX, _SUFFIX = ".bitorch-", ".tmp"


def temporary_name(folder: Path) -> Path:
    """Return a new name in a folder, which `remove_leftovers` knows as one of ours."""
    return folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"


@contextmanager
def temporary_file(folder: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """Give a new, locked file in a folder, and its path. It is removed at the end, unless it has been renamed."""
    path, file = _create(folder)
    try:
        with file:
            yield path, file
    finally:  # Ctrl-C, too, must not leave it behind
        path.unlink(missing_ok=True)


@contextmanager
def locked(file: IO[bytes]) -> Iterator[None]:
    """Tell other processes inside that the file, and every other name of it, is in use."""
    _lock(file, wait=True)
    try:
        yield
    finally:
        _unlock(file)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files in a folder whose writers were killed; those of writers that live stay."""
    try:
        names = [name for name in os.listdir(folder) if name.startswith(_PREFIX) and name.endswith(_SUFFIX)]
    except PermissionError:  # a folder that may be written to and not be read
        return
    for name in names:
        with suppress(OSError):  # another process was faster, or it is not ours to remove
            _remove_unless_locked(folder / name)


def _create(folder: Path) -> tuple[Path, IO[bytes]]:
    while True:
        path = temporary_name(folder)
        file = path.open("xb")
        _lock(file, wait=True)
        if _is_name_of(path, file):
            return path, file
        file.close()  # another process has found it before it was locked, and removed it


def _remove_unless_locked(path: Path) -> None:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with open(os.open(path, flags), "rb") as file:
        is_free = _lock(file, wait=False)
        if is_free and _is_name_of(path, file) and _CAN_LOCK:
            path.unlink()
    if not _CAN_LOCK:
        path.unlink()


def _is_name_of(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _lock(file: IO[bytes], *, wait: bool) -> bool:
    """Return whether the file is ours now; a file system without locks gives none, and then nothing is removed."""
    if not _CAN_LOCK:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _unlock(file: IO[bytes]) -> None:
    if _CAN_LOCK:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
