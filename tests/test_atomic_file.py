"""Files that are there as a whole, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO

import pytest

from bitorch.atomic_file import write_and_rename, write_text


def test_a_text_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    for text in ("alt\n", "größer\r\n"):
        write_text(str(path), text)
        assert path.read_bytes() == text.encode()
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert os.listdir(tmp_path) == ["file.txt"]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def full(file: IO[bytes]) -> None:
        file.write(b"new")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"No space left on device: '.*/file\.txt'"):
        write_and_rename(path, full)
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_folder_in_the_way_is_named_and_nothing_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match=r"/folder'$"):
        write_text(tmp_path / "folder", "text")
    assert os.listdir(tmp_path) == ["folder"]
    with pytest.raises(FileNotFoundError, match=r"/nowhere/file\.txt'$"):
        write_text(tmp_path / "nowhere" / "file.txt", "text")
