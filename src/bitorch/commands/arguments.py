"""The command lines of `bitorch train`, `bitorch check` and `bitorch report`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import tyro

from ..train.fields import convert_fields
from ..train.settings import Settings
from .help import show_help
from .options import parse, refuse_wrong_options
from .recorded_fields import fields_from_files, fields_of_net


@dataclass(frozen=True)
class _Flags(Settings):
    """What a run is made of; a --config file may hold any of these."""

    # Unchecked: only what files and flags make together must fit, such as `epochs: 5` in a file with --epochs 20
    # --milestones 10. And an error of ours shall look the same wherever it comes from, and not as tyro prints it.
    def __post_init__(self) -> None:
        pass


@dataclass(frozen=True)
class _TrainArguments:
    """Train a low-bit image classifier. Writes last.ckpt, best.ckpt, metrics.csv and TensorBoard logs.

    Exit code 0: trained; 1: a loss or gradient was not finite; 2: wrong arguments, files or folders; 130: Ctrl-C.
    """

    settings: tyro.conf.OmitArgPrefixes[_Flags]
    config: Path | None = None
    """YAML or JSON file with any of the settings, such as the settings.yaml of a run. Flags override it."""


@dataclass(frozen=True)
class _CheckArguments:
    """Run one training batch through the net, forward and backward, and name what will go wrong in training.

    Exit code 0: no problem; 1: problems; 2: wrong arguments or files.
    """

    settings: tyro.conf.OmitArgPrefixes[_Flags]
    checkpoint: tyro.conf.Positional[Path | None] = None
    """Check the net of this checkpoint, in front of all flags. Without it: a new net, as bitorch train starts it."""
    config: Path | None = None
    """YAML or JSON file with any of the settings, such as the settings.yaml of a run. Flags override it."""


@dataclass(frozen=True)
class ReportArguments:
    """Say of each layer of a net what it costs, whether it deploys and with which kernel, on test images.

    Exit code 0: reported; 2: wrong arguments or files.
    """

    settings: tyro.conf.OmitArgPrefixes[_Flags]
    checkpoint: tyro.conf.Positional[Path | None] = None
    """Report the net of this checkpoint, in front of all flags. Without it: a new net, as bitorch train starts it."""
    config: Path | None = None
    """YAML or JSON file with any of the settings, such as the settings.yaml of a run. Flags override it."""
    images: int = 256
    """Test images that levels and ranges of activations are those of."""
    html: Path | None = None
    """Write a page with plots to this file."""
    csv: Path | None = None
    """Write the table to this file, one line for each row."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class _MeasuredArguments:
    """What `sensitivity` and `allocate` take beside the settings of a run."""

    try_bits: tuple[str, ...] = ("1", "2", "4")
    """Bits to try: numbers, of which weights and activations get all pairs, or pairs such as W1A1 W2A4; 1 to 8, or 32
    for none."""
    layers: tuple[str, ...] = ()
    """Names or globs of the layers that get them, as in rules: 'layer3.*'. Default: all low-bit layers."""
    samples: int = 512
    """Test samples that losses are those of."""
    renew_statistics: bool = True
    """Let every BatchNorm take its statistics anew from these samples, in every trial."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class SensitivityArguments(_MeasuredArguments):
    """Say how much worse a trained net is with other bits in one layer at a time, on test samples. Nothing is trained.

    Exit code 0: measured; 2: wrong arguments or files.
    """

    settings: tyro.conf.OmitArgPrefixes[_Flags] = dataclasses.field(kw_only=True)
    checkpoint: tyro.conf.Positional[Path | None] = None
    """Measure the net of this checkpoint, in front of all flags. Without it: a new net, as bitorch train starts it."""
    config: Path | None = None
    """YAML or JSON file with any of the settings, such as the settings.yaml of a run. Flags override it."""
    csv: Path | None = None
    """Write the table to this file, one line for each layer and its bits."""


@dataclass(frozen=True)
class AllocateArguments(_MeasuredArguments):
    """Choose bits for each layer of a trained net so that its loss grows least and a budget is kept.

    Exit code 0: chosen; 2: wrong arguments or files, or a budget that cannot be met.
    """

    settings: tyro.conf.OmitArgPrefixes[_Flags] = dataclasses.field(kw_only=True)
    checkpoint: tyro.conf.Positional[Path | None] = None
    """Take the net of this checkpoint, in front of all flags. Without it: a new net, as bitorch train starts it."""
    config: Path | None = None
    """YAML or JSON file with any of the settings, such as the settings.yaml of a run. Flags override it."""
    budget: str | None = None
    """What the net may cost: bytes of the packed file, such as 60000, 60kB or 58KiB, or time of one sample on this
    machine, such as 0.5ms or 300us."""
    rules_out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Write the bits to this YAML or JSON file, as rules for bitorch train --rules."""


