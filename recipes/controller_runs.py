"""A packed net and its header in C, compared number by number, here or on an emulated machine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bitorch import PackedModel
from bitorch_runtime import Program
from bitorch_runtime.c_source import c_source
from bitorch_runtime.c_source.standalone import executable, execute
from bitorch_runtime.operations import given_names

Array = NDArray[Any]
Machine = Literal["here", "arm", "arm64"]
#: What compiles for a machine, and what runs it.
MACHINES: dict[Machine, tuple[Sequence[str], Sequence[str]]] = {
    "here": (("gcc", "-O2"), ()),
    "arm": (("arm-linux-gnueabihf-gcc", "-O2", "-static"), ("qemu-arm",)),
    "arm64": (("aarch64-linux-gnu-gcc", "-O2", "-static"), ("qemu-aarch64",)),
}
#: Images whose numbers are in memory at once.
_BATCH = 500


@dataclass(frozen=True)
class Counts:
    """How many numbers were compared, all codes and all results, and how many of them have other bits."""

    compared: int
    differ: int

    def __str__(self) -> str:
        return f"{self.compared:,}, {self.differ:,}"


def missing_on(machine: Machine) -> str | None:
    """Return the first command that a machine needs and that is not installed, None if all are."""
    compiler, emulator = MACHINES[machine]
    return next((command for command in (compiler[0], *emulator) if shutil.which(command) is None), None)


def compare(packed: PackedModel, inputs: Array, machine: Machine) -> Counts:
    """Run a header and the packed net, and count.

    Args:
        packed: of one input.
        inputs: a batch for it.
        machine: whose compiler and emulator are installed.
    """
    compiler, emulator = MACHINES[machine]
    operations, arrays = packed.program()
    program = Program(with_all_codes(operations), arrays)
    header = c_source(program.description, arrays).text
    compared = differ = 0
    with tempfile.TemporaryDirectory() as folder:
        made = executable(header, "net", program, Path(folder) / "net", compiler)
        for first in range(0, len(inputs), _BATCH):
            batch = inputs[first : first + _BATCH]
            found = execute([*emulator, str(made)], program, [batch])
            for name, expected in outputs_of(program, batch).items():
                compared += expected.size
                differ += other_bits(found[name], expected)
    return Counts(compared, differ)


def outputs_of(program: Program, inputs: Array) -> dict[str, Array]:
    """Return what a program gives, by the names of its outputs, of which it may have one."""
    given = program(inputs)
    return given if isinstance(given, dict) else {program.outputs[0]["name"]: given}


def other_bits(found: Array, expected: Array) -> int:
    """Return how many numbers of two arrays of one type and shape have other bits; -0.0 is not 0.0."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    bits = np.dtype(f"u{expected.dtype.itemsize}")
    return int((np.ascontiguousarray(found).view(bits) != np.ascontiguousarray(expected).view(bits)).sum())


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
