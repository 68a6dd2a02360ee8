"""The command `bitorch`: which commands there are, what each of them needs, and how they end."""

from __future__ import annotations

import difflib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec

from .commands.console import FAILED, USER_ERROR, print_error
from .commands.own_quantizers import OPTION, register_files, split_option
from .known_names import wrong_data, wrong_model
from .own_code import find_own, is_own
from .recorded_code import remember
from .short_repr import short_repr
from .version import __version__

#: By import name, with how to get them.
_TRAIN_PACKAGES = ("lightning", "numpy", "rich", "sklearn", "tensorboard", "torchmetrics", "tyro", "yaml")
_TRAIN = dict.fromkeys(_TRAIN_PACKAGES, 'pip install ".[train]"')
_DEPLOY = {**_TRAIN, "bitorch_runtime": "pip install ./runtime"}
_PICTURES = {**_TRAIN, "PIL": 'pip install ".[train]"'}
_PREDICT = {**_DEPLOY, "PIL": 'pip install ".[train]"'}

#: By name: the module in `commands`, what the command does, and the packages that it needs.
_COMMANDS: dict[str, tuple[str, str, dict[str, str]]] = {
    "init": ("init", "Write a settings file that fits a folder of data.", _PICTURES),
    "train": ("train", "Train a low-bit net.", _TRAIN),
    "sweep": ("sweep", "Train a grid or a search of settings, here or on a cluster.", _TRAIN),
    "check": ("check", "Name what will go wrong in training, from one batch.", _TRAIN),
    "report": ("report", "Say what each layer of a net costs.", _TRAIN),
    "sensitivity": ("sensitivity", "Say how much worse a net is with other bits in one layer.", _TRAIN),
    "allocate": ("allocate", "Choose bits for each layer that a budget allows, as a file of rules.", _DEPLOY),
    "eval": ("evaluate", "Evaluate a checkpoint, or a packed net, on test data.", _TRAIN),
    "deploy": ("deploy", "Write a trained net as a packed file that runs without PyTorch.", _DEPLOY),
    "export": ("export", "Write a trained net as an ONNX file, or a packed net as a header in C.", _DEPLOY),
    "verify": ("verify", "Compare a packed net with its checkpoint on test data, number by number.", _DEPLOY),
    "predict": ("predict", "Classify images with a packed net.", _PREDICT),
    "bench": ("bench", "Time a packed net beside its float twin.", _DEPLOY),
    "doctor": ("doctor", "Say what this machine and installation can do.", {}),
}

#: Commands that start processes, which have to learn of the user's quantizers, too.
_WITH_PROCESSES = ("sweep",)

#: Options that may name code of the user's own.
OWN_OPTIONS = ("--model", "--distil-model", "--data", "--loss", "--metric")

#: By name: what other programs call the command.
_OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "init": ("new", "create", "setup", "start", "configure"),
    "train": ("fit", "run", "finetune", "fine-tune"),
    "sweep": ("grid", "grid-search", "tune", "hpo", "hyperparameters"),
    "check": ("lint", "diagnose", "validate"),
    "report": ("summary", "analyze", "analyse", "stats"),
    "sensitivity": ("sensitivities", "layerwise", "sweep-bits"),
    "allocate": ("allocation", "mixed-precision", "mixed", "assign", "search"),
    "eval": ("evaluate", "test", "score"),
    "deploy": ("convert", "pack", "compile", "save"),
    "export": ("onnx", "to-onnx", "c", "to-c", "header", "transpile"),
    "verify": ("compare", "diff"),
    "predict": ("infer", "inference", "classify"),
    "bench": ("benchmark", "profile", "time", "speed"),
    "doctor": ("info", "env", "version", "collect-env"),
}


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
        return print_error(f"unknown command {short_repr(name)}; {_meant(name)}")
    if problem := _wrong_name(rest):
        return print_error(problem)
    module, _, packages = _COMMANDS[name]
    if missing := _missing(packages):
        return print_error(missing)
    try:
        _remember_own_code(rest)
        files, others = split_option(rest)
        register_files(files)
    except (ValueError, OSError) as error:
        return print_error(str(error))
    try:
        # Only here: a command's own imports take seconds, and need what the others may do without.
        code: int = import_module(f".commands.{module}", __package__).run(rest if name in _WITH_PROCESSES else others)
        sys.stdout.flush()  # here, where a reader that has gone and a full disk are handled
        return code
    except BrokenPipeError:  # `bitorch … | head`: nobody reads on
        _give_up_output()
        return FAILED
    except OSError as error:
        # Commands handle what comes of their files. What names none comes of what was printed.
        if error.errno is None or error.filename is not None:
            raise
        _give_up_output()
        return print_error(f"cannot write the output: {error.strerror}")
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 128 + signal.SIGINT


def _give_up_output() -> None:
    """Let Python's own flush at exit not fail, too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _meant(name: str) -> str:
    """Return which command was meant, or all there are."""
    near = [command for command, others in _OTHER_NAMES.items() if name.lower() in others]
    near += difflib.get_close_matches(name.lower(), _COMMANDS, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(_COMMANDS)}"


def _remember_own_code(arguments: Sequence[str]) -> None:
    """Remember the files with code of the user's own that options name: what they name may be run."""
    for option in OWN_OPTIONS:
        for value in _values(option, arguments):
            if is_own(value):
                remember(find_own(value, option.removeprefix("--")))


def _values(option: str, arguments: Sequence[str]) -> Iterator[str]:
    """Yield what a command line gives for an option."""
    for index, argument in enumerate(arguments):
        name, has_value, value = argument.partition("=")
        given = value if has_value else arguments[index + 1] if index + 1 < len(arguments) else ""
        if name == option and given and not given.startswith("-"):
            yield given


def _wrong_name(arguments: Sequence[str]) -> str:
    """Return what is wrong with --data or --model, else "": before the seconds that PyTorch takes to import."""
    for option, wrong in (("--data", wrong_data), ("--model", wrong_model)):
        for value in _values(option, arguments):
            if problem := wrong(value):
                return problem
    return ""


def _usage() -> str:
    width = max(map(len, _COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, text, _) in _COMMANDS.items()]
    more = [
        "bitorch COMMAND --help explains a command.",
        f"bitorch COMMAND {OPTION} FILE.py … makes quantizers of your own known by their names.",
        "bitorch --version",
    ]
    return "\n".join(["usage: bitorch COMMAND …", "", *lines, "", *more])


def _missing(packages: dict[str, str]) -> str:
    """Return which packages are missing and how to get them, "" if none is."""
    missing = [name for name in packages if find_spec(name) is None]
    remedies = " and ".join(dict.fromkeys(packages[name] for name in missing))
    return f"this command needs {', '.join(missing)}: {remedies} in a checkout of bitorch" if missing else ""


if __name__ == "__main__":
    sys.exit(main())
