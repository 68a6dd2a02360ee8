"""All pictures looked at once, before any training is lost to one of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .pictures import PictureError, look_at
from .sources import FileSource
from .workers import in_chunks

#: Bits of `Looks.flags`, and what is said of as many pictures.
GREY = 1
_SAID = {
    2: "turned as their EXIF orientation says",
    4: "with transparency, put on white",
    8: "with printing inks (CMYK), made RGB",
    16: "of 16 bits a channel, of which the upper 8 are kept",
    32: "animated, of which the first frame is taken",
}
_SHOWN = 5


@dataclass(frozen=True)
class Looks:
    """What the heads of pictures say.

    Attributes:
        kept: int64 [N], which pictures are whole.
        sizes: int64 [N, 2], their heights and widths.
        flags: uint8 [N], their kinds.
        broken: names and faults of the others.
    """

    kept: NDArray[np.int64]
    sizes: NDArray[np.int64]
    flags: NDArray[np.uint8]
    broken: tuple[str, ...]

    @property
    def is_grey(self) -> bool:
        """Whether no picture has colours."""
        return bool((self.flags & GREY).all())

    def notes(self, what: str) -> list[str]:
        """Return what is to be known of them."""
        found = [f"{count:,} {said}" for bit, said in _SAID.items() if (count := int(((self.flags & bit) > 0).sum()))]
        lines = [f"{what} pictures: {'; '.join(found)}"] if found else []
        if self.broken:
            lines.append(f"{what} pictures left out, because they are broken: {shown(self.broken)}")
        return lines


def look_at_all(source: FileSource, workers: int, what: str) -> Looks:
    """Read the head of each picture, and see whether its end is there; all pixels only of one whose end is missing."""
    kept, rows = np.empty(len(source), np.int64), np.empty((len(source), 3), np.int64)
    count, broken = 0, []
    for start, part in in_chunks(_Look(source), len(source), workers, f"looking at {what} pictures"):
        for index, row in enumerate(part, start):
            if isinstance(row, str):
                broken.append(row)
            else:
                kept[count], rows[count] = index, row
                count += 1
    return Looks(kept[:count], rows[:count, :2], rows[:count, 2].astype(np.uint8), tuple(broken))


def shown(names: tuple[str, ...] | list[str]) -> str:
    """Return the first few of some names, and how many there are."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


class _Look:
    def __init__(self, source: FileSource) -> None:
        self._source = source

    def __call__(self, indices: range) -> tuple[int, list[tuple[int, int, int] | str]]:
        return indices.start, [self._one(index) for index in indices]

    def _one(self, index: int) -> tuple[int, int, int] | str:
        try:
            with self._source.stream(index) as stream:
                kind = look_at(stream)
        except PictureError as error:
            return f"{self._source.name(index)} {error}"
        flags = (kind.grey, kind.turned, kind.transparent, kind.cmyk, kind.deep, kind.animated)
        return kind.height, kind.width, sum(1 << bit for bit, is_set in enumerate(flags) if is_set)
