"""`bitorch export`: a net in another language."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from .console import print_error
from .export_c import CFlags, export_header
from .options import parse


@dataclass(frozen=True)
class _Arguments:
    """Write a net in another language: with --c a packed file as one header in C99.

    Exit code 0: written; 2: wrong arguments or files, or a net that cannot be written so.
    """

    net: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="NET")]
    """Packed file, written by bitorch deploy."""
    header: tyro.conf.OmitArgPrefixes[CFlags] = field(default_factory=CFlags)


def run(arguments: list[str]) -> int:
    """Write what is asked for."""
    options = parse(_Arguments, arguments, "bitorch export")
    if options.header.c is None:
        return print_error("nothing to write: name a header with --c net.h")
    return export_header(options.net, options.header)
