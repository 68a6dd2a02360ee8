"""Nets for controllers: bytes of flash and memory of their headers in C, and every code compared with the packed net.

    python recipes/controller.py                      # sizes for a Cortex-M4, codes compared on this machine
    python recipes/controller.py --machines arm arm64 # and on emulated machines

Sizes do not depend on training: only the net on digits is trained, for some seconds; the others have random weights.
Where a compiler or an emulator is missing, the table says which.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig, PackedModel
from bitorch.data import digits, to_float
from bitorch.models import LeNet8, LeNet28, SVHNNet
from bitorch_runtime import Program
from bitorch_runtime.c_source import c_source
from controller_runs import Array, executable, execute, with_all_codes
from keywords import ConvNet
from keywords_tones import clips
from recipe import run

#: How a Cortex-M4 with floats in single precision is compiled for.
CORTEX_M4 = "arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard -Os"
Machine = Literal["here", "arm", "arm64"]
#: What compiles for a machine, and what runs it.
MACHINES: dict[Machine, tuple[Sequence[str], Sequence[str]]] = {
    "here": (("gcc", "-O2"), ()),
    "arm": (("arm-linux-gnueabihf-gcc", "-O2", "-static"), ("qemu-arm",)),
    "arm64": (("aarch64-linux-gnu-gcc", "-O2", "-static"), ("qemu-aarch64",)),
}


@dataclass(frozen=True)
class Options:
    """Export nets, and say what they take."""

    weight_bits: int = 1
    """Of the low-bit layers."""
    activation_bits: int = 2
    """Of the low-bit layers."""
    images: int = 360
    """Images that are compared; of digits all test images."""
    machines: tuple[Machine, ...] = ("here",)
    """Where the headers run: here, or emulated."""
    epochs: int = 20
    """Of the net on digits."""


@dataclass(frozen=True)
class Net:
    """A deployed net, and what it is run on."""

    name: str
    packed: PackedModel
    inputs: Array


def main(options: Options) -> None:
    console = Console()
    torch.manual_seed(0)
    bits = f"W{options.weight_bits}A{options.activation_bits}"
    table = Table(title=f"headers of {bits} nets: bytes, code for a Cortex-M4; codes, classes that differ")
    for column in ("net", "file", "code", "constants", "of floats", "arena", *options.machines):
        table.add_column(column, justify="left" if column == "net" else "right")
    for net in nets(options):
        table.add_row(net.name, *sizes(net.packed), *(compared(net, machine) for machine in options.machines))
    console.print(table)


def nets(options: Options) -> list[Net]:
    """Return the nets, deployed: from pixels, but for the one that hears."""
    config = LowBitConfig(options.weight_bits, options.activation_bits)
    count, pixels = options.images, torch.Generator().manual_seed(1)

    def images(*shape: int) -> Tensor:
        return torch.randint(0, 256, (count, *shape), generator=pixels, dtype=torch.uint8)

    sounds = clips(max(count, 8), 0)[0]
    found = [
        ("LeNet, digits", trained_on_digits(config, options.epochs), digits().test.images, True),
        ("LeNet, Fashion-MNIST", with_statistics(LeNet28(), config, images(1, 28, 28)), images(1, 28, 28), True),
        ("SVHN net D", with_statistics(SVHNNet("D"), config, images(3, 40, 40)), images(3, 40, 40), True),
        ("keywords", with_statistics(ConvNet(16), config, sounds), sounds[:count], False),
    ]
    return [deployed(*each) for each in found]


def deployed(name: str, model: nn.Module, inputs: Tensor, pixels: bool) -> Net:
    """Deploy a net for its inputs."""
    example = to_float(inputs[:2]) if pixels else inputs[:2]
    return Net(name, bitorch.deploy(model.eval(), example, pixels=pixels), inputs.numpy())


def with_statistics(model: nn.Module, config: LowBitConfig, inputs: Tensor) -> nn.Module:
    """Return a low-bit net of random weights whose norms have seen some inputs."""
    bitorch.quantize_(model, config)
    model.train()
    with torch.no_grad():
        for batch in inputs[:64].split(32):
            model(to_float(batch) if batch.dtype == torch.uint8 else batch)
    return model


def trained_on_digits(config: LowBitConfig, epochs: int) -> nn.Module:
    """Return LeNet on digits, trained with Adam."""
    model, train = LeNet8(), digits().train
    bitorch.quantize_(model, config)
    x, labels = to_float(train.images), train.labels
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), labels[batch]).backward()
            optimizer.step()
    return model


def sizes(packed: PackedModel) -> list[str]:
    """Return the bytes of a packed file and of its header."""
    compiler = CORTEX_M4 if shutil.which(CORTEX_M4.split()[0]) is not None else None
    with tempfile.TemporaryDirectory() as folder:
        written = bitorch.export_c(packed, Path(folder) / "net.h", compiler=compiler)
    code = "no compiler" if written.code_bytes is None else f"{written.code_bytes:,}"
    rest = (written.constant_bytes, sum(written.float_weights.values()), written.arena_bytes)
    return [f"{packed.nbytes:,}", code, *(f"{nbytes:,}" for nbytes in rest)]


def compared(net: Net, machine: Machine) -> str:
    """Say how many codes, and how many classes, of a header that runs on a machine are not those of the packed net."""
    compiler, emulator = MACHINES[machine]
    missing = [command for command in (compiler[0], *emulator[:1]) if shutil.which(command) is None]
    if missing:
        return f"no {missing[0]}"
    operations, arrays = net.packed.program()
    program = Program(with_all_codes(operations), arrays)
    header = c_source(program.description, arrays).text
    expected = program(net.inputs)
    with tempfile.TemporaryDirectory() as folder:
        made = executable(header, "net", program, Path(folder) / "net", compiler)
        found = execute([*emulator, str(made)], program, net.inputs)
    assert isinstance(expected, dict)
    scores = net.packed.outputs[0].name
    codes = [name for name, array in expected.items() if array.dtype == np.uint8]
    other_codes = sum(int((found[name] != expected[name]).sum()) for name in codes)
    other_classes = int((found[scores].argmax(1) != expected[scores].argmax(1)).sum())
    return f"{other_codes}, {other_classes}"


if __name__ == "__main__":
    run(main, Options)
