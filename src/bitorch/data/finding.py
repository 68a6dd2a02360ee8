"""Files of a data set, in its folder or where its archive puts them below it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

#: How many folders deep archives are unpacked, such as MNIST/raw.
_DEPTH = 2
#: Of more folders than this no archive is made; a folder of pictures may have thousands.
_MOST_FOLDERS = 64


def place_of(folder: Path, files: Sequence[str | tuple[str, ...]]) -> Path | None:
    """Return the folder itself, or the first one in it or in one of those, that holds all these files; None if none.

    Args:
        folder: to look in.
        files: names, or tuples of names of which one is enough.
    """
    choices = [(file,) if isinstance(file, str) else file for file in files]
    for place in _places(folder, _DEPTH):
        if all(any((place / name).is_file() for name in names) for names in choices):
            return place
    return None


def check_folder(folder: str | Path | None, data: str, wanted: str) -> Path:
    """Return the folder of a data set; ValueError without one, NotADirectoryError for what is none."""
    if folder is None:
        raise ValueError(f'data "{data}" needs the folder that holds {wanted}; name it with --folder')
    if not Path(folder).is_dir():
        raise NotADirectoryError(f"{folder} is not a folder; it must hold {wanted}")
    return Path(folder)


def _places(folder: Path, depth: int) -> Iterator[Path]:
    yield folder
    if depth == 0 or not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        below = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    for name in sorted(below)[:_MOST_FOLDERS]:
        yield from _places(folder / name, depth - 1)
