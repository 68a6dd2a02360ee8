"""`bitorch deploy`: a checkpoint to a packed file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from .console import FAILED, print_error, print_table
from .net_flags import NetFlags
from .options import parse
from .places import check_place

if TYPE_CHECKING:
    from ..deployment.any_size import Sizes
    from .from_checkpoint import Deployed

_SUFFIX = ".bit.safetensors"


@dataclass(frozen=True)
class _Arguments:
    """Write a trained low-bit net as a packed file that bitorch_runtime runs without PyTorch, with the same results.

    The packed net is compared with the model, number by number, before the file is written.
    Exit code 0: written; 1: the packed net differs from the model; 2: wrong arguments or files, or a net that cannot be
    deployed.
    """

    checkpoint: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CHECKPOINT")]
    """Written by bitorch train."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None
    """The packed file; its name should end in .bit.safetensors. Default: beside the checkpoint, under its name."""
    float_input: bool = False
    """The packed net takes floats, pixels/255, instead of uint8 pixels."""
    image_size: tuple[int, int] | None = None
    """Height and width of the images before the run padded them, where its data set is not there to ask."""
    made: tyro.conf.OmitArgPrefixes[NetFlags] = field(default_factory=NetFlags)
    input_shape: tuple[int, int, int] | None = None
    """Channels, height and width of the images, for a checkpoint that does not say them."""
    data: str | None = None
    """Of a net of your own data, FILE.py:NAME: where an example is read from; the run's own if not given."""
    folder: Path | None = None
    """Folder that holds the files of that data."""
    sizes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="any|HxW")] = ()
    """any: the packed net takes images of every size that the net takes, not only of the run's. HEIGHTxWIDTH …: it
    does, and these sizes are verified."""
    show_passes: bool = False
    """Print the network after each step on its way to the program."""


def run(arguments: list[str]) -> int:
    """Deploy, write the file and print what it is."""
    options = parse(_Arguments, arguments, "bitorch deploy")
    try:
        options.made.check()
        out = _place(options.checkpoint) if options.out is None else options.out
        _check_place(out, options.checkpoint)
    except (ValueError, OSError) as error:
        return print_error(error)
    # Only here: PyTorch and Lightning take seconds to import, for which --help and a wrong path need not wait.
    from ..deployment.deploy import DeploymentError
    from .from_checkpoint import deploy_checkpoint

    try:
        deployed = deploy_checkpoint(
            options.checkpoint,
            pixels=not options.float_input,
            image_size=options.image_size,
            model=options.made.model,
            config=options.made.config,
            input_shape=options.input_shape,
            data=options.data,
            folder=options.folder,
            sizes=_sizes(options.sizes),
        )
        if deployed.verification:
            deployed.packed.save(out)
    except DeploymentError as error:
        return print_error(error, FAILED)
    except (ValueError, TypeError, OSError) as error:
        return print_error(error)
    if not deployed.verification:
        return print_error(f"the packed net {deployed.verification}", FAILED)
    if options.show_passes:
        for step, text in deployed.packed.passes:
            print(f"── {step}\n{text}\n")
    _print_result(deployed, out)
    return 0


def _sizes(texts: Sequence[str]) -> Sizes | None:
    """Return what `deploy` takes for --sizes.

    Raises:
        ValueError: it is neither "any" nor a list of sizes.
    """
    if not texts:
        return None
    if tuple(texts) == ("any",):
        return "any"
    if any(re.fullmatch(r"[1-9][0-9]{0,6}(x[1-9][0-9]{0,6})*", text) is None for text in texts):
        raise ValueError(f"--sizes {' '.join(texts)}: must be any, or sizes such as 320x320 640x640")
    return [tuple(map(int, text.split("x"))) for text in texts]


def _place(checkpoint: Path) -> Path:
    """Return where the file goes by default: beside the checkpoint, under its name."""
    if checkpoint.is_dir():
        raise IsADirectoryError(
            f"{checkpoint} is a folder; name a checkpoint in it, such as {checkpoint / 'best.ckpt'}"
        )
    return checkpoint.with_name(checkpoint.name.removesuffix(".ckpt") + _SUFFIX)


def _check_place(out: Path, checkpoint: Path) -> None:
    """Raise an OSError or ValueError if the file cannot be put there, before any work is done."""
    check_place("--out", out, f"net{_SUFFIX}")
    if out.exists() and checkpoint.exists() and out.samefile(checkpoint):
        raise ValueError(f"--out {out} is the checkpoint itself; choose another name")


def _print_result(deployed: Deployed, out: Path) -> None:
    from ..reporting.weight_bytes import weight_bytes

    packed, settings = deployed.packed, deployed.checkpoint.settings
    floats = weight_bytes(deployed.model).float32
    names = packed.class_names
    rows = {
        "model": deployed.name if settings is None else f"{deployed.name}, {settings.bits_text}",
        "takes": ", ".join(map(str, packed.inputs)),
        "gives": ", ".join(map(str, packed.outputs)),
        "classes": "" if names is None else ", ".join(names),
        "verified": str(deployed.verification),
        "float32 weights": f"{floats:,} bytes",
        "packed file": f"{packed.nbytes:,} bytes, {floats / packed.nbytes:.1f} times smaller",
    }
    print_table(str(out), rows)
