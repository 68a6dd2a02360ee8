"""What the recipes of the papers share: a line of a table becomes a run, and runs become a table.

A recipe says which lines there are, how its paper trains, and where the official files are had. All the rest is here:
one folder for each run below --out, which goes on from its last checkpoint when the command is called again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bitorch.train import Settings
from bitorch.train.progress import epoch_line, is_first_process
from bitorch.train.sweep import Outcome, sweep
from courses import Course, Fields
from literature import FLOAT, Bits, Method, Start
from reproduction_cost import cost_line
from reproduction_table import Line, write_tables

#: How weights and activations become low-bit, as the papers do it: LSQ has 8 bits in the first and the last layer.
METHODS: dict[Method, Fields] = {
    "float": {},
    "dorefa": {},
    "pact": {"range": "learned", "learned_by": "pact"},
    "lsq": {"range": "learned", "learned_by": "lsq", "weights_method": "lsq", "first": "8", "last": "8"},
}


# The string under each field is its help text on the command line.
@dataclass(frozen=True, kw_only=True)
class Options:
    """What all of these recipes are told."""

    folder: Path | None = None
    """Folder that holds the official files. Nothing is downloaded."""
    epochs: int | None = None
    """Passes over the training images; the steps of the learning rate move in proportion. Default: the paper's."""
    batch_size: int | None = None
    """Images per step, of all processes together. Default: the paper's."""
    seed: int = 0
    """Of all runs."""
    init: Path | None = None
    """Checkpoint of the float net that low-bit nets start from: last.ckpt of the row float. Default: random weights."""
    devices: int = 1
    """Processes, one per GPU; on the CPU they share the images."""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    """Hardware to train on. auto takes a GPU if there is one."""
    workers: int = 2
    """Processes that decode pictures. Their number changes no result."""
    resume: bool = True
    """Go on with the runs that --out holds: done ones are read, killed ones go on from their last checkpoint. With
    --no-resume a run that is there already is an error."""
    cost: bool = False
    """Print what the paper's whole training of each row costs, in multiply-adds, and train nothing."""


@dataclass(frozen=True)
class Row:
    """A line of a table: a net of `bitorch.models`, how it becomes low-bit, and its bits."""

    net: str
    method: Method
    bits: Bits

    @property
    def name(self) -> str:
        """Of the folder of its run, which the start and the seed complete."""
        return f"{self.net}-float" if self.method == "float" else f"{self.net}-{self.method}-{bits_name(self.bits)}"


@dataclass(frozen=True)
class Plan:
    """What a recipe has decided.

    Attributes:
        title: of the table.
        rows: to train.
        course: how the paper trains a row.
        data: fields of `Settings` that say which data set, and how it is changed.
        missing: what a folder lacks of the official files, "" if nothing.
        where: where these are had, and where they go.
        images: in the official training data.
        side: of the images that nets see.
        classes: of the official data.
        width: factor on the channels, 1 in the paper.
    """

    title: str
    rows: Sequence[Row]
    course: Callable[[Row], Course]
    data: Fields
    missing: Callable[[Path], str]
    where: str
    images: int
    side: int
    classes: int
    width: float = 1.0


def reproduce(plan: Plan, options: Options, out: Path) -> None:
    """Train the rows of a plan, and write OUT/results.md and OUT/results.json of all runs that are done there.

    Raises:
        ValueError: no folder, or options that do not fit the plan or the runs in out.
        FileNotFoundError: the official files are not there, or the float net is not.
    """
    if options.cost:
        for row in plan.rows:
            print(cost_line(row.name, row.net, plan.side, plan.classes, plan.images, plan.course(row).epochs))
        return
    _check_files(plan, options)
    runs = {run_name(row, options): settings_of(row, plan, options) for row in plan.rows}
    if not options.resume:
        _check_new(runs, out)

    def on_done(name: str, outcome: Outcome) -> None:
        if is_first_process():
            print(f"{name}: {outcome.accuracy:.2%}", flush=True)
            write_tables(plan.title, out, lambda settings: line_of(settings, plan))

    def on_epoch(name: str, row: dict[str, float]) -> None:
        print(f"{name}: {epoch_line(row, runs[name].epochs)}", flush=True)

    sweep(runs, out, on_epoch=on_epoch, on_done=on_done)
    if is_first_process():
        print(f"\n{(out / 'results.md').read_text(encoding='utf-8')}")


def run_name(row: Row, options: Options) -> str:
    """Return the name of a run's folder, such as svhn-a-dorefa-w1a2g4-seed0, or …-init-seed0 from float weights."""
    start = "-init" if options.init is not None and row.method != "float" else ""
    return f"{row.name}{start}-seed{options.seed}"


def settings_of(row: Row, plan: Plan, options: Options) -> Settings:
    """Return the run of a row. ValueError: a number of images per step that the processes cannot share."""
    course = plan.course(row)
    epochs = course.epochs if options.epochs is None else options.epochs
    batch_size = course.batch_size if options.batch_size is None else options.batch_size
    if options.devices < 1 or batch_size % options.devices:
        raise ValueError(
            f"batch_size must be a multiple of devices, got {batch_size} images per step for {options.devices} "
            "processes; give another --batch-size or --devices"
        )
    return Settings(
        **plan.data,
        **METHODS[row.method],
        **course.fields_for(epochs),
        folder=options.folder,
        workers=options.workers,
        model=row.net,
        width=plan.width,
        bits=row.bits,
        epochs=epochs,
        batch_size=batch_size // options.devices,
        seed=options.seed,
        init=None if row.method == "float" else options.init,
        devices=options.devices,
        accelerator=options.accelerator,
    )


def line_of(settings: Settings, plan: Plan) -> Line:
    """Return what the table says of a run before its accuracies."""
    row = Row(settings.model, method_of(settings), settings.bits)
    return Line(
        net=row.net,
        method=row.method,
        bits=row.bits,
        start=start_of(settings),
        width=settings.width,
        seed=settings.seed,
        epochs=settings.epochs,
        epochs_of_paper=plan.course(row).epochs,
    )


def method_of(settings: Settings) -> Method:
    """Return the method that a run was trained by. ValueError: none of these recipes."""
    if settings.bits == FLOAT:
        return "float"
    for method, fields in METHODS.items():
        said = {name: fields.get(name, getattr(Settings, name)) for name in METHODS["lsq"]}
        if method != "float" and all(getattr(settings, name) == value for name, value in said.items()):
            return method
    raise ValueError(f"{settings.name} was trained by none of {', '.join(METHODS)}")


def start_of(settings: Settings) -> Start:
    """Return what a run began with."""
    return "random" if settings.init is None else "float"


def bits_name(bits: Bits) -> str:
    """Return bits as part of a name: w1a2g4."""
    return "w{}a{}g{}".format(*bits)


def _check_files(plan: Plan, options: Options) -> None:
    if options.folder is None:
        raise ValueError(f"folder must be given: {plan.where}")
    if not options.folder.is_dir():
        raise FileNotFoundError(f"{options.folder} is not a folder: {plan.where}")
    if missing := plan.missing(options.folder):
        raise FileNotFoundError(f"{options.folder} has no {missing}: {plan.where}")
    if options.init is not None and not options.init.is_file():
        raise FileNotFoundError(f"init: {options.init} is not there; train the row float first, and take its last.ckpt")


def _check_new(runs: dict[str, Settings], out: Path) -> None:
    begun = [name for name in runs if (out / name).exists()]
    if begun:
        raise ValueError(
            f"{out} has {', '.join(begun)} already; call the command with --resume to go on, or choose another folder"
        )
