"""`bitorch export --onnx`: a checkpoint as an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from .console import FAILED, print_error, print_table
from .net_flags import NetFlags
from .places import check_place

if TYPE_CHECKING:
    from ..deployment.onnx.export import OnnxExport


@dataclass(frozen=True)
class OnnxFlags:
    """Options of an ONNX file."""

    onnx: Annotated[Path | None, tyro.conf.arg(metavar="FILE.onnx")] = None
    """Write a checkpoint as this ONNX file, of any batch."""
    dialect: str = "integer"
    """integer: stock operators, every integer that of the packed net, verified in ONNX Runtime before the file is
    written; qcdq: what toolchains for 8 bits read; qonnx: for FINN and hls4ml."""
    opset: int | None = None
    """Version of ONNX's operators; the dialect's own if not given."""
    float_input: bool = False
    """The file takes floats, pixels/255, instead of uint8 pixels."""
    image_size: tuple[int, int] | None = None
    """Height and width of the images before the run padded them, where its data set is not there to ask."""
    input_shape: tuple[int, int, int] | None = None
    """Channels, height and width of the images, for a checkpoint that does not say them."""
    data: str | None = None
    """Of a net of your own data, FILE.py:NAME: where an example is read from; the run's own if not given."""
    folder: Path | None = None
    """Folder that holds the files of that data."""
    made: tyro.conf.OmitArgPrefixes[NetFlags] = field(default_factory=NetFlags)


def export_onnx_file(checkpoint: Path, flags: OnnxFlags) -> int:
    """Write the file, and print what it is."""
    assert flags.onnx is not None
    try:
        flags.made.check()
        check_place("--onnx", flags.onnx, "net.onnx")
    except (ValueError, OSError) as error:
        return print_error(error)
    # Only here: PyTorch and Lightning take seconds to import, for which --help and a wrong path need not wait.
    from ..deployment.deploy import DeploymentError
    from .onnx_from_checkpoint import export_checkpoint

    try:
        exported = export_checkpoint(
            checkpoint,
            flags.onnx,
            flags.dialect,
            flags.opset,
            pixels=not flags.float_input,
            image_size=flags.image_size,
            model=flags.made.model,
            config=flags.made.config,
            input_shape=flags.input_shape,
            data=flags.data,
            folder=flags.folder,
        )
    except DeploymentError as error:
        return print_error(error, FAILED)
    except (ValueError, TypeError, OSError, ImportError) as error:
        return print_error(error)
    _print_result(exported.written, exported.verified)
    return 0


def _print_result(written: OnnxExport, verified: str) -> None:
    rows = {
        "dialect": f"{written.dialect}, opset {written.opset}",
        "takes": ", ".join(written.inputs),
        "gives": ", ".join(written.outputs),
        "verified": verified,
        "on proved lines": f"{len(written.on_lines)} of {len(written.layers)} low-bit layers" if written.layers else "",
        "file": f"{written.nbytes:,} bytes",
    }
    print_table(str(written.path), rows)
