"""IDX, the file format of the MNIST family: a big-endian header with the sizes, then the bytes."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

_UINT8 = 0x08
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 1 << 20


def read_idx(path: str | Path) -> Tensor:
    """Read an IDX file of bytes, plain or gzip-compressed (told apart by content, not by name), as a uint8 tensor.

    The sizes in the header are compared with the bytes that are there before anything of that size is allocated.

    Raises:
        ValueError: not an IDX file of bytes, an empty dimension, truncated, trailing bytes, a corrupt gzip stream.
        OSError: the file cannot be opened or read.
    """
    path = Path(path)
    with path.open("rb") as raw:
        is_compressed = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        if not is_compressed:
            return _read(path, raw, available=os.fstat(raw.fileno()).st_size)
        try:
            with gzip.open(raw) as stream:
                return _read(path, stream, available=None)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is a corrupt or truncated gzip file: {error}") from error


def _read(path: Path, stream: BinaryIO | gzip.GzipFile, available: int | None) -> Tensor:
    """Parse a stream of `available` bytes, or of an unknown number if None."""
    sizes = _read_header(path, stream)
    header_bytes = 4 + 4 * len(sizes)
    expected = header_bytes + math.prod(sizes)
    if available is not None and available != expected:
        raise _wrong_length(path, sizes, expected, available)
    # In chunks, and one byte further than expected: memory grows with the data, not with what the header claims.
    data = bytearray()
    while chunk := stream.read(min(_CHUNK_BYTES, expected - header_bytes + 1 - len(data))):
        data += chunk
    if header_bytes + len(data) != expected:
        raise _wrong_length(path, sizes, expected, header_bytes + len(data))
    return torch.frombuffer(data, dtype=torch.uint8).view(sizes)


def _read_header(path: Path, stream: BinaryIO | gzip.GzipFile) -> tuple[int, ...]:
    """Return the sizes of all dimensions, each at least 1."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\x00\x00" or magic[2] != _UINT8 or magic[3] == 0:
        found = magic.hex(" ") if magic else "nothing"
        raise ValueError(
            f"{path} is not an IDX file of bytes: expected 00 00 08 and the number of dimensions first, got {found}"
        )
    header = stream.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise ValueError(
            f"{path} is truncated: expected a header of {4 + 4 * magic[3]} bytes for {magic[3]} dimensions, "
            f"got {4 + len(header)}"
        )
    sizes = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(0, len(header), 4))
    if 0 in sizes:
        raise ValueError(f"{path} holds no data: its header gives the sizes {list(sizes)}")
    return sizes


def _wrong_length(path: Path, sizes: tuple[int, ...], expected: int, got: int) -> ValueError:
    problem = "is truncated" if got < expected else "has trailing bytes"
    more = " or more" if got > expected else ""
    return ValueError(
        f"{path} {problem}: its header gives the sizes {list(sizes)}, so expected {expected} bytes, got {got}{more}"
    )
