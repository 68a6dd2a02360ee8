"""`bitorch export`: a net in another language."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from .console import print_error
from .export_c import CFlags, export_header
from .export_onnx import OnnxFlags, export_onnx_file
from .options import parse


@dataclass(frozen=True)
class _Arguments:
    """Write a net in another language: with --onnx a checkpoint as an ONNX file, with --c a packed file as one header
    in C99.

    Exit code 0: written; 1: the file differs from the model; 2: wrong arguments or files, or a net that cannot be
    written so.
    """

    net: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="NET")]
    """Checkpoint, written by bitorch train, or packed file, written by bitorch deploy."""
    onnx: tyro.conf.OmitArgPrefixes[OnnxFlags] = field(default_factory=OnnxFlags)
    header: tyro.conf.OmitArgPrefixes[CFlags] = field(default_factory=CFlags)


def run(arguments: list[str]) -> int:
    """Write what is asked for."""
    options = parse(_Arguments, arguments, "bitorch export")
    if options.onnx.onnx is not None and options.header.c is not None:
        return print_error("--onnx takes a checkpoint and --c a packed file: write them by a command each")
    if options.onnx.onnx is not None:
        return export_onnx_file(options.net, options.onnx)
    if options.header.c is not None:
        return export_header(options.net, options.header)
    return print_error("nothing to write: name an ONNX file with --onnx net.onnx, or a header with --c net.h")
