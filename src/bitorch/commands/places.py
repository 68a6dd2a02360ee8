"""Where a command writes a file to, checked before any work is done."""

from __future__ import annotations

from pathlib import Path

from ..atomic_file import takes_stream


def check_place(flag: str, path: Path, example: str) -> None:
    """Raise an OSError that names the flag unless a file can be put at a path, or a stream written to it.

    Args:
        example: of a file's name, for the message about a folder.
    """
    try:
        takes_stream(path)
    except IsADirectoryError:
        raise IsADirectoryError(
            f"{path} is a folder; name a file in it with {flag}, such as {path / example}"
        ) from None
    except FileNotFoundError:
        raise NotADirectoryError(f"there is no folder {path.parent} to write {path.name} to; make it first") from None
    except OSError as error:
        raise OSError(f"{flag} {path}: {error.strerror}; name another file") from None
