"""Nets for controllers: bytes of flash and memory of their headers in C, and every number compared with the packed net.

    python recipes/controller.py --fashion-mnist FOLDER                      # here
    python recipes/controller.py --fashion-mnist FOLDER --machines arm arm64 # on emulated machines

Flash and memory are a Cortex-M4's. Trains for a minute or two on one core; a net whose data set is not given has random
weights, and is compared on random images. Where a compiler or an emulator is missing, the table says which.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import bitorch
import bitorch_runtime
from bitorch import PackedModel
from bitorch_runtime.c_source import CHeader
from controller_nets import NETS, Ends, Net, Plan
from controller_runs import Machine, compare, missing_on
from recipe import run

#: How a Cortex-M4 with floats in single precision is compiled for.
CORTEX_M4 = "arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard -Os"
_COLUMNS = ("net", "accuracy", "file", "flash", "code", "constants", "RAM", "arena", "stack")


@dataclass(frozen=True)
class Options:
    """Train nets, export them, and say what they take and what differs."""

    fashion_mnist: Path | None = None
    """Folder with the four IDX files of Fashion-MNIST; without it its net is not trained."""
    svhn: Path | None = None
    """Folder with train_32x32.mat and test_32x32.mat; without it net D is not trained."""
    images: int = 10_000
    """Of Fashion-MNIST and of SVHN that are trained on."""
    compared: int = 0
    """Test images that are compared, the first ones; 0: all. An emulated machine takes minutes for 10,000 images."""
    weight_bits: int = 1
    """Of the low-bit layers."""
    activation_bits: int = 2
    """Of the low-bit layers."""
    ends: Ends = "8 bits"
    """First and last layers; those in float have sums of another order, whose last bits differ."""
    machines: tuple[Machine, ...] = ("here",)
    """Where the headers run: here, or emulated."""


def main(options: Options) -> None:
    torch.set_num_threads(1)
    bitorch_runtime.set_num_threads(1)
    if options.compared < 0:
        raise ValueError(f"compared must be 0 or more, got {options.compared}")
    console, bits = Console(), f"W{options.weight_bits}A{options.activation_bits}, ends {options.ends}"
    table = Table(title=f"headers of {bits}: bytes for a Cortex-M4; numbers that are compared, and that differ")
    for column in (*_COLUMNS, *options.machines):
        table.add_column(column, justify="left" if column == "net" else "right")
    differ = 0
    for net in nets(options):
        cells, differs = _row(net, options)
        table.add_row(*cells)
        differ += differs
    console.print(table)
    if differ and options.ends == "8 bits":
        print(f"{differ} numbers differ, and none should where nothing sums floats", file=sys.stderr)
        sys.exit(1)


def nets(options: Options) -> list[Net]:
    """Return the nets of the table, each from a seed of its own."""
    found = []
    for make in NETS:
        torch.manual_seed(0)
        found.append(make(_plan(options)))
    return found


def _plan(options: Options) -> Plan:
    bits = {"weight_bits": options.weight_bits, "activation_bits": options.activation_bits}
    data = {"fashion_mnist": options.fashion_mnist, "svhn": options.svhn}
    return Plan(**bits, **data, ends=options.ends, images=options.images)  # type: ignore[arg-type]


def _row(net: Net, options: Options) -> tuple[list[str], int]:
    """Return a row of the table, and how many numbers differ in it."""
    cells, differ = [net.name, accuracy(net), *sizes(net.packed)], 0
    inputs = net.inputs[: options.compared] if options.compared else net.inputs
    for machine in options.machines:
        missing = missing_on(machine)
        if missing is not None:
            cells.append(f"no {missing}")
            continue
        counts = compare(net.packed, inputs, machine)
        cells.append(str(counts))
        differ += counts.differ
    return cells, differ


def accuracy(net: Net) -> str:
    """Say which share of the test set the packed net classifies as it should."""
    if net.answers is None:
        return "–"
    scores = net.packed(torch.from_numpy(net.inputs))
    assert isinstance(scores, torch.Tensor)
    return f"{np.mean(scores.argmax(1).numpy() == net.answers):.1%}"


def sizes(packed: PackedModel) -> list[str]:
    """Return the bytes of a packed file and of its header, as the columns from "file" to "stack" have them."""
    header = measured(packed)
    code, stack = header.code_bytes, header.stack_bytes
    flash = None if code is None else code + header.constant_bytes
    ram = None if stack is None else header.arena_bytes + stack
    known = (packed.nbytes, flash, code, header.constant_bytes, ram, header.arena_bytes, stack)
    return ["no compiler" if nbytes is None else f"{nbytes:,}" for nbytes in known]


def measured(packed: PackedModel) -> CHeader:
    """Return what a net takes of a Cortex-M4; no code and no stack where its compiler is not installed."""
    compiler = CORTEX_M4 if shutil.which(CORTEX_M4.split()[0]) is not None else None
    with tempfile.TemporaryDirectory() as folder:
        return bitorch.export_c(packed, Path(folder) / "net.h", compiler=compiler)


if __name__ == "__main__":
    run(main, Options)
