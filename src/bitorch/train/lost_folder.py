"""What a run says when its folder, or the disk below it, cannot be written to any more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def saying_why(folder: Path) -> Iterator[None]:
    """Turn what fails because a run's folder has gone, or its logs cannot be written, into a sentence about that.

    TensorBoard writes in a thread of its own, which would print a traceback.

    Raises:
        OSError: in place of one that came from inside.
    """
    of_logs: list[BaseException] = []
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if isinstance(arguments.exc_value, OSError) and type(arguments.thread).__module__.startswith("tensorboard"):
            of_logs.append(arguments.exc_value)  # it comes again, out of the next call of the logger
        else:
            before(arguments)

    threading.excepthook = hook
    try:
        yield
    except OSError as error:
        check_folder(folder)
        raise _first(error, of_logs, folder) from error
    finally:
        threading.excepthook = before


def check_folder(folder: Path) -> None:
    """Raise an OSError if a run's folder is not there any more."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"the folder of the run, {folder}, has gone or cannot be entered, so the run has stopped; if it was moved, "
            "go on with --resume and the last.ckpt in it"
        )


def _first(error: OSError, of_logs: list[BaseException], folder: Path) -> OSError:
    """Return the first error that is not one of the logs, which follow when they are closed; else one about them."""
    link: BaseException | None = error
    while isinstance(link, OSError):
        if link not in of_logs and str(folder / "tensorboard") not in str(link.filename):
            return link
        link = link.__context__
    return OSError(
        f"cannot write the TensorBoard log in {folder / 'tensorboard'}: {error.strerror}, so the run has stopped; make "
        f"space or mend the folder, and go on with --resume {folder / 'last.ckpt'}"
    )
