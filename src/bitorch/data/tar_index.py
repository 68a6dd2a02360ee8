"""What is in a tar file and where: its headers are read, and its contents passed over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_BLOCK = 512
_MOST_HEADER = 1 << 20


@dataclass(frozen=True)
class Member:
    """A file in a tar file: its name, and where its bytes stand."""

    name: bytes
    place: int
    size: int


def tar_members(path: Path) -> Iterator[Member]:
    """Yield the ordinary files in a tar file (ustar, GNU or pax; not compressed), in their order.

    Raises:
        ValueError: no tar file, a compressed or truncated one. OSError: it cannot be read.
    """
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        start = file.read(6)
        if (
            start[:2] == b"\x1f\x8b"
            or start[:4] == b"\x28\xb5\x2f\xfd"
            or start == b"\xfd7zXZ\x00"
            or start[:3] == b"BZh"
        ):
            raise ValueError(f"{path} is compressed; pictures are read where they stand, so unpack it to a plain .tar")
        yield from _members(path, file, total)


def _members(path: Path, file: BinaryIO, total: int) -> Iterator[Member]:
    place, name, size = 0, b"", -1  # a name and a size that a header before says
    while True:
        file.seek(place)
        header = file.read(_BLOCK)
        if header == bytes(_BLOCK) or (not header and place):
            return
        if len(header) < _BLOCK or not _is_header(header):
            raise ValueError(f"{path} is no tar file, or a damaged one: no header at byte {place}")
        length = _number(header[124:136])
        kind, data = header[156:157], place + _BLOCK
        place = data + -(-length // _BLOCK) * _BLOCK
        if data + length > total:
            raise ValueError(f"{path} is truncated: a file in it ends at byte {data + length} of {total}")
        if kind in b"LxgKX" and kind:
            if length > _MOST_HEADER:
                raise ValueError(f"{path} has a header of {length} bytes at byte {data}")
            content = file.read(length)
            if kind == b"L":
                name = content.rstrip(b"\0")
            elif kind in (b"x", b"X"):
                fields = _pax(path, content)
                name, size = fields.get(b"path", name), int(fields.get(b"size", b"%d" % size))
            continue
        if size >= 0:
            length, place = size, data + -(-size // _BLOCK) * _BLOCK
        if kind in (b"0", b"\0", b"7"):
            yield Member(name if name else _name(header), data, length)
        name, size = b"", -1


def _is_header(header: bytes) -> bool:
    try:
        said = _number(header[148:156])
    except ValueError:
        return False
    return said == sum(header[:148]) + sum(header[156:]) + 8 * ord(" ")


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # GNU: binary, for sizes beyond the octal digits
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    text = field.split(b"\0")[0].strip()
    return int(text, 8) if text else 0


def _name(header: bytes) -> bytes:
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    return prefix + b"/" + name if header[257:263] == b"ustar\0" and prefix else name


def _pax(path: Path, content: bytes) -> dict[bytes, bytes]:
    """Return the records of a pax header: "LENGTH KEY=VALUE\\n" each."""
    fields, place = {}, 0
    while place < len(content) and content[place : place + 1] != b"\0":
        digits = content[place : content.find(b" ", place)]
        if not digits.isdigit() or int(digits) <= len(digits):
            raise ValueError(f"{path} has a damaged pax header")
        record = content[place + len(digits) + 1 : place + int(digits) - 1]
        key, _, value = record.partition(b"=")
        fields[key] = value
        place += int(digits)
    return fields
