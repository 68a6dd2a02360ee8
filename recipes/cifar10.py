"""CIFAR-10: ResNet-20 by DoReFa, PACT and LSQ at a grid of bits, on the official files, measured beside reported.

PACT and DoReFa are trained as in PACT's paper (arXiv 1805.06085), LSQ with the cosine, the learning rate and the weight
decay of its own (1902.08153), which has no CIFAR-10. Schedules are as remembered. Images are pixels/255, shifted and
mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bitorch.data.cifar_files import cifar_place
from courses import SGD, Course, lsq_course
from literature import FLOAT, Method
from recipe import run
from reproduction import Options, Plan, Row, reproduce

_PACT = Course(200, 128, {**SGD, "lr": 0.1, "weight_decay": 2e-4}, milestones=(60, 120))


@dataclass(frozen=True, kw_only=True)
class CIFAR10Options(Options):
    """Train ResNet-20 on CIFAR-10 by several methods at several bits."""

    methods: tuple[Method, ...] = ("float", "dorefa", "pact", "lsq")
    """How weights and activations become low-bit; float is the net without."""
    bits: tuple[tuple[int, int], ...] = ((2, 2), (3, 3), (4, 4))
    """Bits of weights and activations, two numbers for each row: 2 2 4 4."""
    width: float = 1.0
    """Factor on the channels; reported numbers are of 1."""
    out: Path = Path("runs/paper-cifar10")
    """Folder of the runs and of the table."""


def main(options: CIFAR10Options) -> None:
    reproduce(plan(options), options, options.out)


def plan(options: CIFAR10Options) -> Plan:
    low_bit = [method for method in options.methods if method != "float"]
    floats = [Row("resnet-20", "float", FLOAT)] if "float" in options.methods else []
    return Plan(
        title="CIFAR-10: ResNet-20 by method and bits",
        rows=[*floats, *(Row("resnet-20", method, (w, a, 32)) for method in low_bit for w, a in options.bits)],
        course=course,
        data={"data": "cifar10", "pad_crop": 4, "flip": True},
        missing=lambda folder: "" if cifar_place(folder, "cifar10") is not None else "files of CIFAR-10",
        where=(
            "cifar-10-python.tar.gz or cifar-10-binary.tar.gz is had from https://www.cs.toronto.edu/~kriz/cifar.html; "
            "unpack it into a folder and name that with --folder"
        ),
        images=50_000,
        side=32,
        classes=10,
        width=options.width,
    )


def course(row: Row) -> Course:
    return lsq_course(_PACT.epochs, _PACT.batch_size, row.bits) if row.method == "lsq" else _PACT


if __name__ == "__main__":
    run(main, CIFAR10Options)
