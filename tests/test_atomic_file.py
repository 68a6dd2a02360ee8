"""Files that are there as a whole, or not at all."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import pytest

from bitorch.atomic_file import write_and_rename, write_text
from bitorch.temporary_file import remove_leftovers, temporary_name


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


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match=r"nobody reads from this pipe: '.*/pipe'"):
        write_text(pipe, "text")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "größer")
    assert os.read(reader, 100).decode() == "größer"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    null = tmp_path / "null"
    try:
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container makes no devices")
    before = null.lstat()
    write_text(null, "text")
    after = null.lstat()
    assert (after.st_mode, after.st_rdev, after.st_ino) == (before.st_mode, before.st_rdev, before.st_ino)
    os.mknod(tmp_path / "disk", 0o666 | stat.S_IFBLK, os.makedev(7, 200))
    with pytest.raises(OSError, match=r"it is a disk, which no file may replace: '.*/disk'"):
        write_text(tmp_path / "disk", "text")
    assert sorted(os.listdir(tmp_path)) == ["disk", "null"]


def test_a_socket_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(OSError, match="it is a socket, which no file may replace: 'socket'"):
            write_text("socket", "text")
        assert stat.S_ISSOCK(os.lstat("socket").st_mode)


def test_a_link_stays_and_its_file_is_replaced_with_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "file.txt"
    target.write_text("old")
    target.chmod(0o640)
    link = tmp_path / "link.txt"
    link.symlink_to(Path("elsewhere") / "file.txt")
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    dangling = tmp_path / "dangling.txt"
    dangling.symlink_to(tmp_path / "elsewhere" / "later.txt")
    write_text(dangling, "made")
    assert (tmp_path / "elsewhere" / "later.txt").read_text() == "made"
    assert sorted(os.listdir(tmp_path)) == ["dangling.txt", "elsewhere", "link.txt"]
    assert sorted(os.listdir(tmp_path / "elsewhere")) == ["file.txt", "later.txt"]


def test_a_read_only_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    monkeypatch.setattr("os.access", lambda *arguments: False)  # root may write everything
    with pytest.raises(PermissionError, match=r"the file is read-only: '.*/file\.txt'"):
        write_text(path, "new")
    assert path.read_text() == "old"


def test_standard_output_comes_in_its_place_in_a_file(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    script = (
        "from bitorch.atomic_file import write_text\n"
        "print('before')\nwrite_text('/dev/stdout', 'between\\n')\nprint('after')"
    )
    with out.open("w") as file:
        subprocess.run([sys.executable, "-c", script], stdout=file, check=True, timeout=60)
    assert out.read_text() == "before\nbetween\nafter\n"
    piped = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60)
    assert piped.stdout == b"before\nbetween\nafter\n"


WRITER = """
import os, sys, time
from pathlib import Path
from bitorch.atomic_file import write_and_rename
def slowly(file):
    file.write(b"half"); file.flush(); print("writing", flush=True); sys.stdin.readline(); file.write(b" whole")
write_and_rename(Path(sys.argv[1]), slowly)
"""


def writer_at_work(path: Path) -> subprocess.Popen[str]:
    """A process that has begun to write a file, and goes on with the next line on its stdin."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_what_a_killed_writer_left_goes_with_the_next_write_and_that_of_a_live_one_stays(tmp_path: Path) -> None:
    killed = writer_at_work(tmp_path / "a.txt")
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=10)
    (leftover,) = os.listdir(tmp_path)
    alive = writer_at_work(tmp_path / "b.txt")
    assert leftover not in os.listdir(tmp_path)
    write_text(tmp_path / "c.txt", "c")
    assert len(os.listdir(tmp_path)) == 2  # c.txt, and what becomes b.txt
    alive.communicate("\n", timeout=10)
    assert alive.returncode == 0
    assert (tmp_path / "b.txt").read_text() == "half whole"
    assert sorted(os.listdir(tmp_path)) == ["b.txt", "c.txt"]


def test_only_our_own_leftovers_are_removed(tmp_path: Path) -> None:
    ours = temporary_name(tmp_path)
    ours.write_text("left")
    for name in (".file.txt.k3j2h1", "file.tmp", ".bitorch-settings"):
        (tmp_path / name).write_text("of the user")
    (tmp_path / ".bitorch-folder.tmp").mkdir()
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".bitorch-folder.tmp", ".bitorch-settings", ".file.txt.k3j2h1", "file.tmp"]


def test_many_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for _ in range(50):
                write_text(tmp_path / "file.txt", str(number) * 100)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert (tmp_path / "file.txt").read_text() in {str(number) * 100 for number in range(4)}
    assert os.listdir(tmp_path) == ["file.txt"]
