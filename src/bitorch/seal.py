"""The SHA-256 of a PyTorch file, in the comment at its end, where PyTorch and every program for zip files pass over it.

PyTorch writes zip archives with a CRC-32 of each part, and does not look at them when it reads. Files without our seal
are compared with those.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from typing import IO

_MARK = b"bitorch sha256 "
_DIGITS = 64
_SEAL = len(_MARK) + _DIGITS
#: End of a zip archive: what begins with this, and ends with the length of the comment.
_END_MARK, _END = b"PK\x05\x06", 22
_CHUNK = 2**20


def seal(archive: io.BytesIO) -> None:
    """Put the hash of all its bytes behind an archive of `torch.save`, which has no comment yet."""
    with archive.getbuffer() as content:
        _check_end(content[-_END:])
        content[-2:] = struct.pack("<H", _SEAL)
        digest = hashlib.sha256(content).hexdigest()
    archive.seek(0, io.SEEK_END)
    archive.write(_MARK + digest.encode())


def check_seal(file: IO[bytes]) -> None:
    """Compare an archive with its hash, or, of one that has none, with its checksums.

    Raises:
        ValueError: they differ; or the archive holds compressed or overlapping parts, which PyTorch never writes and
            which may be of any size.
    """
    size = file.seek(0, io.SEEK_END)
    tail = min(size, _SEAL + _END)
    file.seek(size - tail)
    end = file.read()
    if end[-_SEAL:].startswith(_MARK):
        if _digest(file, size - _SEAL) != end[-_DIGITS:]:
            raise ValueError("its content does not have the SHA-256 that it states, so it has changed since")
        _check_parts(file, size, compare=False)
        return
    _check_end(end[-_END:])
    _check_parts(file, size, compare=True)


def _check_end(end: bytes | memoryview) -> None:
    if bytes(end[:4]) != _END_MARK or bytes(end[-2:]) != b"\0\0":
        raise ValueError("its end is not that of a file which torch.save has written, so it was cut off or has changed")


def _digest(file: IO[bytes], size: int) -> bytes:
    sha = hashlib.sha256()
    file.seek(0)
    while size > 0:
        chunk = file.read(min(size, _CHUNK))
        if not chunk:
            break
        sha.update(chunk)
        size -= len(chunk)
    return sha.hexdigest().encode()


def _check_parts(file: IO[bytes], size: int, *, compare: bool) -> None:
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        if sum(part.file_size for part in parts) > size or any(part.compress_type for part in parts):
            raise ValueError("it claims to hold more than it has bytes, or is compressed")
        if not all(0 <= part.header_offset < size for part in parts):
            raise ValueError("its list of parts names one that lies outside the file")
        # torch.serialization.set_crc32_options(False) leaves them out.
        if not compare or not any(part.CRC for part in parts):
            return
        for part in parts:
            with archive.open(part) as stream:
                while stream.read(_CHUNK):  # BadZipFile at the end, if the checksum is another
                    pass
