"""The pictures below a folder, and the class that the names of their folders say."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ..data.pictures import picture_suffixes


@dataclass(frozen=True)
class PicturesBelow:
    """What a folder holds.

    Attributes:
        root: the folder.
        pictures: in the order of their names, folder by folder.
        others: files whose names are none of a picture.
    """

    root: Path
    pictures: tuple[Path, ...]
    others: int

    def label_of(self, picture: Path, names: Collection[str]) -> str | None:
        """Return the class that the nearest folder around a picture is called by, the root among them, or None."""
        around = picture.relative_to(self.root).parent.parts
        return next((part for part in (*reversed(around), self.root.resolve().name) if part in names), None)


def pictures_below(folder: Path) -> PicturesBelow:
    """Look for pictures in a folder and all folders in it; names with a leading dot are left out.

    Raises:
        OSError: a folder cannot be read.
        ValueError: there is no picture.
    """
    pictures: list[Path] = []
    others = 0
    suffixes = picture_suffixes() | {".npy"}
    for path in _files(folder):
        if path.suffix.lower() in suffixes:
            pictures.append(path)
        else:
            others += 1
    if not pictures:
        beside = f", but {others:,} other file{'s' if others > 1 else ''}" if others else ""
        raise ValueError(
            f"there is no picture in {folder}{beside}; pictures end in .png, .jpg and the like, or in .npy"
        )
    return PicturesBelow(folder, tuple(pictures), others)


def _files(folder: Path) -> list[Path]:
    """Return all files, without following links to folders, which may lead round in circles."""
    found: list[Path] = []
    for root, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(root) / name for name in sorted(names) if not name.startswith(".")]
    return found


def _raise(error: OSError) -> None:
    raise error
