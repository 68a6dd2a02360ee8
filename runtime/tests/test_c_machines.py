"""The same numbers on machines that are emulated: 32 and 64 bits of ARM, and a controller without a system."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bitorch_runtime import Program, reference
from bitorch_runtime.c_source import c_source
from bitorch_runtime.c_source.standalone import executable, execute
from c_headers import needs, on_cortex_m4
from case_builder import other_bits
from cases import Case, random_case
from operation_examples import FUNCTIONS, FUNCTIONS_WITH_NUMBERS, Array, Operation

MACHINES = {
    "x86": (("gcc", "-O2"), ()),
    "clang": (("clang", "-O2"), ()),
    "arm": (("arm-linux-gnueabihf-gcc", "-O2", "-static"), ("qemu-arm",)),
    "arm64": (("aarch64-linux-gnu-gcc", "-O2", "-static"), ("qemu-aarch64",)),
    "cortex-m4": (("arm-none-eabi-gcc",), ("qemu-system-arm",)),
}


def run_on(machine: str, header: str, program: Program, inputs: Sequence[Array], folder: Path) -> dict[str, Array]:
    compiler, emulator = MACHINES[machine]
    needs(compiler[0], *emulator)
    if machine == "cortex-m4":
        return on_cortex_m4(header, "net", program, inputs, folder)
    made = executable(header, "net", program, folder / "net", compiler)
    return execute([*emulator, str(made)], program, inputs)


def functions_of_floats() -> list[Operation]:
    """Every function, softmax and its logarithm, a normalisation, and codes, of one input."""
    operations: list[Operation] = [{"op": "input", "output": "x", "dtype": "float32", "shape": [300]}]
    one = {"op": "activation", "input": "x"}
    operations += [{**one, "function": name, "output": name} for name in FUNCTIONS]
    operations += [{**one, "function": name, **keys, "output": name} for name, keys in FUNCTIONS_WITH_NUMBERS.items()]
    operations += [{"op": "softmax", "input": "x", "output": f"softmax {log}", "log": log} for log in (False, True)]
    operations += [{"op": "normalize", "input": "x", "by": "deviation", "eps": 1e-5, "float32": "normal"}]
    operations += [{"op": "affine", "input": "x", "norm_multiply": "m", "norm_offset": "o", "float32": "fused"}]
    operations += [{"op": "quantize", "input": "x", "output": "codes", "bits": 8}]
    names = [next(one[key] for key in ("output", "float32") if key in one) for one in operations[1:]]
    return [*operations, *({"op": "output", "input": name} for name in names)]


@pytest.mark.parametrize("machine", MACHINES)
def test_functions_of_floats_have_one_result(machine: str, tmp_path: Path) -> None:
    """Fused multiply-adds, where the machine has none, and exponentials, on numbers of all sizes."""
    rng = np.random.default_rng(0)
    scales = np.array([1, 1, 0.01, 10, 100, 1e-40])[:, np.newaxis]
    x = (rng.normal(size=(6, 300)) * scales).astype(np.float32)
    x[3, :6] = [0.0, -0.0, 3.4375, -3.4375, 88.7, -103.9]
    x[4] = 1000 + x[4] / 1e4  # a mean whose rounding matters beside the deviation
    operations = functions_of_floats()
    arrays: dict[str, Array] = {name: rng.normal(size=300).astype(np.float32) for name in "mo"}
    # Products in the middle of two float32 numbers, and offsets that float64 loses beside them.
    x[0, :4], arrays["m"][:4], arrays["o"][:4] = 1 + 2**-12, 1 + 2**-12, [2**-60, -(2**-60), 0, 2**-70]
    expected = reference.run(operations, arrays, x)
    assert isinstance(expected, dict)
    found = run_on(machine, c_source(operations, arrays).text, Program(operations, arrays), [x], tmp_path)
    assert found.keys() == expected.keys()
    assert len(found) >= 28
    for name, result in found.items():
        assert not other_bits(result, expected[name], True).any(), name


@pytest.mark.parametrize("seed", [1, 4, 11])
@pytest.mark.parametrize("machine", [name for name in MACHINES if name not in ("x86", "clang")])
def test_random_programs(machine: str, seed: int, tmp_path: Path) -> None:
    case = small_case(seed)
    program = Program(case.operations, case.arrays)
    found = run_on(machine, c_source(case.operations, case.arrays).text, program, case.inputs, tmp_path)
    assert case.differences(found) == []


def small_case(seed: int) -> Case:
    """A random program of one size with some image, of a few that are drawn."""
    cases = (random_case(1000 * seed + i) for i in range(100))
    return next(case for case in cases if len(case.inputs[0]) > 0 and not Program(case.operations, case.arrays).sizes)
