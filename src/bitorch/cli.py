"""The command `bitorch`: each command is a function from its arguments to an exit code."""

from __future__ import annotations

import difflib
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from typing import TYPE_CHECKING

from . import __version__

if TYPE_CHECKING:
    from .train import Evaluation, Interrupted, NonFiniteError, Result

FAILED = 1
USER_ERROR = 2
#: Of the extra [train], by import name.
_TRAIN_PACKAGES = ("lightning", "numpy", "rich", "sklearn", "tensorboard", "torchmetrics", "tyro", "yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, sys.argv by default, and return its exit code.

    What a user can cause is one line on stderr and code 2. Any other exception is a bug, and its traceback is shown.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] in ([], ["-h"], ["--help"]):
        print(_usage())
        return 0 if arguments else USER_ERROR
    if arguments[0] == "--version":
        print(f"bitorch {__version__}")
        return 0
    name, *rest = arguments
    if name not in _COMMANDS:
        near = difflib.get_close_matches(name, _COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_COMMANDS)}"
        return _error(f"unknown command {name!r}; {hint}")
    try:
        code = _COMMANDS[name](rest)
        sys.stdout.flush()  # here, where a reader that has gone is handled
        return code
    except BrokenPipeError:  # `bitorch … | head`: nobody reads on, and Python's own flush at exit must not fail either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 128 + signal.SIGINT


def train(arguments: list[str]) -> int:
    """Train a low-bit image classifier."""
    if missing := _missing_packages():
        return _error(missing)
    from .train.arguments import parse_train

    try:
        settings = parse_train(arguments)
        from .train import Interrupted, NonFiniteError, prepare

        run = prepare(settings)
    except (ValueError, TypeError, OSError) as error:
        return _error(error)
    from .train.progress import is_first_process

    try:
        result = run.train()
    except (NonFiniteError, Interrupted) as stop:
        # All processes stop alike. Lightning's first one kills itself when another ends with a code, so they do not.
        return _say_why_it_stopped(stop) if is_first_process() else 0
    except OSError as error:
        return _error(error)
    if is_first_process():
        _print_result(result)
    return 0


def evaluate(arguments: list[str]) -> int:
    """Evaluate a checkpoint on test images."""
    if missing := _missing_packages():
        return _error(missing)
    from .train.arguments import parse_eval

    options = parse_eval(arguments)
    from .train import evaluate

    try:
        evaluation = evaluate(options.checkpoint, options.data, options.folder, accelerator=options.accelerator)
    except (ValueError, TypeError, OSError) as error:
        return _error(error)
    if options.json:
        print(json.dumps(asdict(evaluation), indent=2))
    else:
        _print_evaluation(evaluation)
    return 0


def doctor(arguments: list[str]) -> int:
    """Say what this machine and installation can do."""
    import argparse

    from .doctor import doctor_report, format_report

    parser = argparse.ArgumentParser(prog="bitorch doctor", description=doctor.__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    report = doctor_report()
    print(json.dumps(report, indent=2) if parser.parse_args(arguments).json else format_report(report))
    return 0


_COMMANDS: dict[str, Callable[[list[str]], int]] = {"train": train, "eval": evaluate, "doctor": doctor}


def _usage() -> str:
    width = max(map(len, _COMMANDS))
    lines = [f"  {name:{width}}  {command.__doc__}" for name, command in _COMMANDS.items()]
    return "\n".join(
        ["usage: bitorch COMMAND …", "", *lines, "", "bitorch COMMAND --help explains a command.", "bitorch --version"]
    )


def _error(message: object, code: int = USER_ERROR) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _missing_packages() -> str:
    """Return what to install, "" if nothing is missing."""
    missing = [name for name in _TRAIN_PACKAGES if find_spec(name) is None]
    return (
        f'this command needs {", ".join(missing)}: pip install ".[train]" in a checkout of bitorch' if missing else ""
    )


def _say_why_it_stopped(stop: NonFiniteError | Interrupted) -> int:
    """Print what to do, and return the exit code: for a signal, the one that shells use."""
    if isinstance(stop, FloatingPointError):
        return _error(stop, FAILED)
    print(f"\nstopped; resume with\n  bitorch train --resume {shlex.quote(str(stop.checkpoint))}", flush=True)
    return 128 + stop.signal_number


def _print_result(result: Result) -> None:
    rows = {
        "best top-1": f"{result.best_accuracy:.2%}",
        "last top-1": f"{result.last_accuracy:.2%}",
        "last top-5": "" if result.last_top5 is None else f"{result.last_top5:.2%}",
        "time per step": f"{result.seconds_per_step * 1e3:.1f} ms",
        "best checkpoint": str(result.best_checkpoint),
    }
    _print_table(f"{result.epochs} epochs", rows)


def _print_evaluation(evaluation: Evaluation) -> None:
    rows = {
        "model": f"{evaluation.model}, bits {' '.join(map(str, evaluation.bits))}",
        "test images": str(evaluation.images),
        "loss": f"{evaluation.loss:.4f}",
        "top-1": f"{evaluation.top1:.2%}",
        "top-5": "" if evaluation.top5 is None else f"{evaluation.top5:.2%}",
    }
    _print_table(f"{evaluation.checkpoint} on {evaluation.data}", rows)


def _print_table(title: str, rows: dict[str, str]) -> None:
    """Print two columns; rows without a value are left out."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
