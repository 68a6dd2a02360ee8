"""A packed net as one header in C99, for controllers and what else has no room for a library."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from bitorch_runtime.c_source import CHeader, write_c

from .runtime.packed_model import PackedModel


def export_c(
    packed: PackedModel | str | os.PathLike[str],
    path: str | os.PathLike[str],
    name: str = "net",
    *,
    shapes: Sequence[Sequence[int]] | None = None,
    arena_limit: int | None = None,
    compiler: str | None = None,
) -> CHeader:
    """Write a packed net as a header in C99 that computes the same numbers: no heap, no threads, one image at a time.

    What is integer in the packed net is the same to the bit, and so are floats but for sums of float layers, which are
    made in the order of their weights.

    Args:
        packed: what `deploy` returned, or a packed file.
        path: of the header. A file that is there is replaced when the new one is complete.
        name: that its names begin with: `net_run`, `NET_INPUT_SIZE`.
        shapes: of one image of each input, where the net leaves sizes open.
        arena_limit: the most bytes of memory that its tensors may share; None: any.
        compiler: a command, by which the size of the code is measured, such as "arm-none-eabi-gcc -mcpu=cortex-m4
            -mthumb -Os"; None: it is not measured.

    Returns:
        Bytes of constants, of the arena and of the code.

    Raises:
        TypeError: an argument is of another type.
        ValueError: `name` is no name of C, an operation has no C, sizes are open or do not fit, the arena is larger
            than `arena_limit`, or the compiler fails. Nothing is written then. Or the file is no packed net.
        OSError: a file cannot be read or written.
    """
    if not isinstance(packed, PackedModel):
        packed = PackedModel.load(packed)
    operations, arrays = packed.program()
    info: dict[str, Any] = {}
    if packed.class_names is not None:
        info["class_names"] = list(packed.class_names)
    if packed.preprocessing is not None:
        info["preprocessing"] = packed.preprocessing
    return write_c(operations, arrays, info, path, name, shapes=shapes, arena_limit=arena_limit, compiler=compiler)
