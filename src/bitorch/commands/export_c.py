"""`bitorch export --c`: a packed file as a header in C99."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .console import print_error, print_table
from .places import check_place


@dataclass(frozen=True)
class CFlags:
    """Options of a header in C."""

    c: Annotated[Path | None, tyro.conf.arg(metavar="FILE.h")] = None
    """Write a packed file as this header in C99: no heap, no threads, the same numbers."""
    name: str = "net"
    """What the header's names begin with: net_run, NET_INPUT_SIZE."""
    arena_limit: Annotated[int | None, tyro.conf.arg(metavar="BYTES")] = None
    """The most bytes of memory that the net's tensors may share; a net that needs more is refused, with the number that
    would do."""
    size: Annotated[tuple[str, ...], tyro.conf.arg(metavar="CxHxW")] = ()
    """Of a net that takes images of every size: the shape of one image of each input, such as 3x64x64."""
    compiler: str | None = None
    """A command, by which code and stack are measured: "arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -Os"."""


def export_header(net: Path, flags: CFlags) -> int:
    """Write the header, and print what it takes."""
    assert flags.c is not None
    try:
        check_place("--c", flags.c, "net.h")
        shapes = _shapes(flags.size)
        # Only here: for a wrong path nobody need wait.
        from bitorch_runtime.c_source import export_c

        limits = {"arena_limit": flags.arena_limit, "compiler": flags.compiler}
        written = export_c(net, flags.c, flags.name, shapes=shapes, **limits)  # type: ignore[arg-type]
    except (ValueError, TypeError, OSError) as error:
        return print_error(error)
    floats = [f"{layer} {nbytes:,} bytes" for layer, nbytes in written.float_weights.items()]
    rows = {
        "code": "not measured; see --compiler" if written.code_bytes is None else f"{written.code_bytes:,} bytes",
        "constants": f"{written.constant_bytes:,} bytes",
        "of these float weights": ", ".join(floats),
        "arena": f"{written.arena_bytes:,} bytes",
        "stack": _stack(flags.compiler, written.stack_bytes),
    }
    print_table(str(flags.c), rows)
    return 0


def _stack(compiler: str | None, nbytes: int | None) -> str:
    """Say how deep the stack gets, or why that is not known."""
    if nbytes is not None:
        return f"{nbytes:,} bytes"
    return "not measured; see --compiler" if compiler is None else "not known: GCC from 10 on tells it"


def _shapes(texts: Sequence[str]) -> list[tuple[int, ...]] | None:
    """Return the shapes of --size; None where there are none.

    Raises:
        ValueError: one is no shape.
    """
    if not texts:
        return None
    if any(re.fullmatch(r"[1-9][0-9]{0,6}(x[1-9][0-9]{0,6})*", text) is None for text in texts):
        raise ValueError(f"--size {' '.join(texts)}: must be shapes such as 3x64x64, one for each input")
    return [tuple(map(int, text.split("x"))) for text in texts]
