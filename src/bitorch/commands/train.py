"""`bitorch train`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from .console import FAILED, print_error, print_table

if TYPE_CHECKING:
    from ..train import Interrupted, NonFiniteError, Result


def run(arguments: list[str]) -> int:
    """Train, and print the result."""
    from .arguments import parse_train

    try:
        settings = parse_train(arguments)
        from ..train import Interrupted, NonFiniteError, prepare

        run = prepare(settings)
    except (ValueError, TypeError, OSError, ImportError) as error:
        return print_error(error)
    from ..input_error import InputError
    from ..train.progress import is_first_process

    try:
        result = run.train()
    except (NonFiniteError, Interrupted) as stop:
        # All processes stop alike. Lightning's first one kills itself when another ends with a code, so they do not.
        return _say_why_it_stopped(stop) if is_first_process() else 0
    except (OSError, InputError) as error:
        return print_error(error)
    if is_first_process():
        _print_result(result)
    return 0


def _say_why_it_stopped(stop: NonFiniteError | Interrupted) -> int:
    """Print what to do, and return the exit code: for a signal, the one that shells use."""
    if isinstance(stop, FloatingPointError):
        return print_error(stop, FAILED)
    print(f"\nstopped; resume with\n  bitorch train --resume {shlex.quote(str(stop.checkpoint))}", flush=True)
    return 128 + stop.signal_number


def _print_result(result: Result) -> None:
    from ..train.progress import value_text

    metric = "top-1" if result.metric == "acc" else result.metric
    rows = {
        f"best {metric}": value_text(result.metric, result.best),
        f"last {metric}": value_text(result.metric, result.last),
        "last top-5": "" if result.last_top5 is None else f"{result.last_top5:.2%}",
        "time per step": f"{result.seconds_per_step * 1e3:.1f} ms",
        "best checkpoint": str(result.best_checkpoint),
    }
    print_table("1 epoch" if result.epochs == 1 else f"{result.epochs} epochs", rows)
