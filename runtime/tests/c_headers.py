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
from bitorch_runtime.c_source.compiling import compile_c
from bitorch_runtime.c_source.standalone import STRICT, executable, images_in, results_in

Array = np.ndarray[Any, Any]


def needs(*commands: str) -> None:
    """Skip a test where one of these commands is not installed."""
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")


def library(headers: Mapping[str, str], folder: Path, command: Sequence[str] = ("gcc", "-O1")) -> ctypes.CDLL:
    """Return a library of networks, by their names; each has a header of its own."""
    lines = []
    for name, text in headers.items():
        (folder / f"{name}.h").write_text(text, encoding="utf-8")
        lines.append(f'#define {name.upper()}_IMPLEMENTATION\n#include "{name}.h"\n')
    return ctypes.CDLL(str(compile_c([*command, *STRICT, "-shared", "-fPIC"], "".join(lines), folder / "nets.so")))


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


#: What a program of such a board is linked with, and what runs it.
_LINKED = ("--specs=rdimon.specs", "-Wl,--section-start=.vectors=0")
_BOARD = ("qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "null")
_SEMIHOSTING = ("-semihosting-config", "enable=on,target=native")


def for_cortex_m4(folder: Path) -> list[str]:
    """Return the command that compiles a program which reads folder/in.bin and writes folder/out.bin."""
    (folder / "start.c").write_text(_START)
    files = (f'-DIN="{folder}/in.bin"', f'-DOUT="{folder}/out.bin"')
    return [*CORTEX_M4, "-Os", *files, *_LINKED, str(folder / "start.c")]


def run_cortex_m4(program: Path, given: bytes) -> bytes:
    """Return what such a program writes, on an emulated board with a Cortex-M4."""
    (program.parent / "in.bin").write_bytes(given)
    subprocess.run([*_BOARD, *_SEMIHOSTING, "-kernel", str(program)], check=True, timeout=300)
    return (program.parent / "out.bin").read_bytes()


def on_cortex_m4(header: str, name: str, program: Program, inputs: Sequence[Array], folder: Path) -> dict[str, Array]:
    """Return what a header gives on such a board."""
    out = executable(header, name, program, folder / f"{name}-m4", for_cortex_m4(folder))
    return results_in(run_cortex_m4(out, images_in(inputs)), program)
