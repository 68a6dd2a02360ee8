"""Files that are there as a whole, or not at all."""

from __future__ import annotations

import os
import secrets


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text as UTF-8 under another name in its folder, then rename it.

    Raises:
        OSError: it cannot be written. A file that was there before is then still there.
    """
    target = os.fspath(path)
    temporary = f"{target}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "x", encoding="utf-8", newline="") as file:
            file.write(text)
        os.replace(temporary, target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, target) from None  # which names the file that was asked for
    finally:
        if os.path.exists(temporary):  # something failed: it was not renamed
            os.unlink(temporary)
