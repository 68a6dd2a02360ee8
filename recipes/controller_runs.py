"""A header in C, compiled as a program of its own, which may run on an emulated machine."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime import Program
from bitorch_runtime.operations import given_names

STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror")
Array = NDArray[Any]

_MAIN = """
#define {NAME}_IMPLEMENTATION
#include "{name}.h"
#include <stdio.h>
{buffers}
int main(void)
{{
    while ({reads}) {{
        if ({name}_run({arguments}) != 0) {{
            return 1;
        }}
{writes}
    }}
    return 0;
}}
"""


def with_all_codes(operations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a program that gives, besides what it gave, every tensor of codes that it computes."""
    rest = [dict(one) for one in operations]
    known = {one["input"] for one in rest if one["op"] == "output"}
    tensors = [name for one in rest if one["op"] != "input" for name in _codes_of(one)]
    wanted = [name for name in dict.fromkeys(tensors) if name not in known]
    return [*rest, *({"op": "output", "input": name, "order": "nhwc"} for name in wanted)]


def _codes_of(operation: Mapping[str, Any]) -> list[str]:
    given = given_names(operation)
    made = operation["op"] in ("quantize", "lookup")
    return [name for key, name in given.items() if key == "codes" or (made and key == "output")]


def executable(header: str, name: str, program: Program, out: Path, command: Sequence[str]) -> Path:
    """Compile a program that reads images from its input and writes results to its output.

    Raises:
        subprocess.CalledProcessError: the compiler has something to say, if only a warning.
        OSError: there is no such compiler.
    """
    (out.parent / f"{name}.h").write_text(header, encoding="utf-8")
    sizes = [_bytes(port) for port in (*program.inputs, *program.outputs)]
    given = range(len(program.inputs))
    text = _MAIN.format(
        NAME=name.upper(),
        name=name,
        buffers="\n".join(f"static union {{ double d; char b[{n}]; }} port{i};" for i, n in enumerate(sizes)),
        reads=" && ".join(f"fread(port{i}.b, 1, {sizes[i]}, stdin) == {sizes[i]}" for i in given),
        arguments=", ".join(f"(void *)port{i}.b" for i in range(len(sizes))),
        writes="\n".join(f"        fwrite(port{i}.b, 1, {n}, stdout);" for i, n in enumerate(sizes) if i not in given),
    )
    source = out.with_suffix(".c")
    source.write_text(text, encoding="utf-8")
    subprocess.run([*command, *STRICT, str(source), "-o", str(out), "-lm"], check=True)
    return out


def _bytes(port: Any) -> int:
    nbytes: int = math.prod(port["shape"]) * np.dtype(port["dtype"]).itemsize
    return nbytes


def execute(command: Sequence[str], program: Program, images: Array) -> dict[str, Array]:
    """Return what such a program, of one input, gives for a batch."""
    done = subprocess.run(list(command), input=np.ascontiguousarray(images).tobytes(), capture_output=True, check=True)
    rows = np.frombuffer(done.stdout, np.uint8).reshape(len(images), -1)
    results, first = {}, 0
    for port in program.outputs:
        last = first + _bytes(port)
        values = np.ascontiguousarray(rows[:, first:last]).view(port["dtype"])
        results[port["name"]] = values.reshape(len(images), *port["shape"])
        first = last
    return results
