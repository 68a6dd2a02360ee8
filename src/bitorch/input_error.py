"""Errors in what a user gave: own data, own losses, labels. Their message is for that user, also during a run."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Frames of these are not a user's code.
_OURS = str(Path(__file__).parent)


class InputError(ValueError):
    """Data, labels, a loss or a metric of the user's own cannot be used; the message says which, why, and what fits."""


def place_of(error: BaseException) -> str:
    """Return the line of the user's own code in which an error was raised, "mine.py:12", the innermost that is known.

    Frames of bitorch and of installed packages are passed over; where all are such, the innermost counts.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not (f.filename.startswith((_OURS, "<")) or "site-packages" in f.filename)]
    found = own if own else list(frames)
    return f"{Path(found[-1].filename).name}:{found[-1].lineno}" if found else "an unknown line"


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Turn what own code raises inside into "`what` raises ZeroDivisionError at mine.py:12: division by zero".

    An InputError, which says already what is wrong, goes through.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # code of the user may raise anything, and it is told, not swallowed
        said = " ".join(str(error).split())
        raise InputError(
            f"{what} raises {type(error).__name__} at {place_of(error)}{': ' if said else ''}{said}"
        ) from error
