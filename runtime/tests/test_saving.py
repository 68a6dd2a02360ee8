"""What `save` does with what stands at its path: files, links, pipes, devices, leftovers of killed writers."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import bitorch_runtime
import golden

WRITER = """
import os, sys
from bitorch_runtime import atomic_file
real = os.fsync
def wait(descriptor):
    print("writing", flush=True); sys.stdin.readline(); real(descriptor)
os.fsync = wait
atomic_file.write(sys.argv[1], b"whole")
"""


@pytest.fixture
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("golden") / "net"
    bitorch_runtime.save(path, *golden.network())
    return path.read_bytes()


def test_a_pipe_is_written_to_and_stays(tmp_path: Path, content: bytes) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match=r"nobody reads from this pipe: '.*/pipe'"):
        bitorch_runtime.save(pipe, *golden.network())
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    bitorch_runtime.save(pipe, *golden.network())  # less than a pipe holds
    assert os.read(reader, 2**20) == content
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    null = tmp_path / "null"
    try:
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container makes no devices")
    bitorch_runtime.save(null, *golden.network())
    assert stat.S_ISCHR(null.lstat().st_mode)
    os.mknod(tmp_path / "disk", 0o666 | stat.S_IFBLK, os.makedev(7, 200))
    with pytest.raises(OSError, match=r"it is a disk, which no file may replace: '.*/disk'"):
        bitorch_runtime.save(tmp_path / "disk", *golden.network())


def test_a_link_stays_and_its_file_keeps_its_permissions(tmp_path: Path, content: bytes) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")
    target.chmod(0o640)
    (tmp_path / "link").symlink_to("target")
    bitorch_runtime.save(tmp_path / "link", *golden.network())
    assert (tmp_path / "link").is_symlink()
    assert target.read_bytes() == content
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_read_only_files_and_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net"
    path.write_bytes(b"old")
    with pytest.raises(IsADirectoryError):
        bitorch_runtime.save(tmp_path, *golden.network())
    with pytest.raises(FileNotFoundError, match=r"'.*/nowhere/net'$"):
        bitorch_runtime.save(tmp_path / "nowhere" / "net", *golden.network())
    monkeypatch.setattr("os.access", lambda *arguments: False)  # root may write everything
    with pytest.raises(PermissionError, match="the file is read-only"):
        bitorch_runtime.save(path, *golden.network())
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["net"]


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_what_a_killed_writer_left_goes_with_the_next_write_and_that_of_a_live_one_stays(tmp_path: Path) -> None:
    processes = []
    for name in ("killed", "alive"):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
    killed, alive = processes
    assert len(os.listdir(tmp_path)) == 2
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=10)
    bitorch_runtime.save(tmp_path / "net", *golden.network())
    assert len(os.listdir(tmp_path)) == 2  # net, and what becomes `alive`
    alive.communicate(b"\n", timeout=10)
    assert (tmp_path / "alive").read_bytes() == b"whole"
    assert sorted(os.listdir(tmp_path)) == ["alive", "net"]
