"""A header as a program of its own, which reads images and writes results: to compare it on the machine it is for."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime.program import Program

from .compiling import compile_c

#: What a header compiles with without a word.
STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror")

_MAIN = """#define {NAME}_IMPLEMENTATION
#include "{name}.h"
#include <stdio.h>
{buffers}
int main(void)
{{
#ifdef IN
    FILE *in = fopen(IN, "rb"), *out = fopen(OUT, "wb");
    if (in == NULL || out == NULL) {{
        return 1;
    }}
#else
    FILE *in = stdin, *out = stdout;
#endif
    while ({reads}) {{
        if ({name}_run({arguments}) != 0) {{
            return 1;
        }}
{writes}
    }}
    return fclose(out) != 0;
}}
"""


def executable(header: str, name: str, program: Program, out: Path, command: Sequence[str]) -> Path:
    """Compile a program that reads images from its input and writes results to its output.

    Args:
        header: the text, see `c_source`.
        name: that its names begin with.
        program: of which the header was made; it knows inputs and outputs.
        out: the program; the header and a source are written beside it.
        command: the compiler and its flags. With -DIN and -DOUT, texts of C, the program reads and writes these files:
            a bare machine has nothing else.

    Raises:
        ValueError: the compiler cannot be run, or has something to say, if only a warning.
    """
    (out.parent / f"{name}.h").write_text(header, encoding="utf-8")
    sizes = [_nbytes(port) for port in (*program.inputs, *program.outputs)]
    given = range(len(program.inputs))
    text = _MAIN.format(
        NAME=name.upper(),
        name=name,
        buffers="\n".join(f"static union {{ double d; char b[{n}]; }} port{i};" for i, n in enumerate(sizes)),
        reads=" && ".join(f"fread(port{i}.b, 1, {sizes[i]}, in) == {sizes[i]}" for i in given),
        arguments=", ".join(f"(void *)port{i}.b" for i in range(len(sizes))),
        writes="\n".join(f"        fwrite(port{i}.b, 1, {n}, out);" for i, n in enumerate(sizes) if i not in given),
    )
    return compile_c([*command, *STRICT], text, out)


def execute(command: Sequence[str], program: Program, inputs: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return what such a program gives for a batch, by the names of the outputs.

    Args:
        command: the program, an emulator in front of it where it needs one.
        inputs: a batch for each input of the network, as `Program` takes them.

    Raises:
        subprocess.CalledProcessError: the program fails; an input is out of its range.
        OSError: the command is not there.
    """
    done = subprocess.run(list(command), input=images_in(inputs), capture_output=True, check=True)
    return results_in(done.stdout, program)


def images_in(inputs: Sequence[NDArray[Any]]) -> bytes:
    """Return what such a program reads: image by image, all inputs of one."""
    images = range(len(inputs[0]))
    return b"".join(np.ascontiguousarray(array[image]).tobytes() for image in images for array in inputs)


def results_in(data: bytes, program: Program) -> dict[str, NDArray[Any]]:
    """Return what such a program wrote: arrays of all images, by the names of the outputs."""
    rows = np.frombuffer(data, np.uint8).reshape(-1, sum(map(_nbytes, program.outputs)))
    results, first = {}, 0
    for port in program.outputs:
        last = first + _nbytes(port)
        values = np.ascontiguousarray(rows[:, first:last]).view(port["dtype"])
        results[port["name"]] = values.reshape(len(rows), *port["shape"])
        first = last
    return results


def _nbytes(port: Any) -> int:
    nbytes: int = math.prod(port["shape"]) * np.dtype(port["dtype"]).itemsize
    return nbytes
