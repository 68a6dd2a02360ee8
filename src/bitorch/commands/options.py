"""Options of a command line that there are not, and values that an option does not have: which were meant."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

from .console import USER_ERROR, print_error
from .own_quantizers import OPTION as QUANTIZERS

_T = TypeVar("_T")
_HELP = ("--help", "-h", "--tyro-print-completion", "--tyro-write-completion")
#: What other programs call an option, and what it may be called here: the first of these that the command has.
_OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "--out": (
        "-o", "--output", "--output-dir", "--out-dir", "--save", "--save-dir", "--save-path", "--logdir", "--log-dir",
        "--work-dir", "--workdir", "--project", "--default-root-dir", "--outfile", "--dest", "--destination",
    ),
    "--lr": ("--learning-rate", "--learningrate", "--base-lr", "--init-lr", "--lr0", "--step-size", "-lr"),
    "--batch-size": (
        "-b", "--batch", "--bs", "--train-batch-size", "--per-device-train-batch-size", "--minibatch", "--mini-batch",
    ),
    "--batch": ("-b", "--batch-size", "--bs", "--eval-batch-size"),
    "--epochs": ("-e", "--num-epochs", "--max-epochs", "--n-epochs", "--nepochs", "--num-train-epochs", "--iterations"),
    "--bits": (
        "--nbits", "--n-bits", "--num-bits", "--wbits", "--abits", "--w-bits", "--a-bits", "--g-bits", "--weight-bits",
        "--activation-bits", "--gradient-bits", "--quantization", "--bitwidth", "--bit-width", "-w",
    ),
    "--accelerator": ("--device", "--cpu", "--gpu", "--cuda", "--mps", "--no-cuda", "--backend"),
    "--devices": ("--gpus", "--num-gpus", "--ngpus", "--n-gpus", "--num-devices", "--nproc-per-node"),
    "--num-nodes": ("--nodes", "--nnodes", "--machines", "--num-machines"),
    "--data": ("-d", "--dataset", "--dataset-name", "--data-set"),
    "--folder": ("--data-dir", "--data-path", "--data-root", "--root", "--dataset-dir", "--dataset-path", "--datadir"),
    "--model": ("-m", "-a", "--arch", "--architecture", "--net", "--network", "--backbone", "--model-name"),
    "--weights": ("--pretrained", "--pretrained-weights", "--load", "--load-weights", "--finetune"),
    "--resume": ("--resume-from", "--resume-from-checkpoint", "--ckpt", "--ckpt-path", "--checkpoint", "--continue"),
    "--init": ("--init-from", "--start-from"),
    "--optimizer": ("--optim", "--opt"),
    "--weight-decay": ("--wd", "--l2", "--decay"),
    "--schedule": ("--scheduler", "--lr-scheduler", "--lr-schedule", "--lr-scheduler-type", "--sched"),
    "--warmup-epochs": ("--warmup", "--lr-warmup-epochs", "--warm-up"),
    "--milestones": ("--lr-steps", "--lr-milestones", "--lr-decay-epochs"),
    "--gamma": ("--lr-gamma", "--lr-decay", "--decay-rate"),
    "--precision": ("--amp", "--fp16", "--bf16", "--mixed-precision", "--dtype", "--half"),
    "--distil": ("--distill", "--distillation", "--teacher", "--kd", "--teacher-path"),
    "--distil-weight": ("--alpha", "--kd-weight"),
    "--distil-temperature": ("--temperature", "--kd-temperature", "-t"),
    "--pad-to": ("--imgsz", "--img-size", "--image-size", "--input-size", "--pad", "--size"),
    "--label-smoothing": ("--smoothing",),
    "--flip": ("--hflip", "--mirror", "--horizontal-flip"),
    "--pad-crop": ("--crop", "--random-crop"),
    "--config": ("-c", "--cfg", "--config-file", "--settings", "--yaml"),
    "--seed": ("--random-seed", "--manual-seed", "-s"),
    "--images": ("--num-images", "--samples", "--num-samples", "-n"),
    "--html": ("--page", "--web"),
    "--csv": ("--table", "--spreadsheet"),
    "--threads": ("-j", "-t", "--num-threads", "--workers", "--cores", "--jobs"),
    "--jobs": ("-j", "--workers", "--num-workers", "--parallel", "--processes", "--max-concurrent-trials"),
    "--address": ("--ray", "--ray-address", "--cluster", "--host"),
    "--retries": ("--max-failures", "--max-retries"),
    "--repeats": ("-n", "--runs", "--iterations", "--iters", "--repeat", "--samples"),
    "--top": ("-k", "--topk", "--top-k", "--k"),
    "--no-exact": ("--fast", "--inexact"),
    "--float-input": ("--float", "--no-pixels"),
}  # fmt: skip


def parse(kind: type[_T], arguments: Sequence[str], prog: str, default: _T | None = None) -> _T:
    """Return the arguments of a command line; SystemExit after --help, or after a message about what does not parse."""
    refuse_wrong_options(kind, arguments, prog)
    if default is None:
        return tyro.cli(kind, args=arguments, prog=prog)
    return tyro.cli(kind, args=arguments, prog=prog, default=default)


def refuse_wrong_options(kind: type[Any], arguments: Sequence[str], prog: str) -> None:
    """Print what is wrong with an option, and raise SystemExit, if one is; before a file is read that another names."""
    if problem := wrong_option(kind, arguments, prog):
        print_error(problem)
        sys.exit(USER_ERROR)


def wrong_option(kind: type[Any], arguments: Sequence[str], prog: str) -> str:
    """Return what is wrong with the first option that is unknown, or whose value is none of its choices; else ""."""
    choices = dict(_options(kind))
    known = [*choices, *_HELP, QUANTIZERS]
    for index, argument in enumerate(arguments):
        name, has_value, value = argument.partition("=")
        if not name.startswith("-") or _is_number(argument) or name == "-":
            continue
        option = f"--{name[2:].replace('_', '-')}" if name.startswith("--") else name
        if option not in known:
            return f"{prog} has no option {name}; {_meant(option, known, prog)}"
        given = value if has_value else arguments[index + 1] if index + 1 < len(arguments) else ""
        if choices.get(option) and given and not given.startswith("-") and given not in choices[option]:
            return f"{name} must be one of {', '.join(choices[option])}, got {given!r}{_choice(given, choices[option])}"
    return ""


def _meant(option: str, known: Sequence[str], prog: str) -> str:
    for name in (name for name in known if option in _OTHER_NAMES.get(name, ())):
        return f"did you mean {name}?"
    near = difflib.get_close_matches(option, known, n=1)
    return f"did you mean {near[0]}?" if near else f"{prog} --help lists all"


def _choice(given: str, choices: Sequence[str]) -> str:
    near = difflib.get_close_matches(given.lower(), choices, n=2)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _is_number(argument: str) -> bool:
    try:
        float(argument)
    except ValueError:
        return False
    return True


def _options(kind: type[Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the options of a dataclass of arguments, and the choices of each, () where it does not list them."""
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint, metadata = hints[field.name], list(getattr(hints[field.name], "__metadata__", ()))
        plain = get_args(hint)[0] if metadata else hint
        if dataclasses.is_dataclass(plain) and isinstance(plain, type):
            yield from _options(plain)
            continue
        if tyro.conf.Positional in metadata:
            continue
        name = field.name.replace("_", "-")
        yield f"--{name}", _choices(plain)
        if plain is bool:
            yield f"--no-{name}", ()
        for extra in metadata:
            for alias in getattr(extra, "aliases", None) or ():
                yield alias, ()


def _choices(hint: Any) -> tuple[str, ...]:
    if get_origin(hint) in (Union, types.UnionType):  # only "… | None" occurs
        inner = _choices(get_args(hint)[0])
        return (*inner, "None") if inner else ()
    return tuple(map(str, get_args(hint))) if get_origin(hint) is Literal else ()
