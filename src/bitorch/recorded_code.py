"""Code of the user's own that a checkpoint or a settings file names: run only if the user has run it here before.

A file that somebody was given must not decide what is run. So whatever a user names on the command line, or passes in
Python, is remembered by its place and its hash, and of what files name only that is run.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from .atomic_file import write_text
from .own_code import OwnFile, find_own

_FILE = "own-code.txt"
#: Entries that are kept, the youngest.
_MOST = 500
_SHOWN_DIGITS = 12


def remember(file: OwnFile) -> None:
    """Remember that the user has run a file, as it is."""
    entry = _entry(file.path, file.sha256)
    entries = _entries()
    if entry in entries[-1:]:
        return
    lines = [*(other for other in entries if other != entry), entry][-_MOST:]
    # Where there is no place to remember in, the user names the code again.
    with suppress(OSError):
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(f"{line}\n" for line in lines))


def find_recorded(
    text: str, sha256: str | None, *, said_by: str, what: str = "model", option: str = "--model"
) -> OwnFile:
    """Return the file of a name that a checkpoint or a settings file holds, running nothing.

    It is the one at the place that the text names, or else any that was run here before and has the same source.

    Args:
        text: "file.py:name" or "package.module:name".
        sha256: of the source, None if it was not recorded.
        said_by: the file that names it, for messages.
        what: it is wanted for, in messages.
        option: by which the user names it himself.

    Raises:
        FileNotFoundError: it is not there. ValueError: it has changed, or has not been run here before.
    """
    place, _, name = text.rpartition(":")
    try:
        file = find_own(text, what)
    except (OSError, ValueError) as error:
        if (moved := _remembered(text, sha256, what)) is not None:
            return moved
        raise FileNotFoundError(
            f"{said_by} has the {what} {text}, which is not here ({error}); name it with {option} "
            f"PATH/TO/{place}:{name}"
        ) from error
    if sha256 is not None and file.sha256 != sha256:
        if (moved := _remembered(text, sha256, what)) is not None:
            return moved
        raise ValueError(
            f"{said_by} has the {what} {text}, and {file.path} has changed since: its SHA-256 was "
            f"{sha256[:_SHOWN_DIGITS]}… and is {file.sha256[:_SHOWN_DIGITS]}…; if what it makes is still the same, say "
            f"{option} {text}"
        )
    if _entry(file.path, file.sha256) not in _entries():
        if (moved := _remembered(text, sha256, what)) is not None:
            return moved
        raise ValueError(
            f"{said_by} has the {what} {text}, and {file.path} has not been run here before; what a file names is not "
            f"run by itself, so if the code is yours say {option} {text}"
        )
    return file


def _remembered(text: str, sha256: str | None, what: str) -> OwnFile | None:
    """Return a file that has been run here before and has this hash still."""
    name = text.rpartition(":")[2]
    for entry in reversed(_entries()):
        known, _, path = entry.partition("  ")
        if known == sha256 and path.endswith(".py"):
            with suppress(OSError, ValueError):
                file = find_own(f"{path}:{name}", what)
                if file.sha256 == sha256:
                    return file
    return None


def _entry(path: Path, sha256: str) -> str:
    return f"{sha256}  {path}"


def _entries() -> list[str]:
    with suppress(OSError, UnicodeDecodeError):
        return _path().read_text(encoding="utf-8").splitlines()
    return []


def _path() -> Path:
    """Return $XDG_STATE_HOME/bitorch/own-code.txt, or that in ~/.local/state."""
    folder = os.environ.get("XDG_STATE_HOME", "")
    root = Path(folder) if os.path.isabs(folder) else Path.home() / ".local" / "state"
    return root / "bitorch" / _FILE
