"""How every recipe is run: a command line in, and an exit code and no traceback out where a user can see why."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import TypeVar

import tyro

from bitorch.train import NonFiniteError

OptionsT = TypeVar("OptionsT")


def run(main: Callable[[OptionsT], None], options_type: type[OptionsT]) -> None:
    """Call main with the options of the command line.

    Raises:
        SystemExit: 1: a loss or gradient was not finite; 2: wrong options, files or folders; 130: Ctrl-C.
    """
    options = tyro.cli(options_type)
    try:
        main(options)
    except KeyboardInterrupt:  # Interrupted, or what Ctrl-C is outside of training
        print("stopped; the same command goes on where it was")
        sys.exit(128 + signal.SIGINT)
    except NonFiniteError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
