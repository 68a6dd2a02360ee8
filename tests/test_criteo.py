"""Files of clicks in Criteo's format."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from bitorch.data import Clicks, criteo_batches, read_criteo

WORDS = [f"{0x10 + feature:08x}" for feature in range(26)]
LINES = [
    "\t".join(["1", *map(str, range(13)), *WORDS]),
    "\t".join(["0", "", "-3", *["7"] * 11, "", "ffffffff", *WORDS[2:]]),
    "\t".join(["0", *["1000000"] * 13, *["a"] * 26]),
]


def write(path: Path, lines: list[str], end: str = "\n") -> Path:
    path.write_bytes((end.join(lines) + end).encode())
    return path


def equal(one: Clicks, other: Clicks) -> bool:
    names = ("labels", "dense", "indices")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def test_a_file(tmp_path: Path) -> None:
    clicks = read_criteo(write(tmp_path / "day", LINES), 100)
    assert len(clicks) == 3
    assert clicks.labels.tolist() == [1.0, 0.0, 0.0]
    assert (clicks.labels.dtype, clicks.dense.dtype, clicks.indices.dtype) == (
        torch.float32,
        torch.float32,
        torch.int64,
    )
    assert (clicks.dense.shape, clicks.indices.shape) == ((3, 13), (3, 26))
    expected = [[math.log1p(number) for number in range(13)], [0.0, 0.0, *[math.log1p(7)] * 11], [math.log1p(1e6)] * 13]
    torch.testing.assert_close(clicks.dense, torch.tensor(expected))
    assert clicks.indices[0].tolist() == [1 + (16 + feature) % 99 for feature in range(26)]
    assert clicks.indices[1].tolist() == [0, 1 + 0xFFFFFFFF % 99, *clicks.indices[0, 2:].tolist()]
    assert clicks.indices[2].tolist() == [11] * 26


def test_sizes_of_each_table(tmp_path: Path) -> None:
    sizes = [2 + feature for feature in range(26)]
    clicks = read_criteo(write(tmp_path / "day", LINES), sizes)
    assert bool((clicks.indices < torch.tensor(sizes)).all())
    assert clicks.indices[0, 0] == 1
    assert clicks.indices[0, 25] == 1 + (16 + 25) % 26


def test_packed_by_gzip_and_with_other_ends(tmp_path: Path) -> None:
    plain = read_criteo(write(tmp_path / "day", LINES), 50)
    with gzip.open(tmp_path / "day.gz", "wb") as file:
        file.write((tmp_path / "day").read_bytes())
    assert equal(read_criteo(tmp_path / "day.gz", 50), plain)
    assert equal(read_criteo(write(tmp_path / "windows", LINES, "\r\n"), 50), plain)
    (tmp_path / "half.gz").write_bytes((tmp_path / "day.gz").read_bytes()[:-20])
    with pytest.raises(EOFError):
        read_criteo(tmp_path / "half.gz", 50)


def test_batches(tmp_path: Path) -> None:
    path = write(tmp_path / "day", LINES * 3)
    whole = read_criteo(path, 50)
    parts = list(criteo_batches(path, 50, batch_size=4))
    assert [len(part) for part in parts] == [4, 4, 1]
    assert equal(parts[1], whole[4:8])
    assert equal(read_criteo(path, 50, most=5), whole[:5])
    assert equal(whole[torch.tensor([8, 0])], Clicks(whole.labels[[8, 0]], whole.dense[[8, 0]], whole.indices[[8, 0]]))
    indices, offsets = whole[:4].bags()
    assert torch.equal(indices, whole.indices[:4].t())
    assert torch.equal(offsets, torch.arange(4).expand(26, 4))


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (LINES[0][2:], "line 2 has 39 fields, and must have 40: its label is missing"),
        ("1\t2", "line 2 has 2 fields"),
        (LINES[0].replace("1\t", "2\t", 1), "line 2 has the label 2"),
        (LINES[0].replace("\t12\t", "\t1.5\t"), r"line 2: invalid literal.*1\.5"),
        (LINES[0].replace("00000010", "word"), "line 2: invalid literal.*word"),
        (LINES[0][1:], "line 2: invalid literal"),
    ],
)
def test_wrong_lines(line: str, what: str, tmp_path: Path) -> None:
    path = write(tmp_path / "day", [LINES[0], line])
    with pytest.raises(ValueError, match=f"{path}, {what}"):
        read_criteo(path, 50)


@pytest.mark.parametrize(
    ("table_size", "error"),
    [(1, ValueError), ([3] * 25, ValueError), ([3] * 25 + [1], ValueError), ([3.0] * 26, TypeError), (True, TypeError)],
)
def test_wrong_table_sizes(table_size: Any, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error, match="table_size must be"):
        read_criteo(tmp_path / "not even there", table_size)


def test_wrong_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "day", LINES)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        criteo_batches(path, 50, batch_size=0)
    with pytest.raises(TypeError, match="most must be an int"):
        read_criteo(path, 50, most=1.5)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        read_criteo(tmp_path / "none", 50)
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="has no line"):
        read_criteo(tmp_path / "empty", 50)