#: Arguments that a net is made of.
_Net = TypeVar("_Net", _CheckArguments, ReportArguments, SensitivityArguments, AllocateArguments)


def parse_train(arguments: Sequence[str]) -> Settings:
    """Return the settings of a command line: flags, over --config, over the run to --resume, over the defaults.

    Raises:
        SystemExit: --help, or flags that do not parse; the message is printed.
        ValueError, TypeError, OSError: a value that is not allowed, a wrong settings file or checkpoint.
    """
    show_help(_TrainArguments, arguments, "bitorch train")
    refuse_wrong_options(_TrainArguments, arguments, "bitorch train")
    default = _TrainArguments(_Flags(**convert_fields(Settings, fields_from_files(arguments))))
    parsed = parse(_TrainArguments, arguments, "bitorch train", default)
    return Settings(**dataclasses.asdict(parsed.settings))


def parse_check(arguments: Sequence[str]) -> tuple[Settings, Path | None]:
    """Return the settings of the run to check, and the checkpoint that stands in front of the flags, if one does.

    Raises:
        SystemExit, ValueError, TypeError, OSError: as `parse_train`; ValueError for a checkpoint behind the flags.
    """
    settings, parsed = _parse_net(_CheckArguments, "bitorch check", arguments)
    return settings, parsed.checkpoint


def parse_report(arguments: Sequence[str]) -> tuple[Settings, ReportArguments]:
    """Return the settings of the net to report, and all arguments; raises as `parse_check`."""
    return _parse_net(ReportArguments, "bitorch report", arguments)


def parse_sensitivity(arguments: Sequence[str]) -> tuple[Settings, SensitivityArguments]:
    """Return the settings of the net to measure, and all arguments; raises as `parse_check`."""
    return _parse_net(SensitivityArguments, "bitorch sensitivity", arguments)


def parse_allocate(arguments: Sequence[str]) -> tuple[Settings, AllocateArguments]:
    """Return the settings of the net that gets bits, and all arguments; raises as `parse_check`."""
    return _parse_net(AllocateArguments, "bitorch allocate", arguments)


def _parse_net(kind: type[_Net], prog: str, arguments: Sequence[str]) -> tuple[Settings, _Net]:
    """Return the settings that make a net, of a checkpoint that stands first and of flags, and all arguments."""
    show_help(kind, arguments, prog)
    refuse_wrong_options(kind, arguments, prog)
    path = Path(arguments[0]) if arguments and not arguments[0].startswith("-") else None
    fields = fields_from_files(arguments)
    if path is not None:
        fields = {**fields_of_net(path, arguments), "distil": None, "distil_model": None, "init": path, **fields}
    default = kind(settings=_Flags(**convert_fields(Settings, fields)))
    parsed = parse(kind, arguments, prog, default)
    if parsed.checkpoint != path:
        raise ValueError(f"the checkpoint {parsed.checkpoint} must stand in front of the flags")
    return Settings(**dataclasses.asdict(parsed.settings)), parsed
