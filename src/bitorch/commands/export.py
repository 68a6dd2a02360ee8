"""`bitorch export`: a net in another language."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from .console import print_error
from .export_onnx import OnnxFlags, export_onnx_file
from .options import parse


@dataclass(frozen=True)
class _Arguments:
    """Write a net in another language: with --onnx a checkpoint as an ONNX file.

    Exit code 0: written; 1: the file differs from the model; 2: wrong arguments or files, or a net that cannot be
    written so.
    """

    net: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="NET")]
    """Checkpoint, written by bitorch train."""
    onnx: tyro.conf.OmitArgPrefixes[OnnxFlags] = field(default_factory=OnnxFlags)


def run(arguments: list[str]) -> int:
    """Write what is asked for."""
    options = parse(_Arguments, arguments, "bitorch export")
    if options.onnx.onnx is None:
        return print_error("nothing to write: name an ONNX file with --onnx net.onnx")
    return export_onnx_file(options.net, options.onnx)
