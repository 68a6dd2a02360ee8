"""Headers of C, compiled and called: in this process, or as programs of their own for machines that are emulated."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitorch_runtime import Program

Array = np.ndarray[Any, Any]
STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror")


def needs(*commands: str) -> None:
    """Skip a test where one of these commands is not installed."""
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")


def compile_c(text: str, out: Path, command: Sequence[str]) -> Path:
    """Compile C, of headers that lie beside it, without a warning."""
    source = out.with_suffix(".c")
    source.write_text(text, encoding="utf-8")
    done = subprocess.run([*command, *STRICT, str(source), "-o", str(out), "-lm"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:4000]
    return out


def library(headers: Mapping[str, str], folder: Path, command: Sequence[str] = ("gcc", "-O1")) -> ctypes.CDLL:
    """Return a library of networks, by their names; each has a header of its own."""
    lines = []
    for name, text in headers.items():
        (folder / f"{name}.h").write_text(text, encoding="utf-8")
        lines.append(f'#define {name.upper()}_IMPLEMENTATION\n#include "{name}.h"\n')
    return ctypes.CDLL(str(compile_c("".join(lines), folder / "nets.so", [*command, "-shared", "-fPIC"])))


def _outputs(program: Program) -> dict[str, Array]:
    return {port["name"]: np.zeros(port["shape"], port["dtype"]) for port in program.outputs}


def call(nets: ctypes.CDLL, name: str, program: Program, inputs: Sequence[Array]) -> dict[str, Array]:
    """Return what a network of a library gives, image by image."""
    results: dict[str, list[Array]] = {port["name"]: [] for port in program.outputs}
    for image in range(len(inputs[0])):
        given = [np.ascontiguousarray(array[image]) for array in inputs]
        outputs = _outputs(program)
        addresses = [array.ctypes.data_as(ctypes.c_void_p) for array in [*given, *outputs.values()]]
        assert getattr(nets, f"{name}_run")(*addresses) == 0
        for key, array in outputs.items():
            results[key].append(array)
    return {key: np.stack(arrays) for key, arrays in results.items()}


def executable(header: str, name: str, program: Program, out: Path, command: Sequence[str]) -> Path:
    """Compile a program that reads images from its input and writes results to its output.

    With -DIN and -DOUT, texts of C, it reads and writes files: a bare machine has nothing else.
    """
    (out.parent / f"{name}.h").write_text(header, encoding="utf-8")
    inputs = [int(np.prod(port["shape"], dtype=int)) * np.dtype(port["dtype"]).itemsize for port in program.inputs]
    outputs = [array.nbytes for array in _outputs(program).values()]
    sizes = [*inputs, *outputs]
    buffers = "\n".join(f"static union {{ double d; unsigned char b[{size}]; }} p{i};" for i, size in enumerate(sizes))
    reads = " || ".join(f"fread(p{i}.b, 1, {size}, in) != {size}" for i, size in enumerate(inputs))
    writes = "\n".join(f"fwrite(p{len(inputs) + i}.b, 1, {size}, out);" for i, size in enumerate(outputs))
    arguments = ", ".join(f"(void *)p{i}.b" for i in range(len(sizes)))
    text = f"""
#define {name.upper()}_IMPLEMENTATION
#include "{name}.h"
#include <stdio.h>
{buffers}
int main(void) {{
#ifdef IN
    FILE *in = fopen(IN, "rb"), *out = fopen(OUT, "wb");
#else
    FILE *in = stdin, *out = stdout;
#endif
    while (!({reads})) {{
        if ({name}_run({arguments}) != 0) return 1;
        {writes}
    }}
    return fclose(out) != 0;
}}
"""
    return compile_c(text, out, command)


def execute(command: Sequence[str], program: Program, inputs: Sequence[Array]) -> dict[str, Array]:
    """Return what such a program gives."""
    done = subprocess.run(list(command), input=_images(inputs), capture_output=True, check=True, timeout=300)
    return _results(done.stdout, program, len(inputs[0]))


def _images(inputs: Sequence[Array]) -> bytes:
    return b"".join(
        b"".join(np.ascontiguousarray(array[i]).tobytes() for array in inputs) for i in range(len(inputs[0]))
    )


def _results(data: bytes, program: Program, images: int) -> dict[str, Array]:
    outputs = _outputs(program)
    rows = np.frombuffer(data, np.uint8).reshape(images, sum(array.nbytes for array in outputs.values()))
    results, first = {}, 0
    for key, array in outputs.items():
        values = np.ascontiguousarray(rows[:, first : first + array.nbytes])
        results[key] = values.view(array.dtype).reshape(images, *array.shape)
        first += array.nbytes
    return results


#: A Cortex-M4 with floats in single precision, as a compiler calls it.
CORTEX_M4 = ("arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard")
#: Of a bare machine: where it begins, and how its floats are switched on.
_START = """
#include <stdint.h>
extern void _start(void);
static void reset(void)
{
    *(volatile uint32_t *)0xE000ED88 |= (uint32_t)0xF << 20;
    __asm__ volatile("dsb\\n isb");
    _start();
}
__attribute__((section(".vectors"), used)) const struct {
    uint32_t stack;
    void (*start)(void);
} vectors = {0x20400000, reset};
"""


def on_cortex_m4(header: str, name: str, program: Program, inputs: Sequence[Array], folder: Path) -> dict[str, Array]:
    """Return what a header gives on an emulated board with a Cortex-M4, which reads and writes files here."""
    (folder / "start.c").write_text(_START)
    (folder / "in.bin").write_bytes(_images(inputs))
    files = (f'-DIN="{folder}/in.bin"', f'-DOUT="{folder}/out.bin"')
    board = ("--specs=rdimon.specs", "-Wl,--section-start=.vectors=0", str(folder / "start.c"))
    out = executable(header, name, program, folder / f"{name}-m4", [*CORTEX_M4, "-Os", *files, *board])
    machine = ("-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "null")
    semihosting = ("-semihosting-config", "enable=on,target=native")
    subprocess.run(["qemu-system-arm", *machine, *semihosting, "-kernel", str(out)], check=True, timeout=300)
    return _results((folder / "out.bin").read_bytes(), program, len(inputs[0]))
