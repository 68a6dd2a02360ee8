"""What a sweep needs of each machine of a cluster."""

from __future__ import annotations

from pathlib import Path

from ..version import __version__


def missing_on_node(marker: Path, content: str, folder: Path, version: str) -> str:
    """Return what this machine lacks for a sweep, "" if nothing.

    Args:
        marker: a file that the sweep has written into its folder.
        content: of it.
        folder: in which the command was called.
        version: of bitorch there.
    """
    try:
        seen = marker.read_text(encoding="utf-8")
    except OSError as error:
        return f"does not see {marker.parent}, the folder of the sweep ({error.strerror})"
    if seen != content:
        return f"has another folder {marker.parent} than the one of the sweep"
    if not folder.is_dir():
        return f"does not see {folder}, where the command was called, and from where paths start"
    return "" if __version__ == version else f"has bitorch {__version__}, and here it is {version}"
