"""Accuracies that papers report, in the tables that the recipes print beside what they measure.

A table whose source says checked=False was written down from memory. Who has compared it with the paper's own text says
True, and the mark behind its numbers goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Of weights, activations and gradients; 32 for floats.
Bits = tuple[int, int, int]
Method = Literal["float", "dorefa", "pact", "lsq"]
#: What a low-bit net begins with: random weights, or those of the trained float net.
Start = Literal["random", "float"]

FLOAT: Bits = (32, 32, 32)


@dataclass(frozen=True)
class Source:
    """A table of a paper.

    Attributes:
        paper: its name and number.
        table: which one.
        checked: whether every number here was compared with the paper's text.
    """

    paper: str
    table: str
    checked: bool = False

    def __str__(self) -> str:
        return f"{self.paper}, {self.table}{'' if self.checked else ' (as remembered)'}"


@dataclass(frozen=True)
class Reported:
    """A top-1 accuracy, in [0, 1], and where it stands."""

    accuracy: float
    source: Source


_DOREFA = "DoReFa-Net, arXiv 1606.06160"
_PACT = "PACT, arXiv 1805.06085"
DOREFA_TABLE_1 = Source(_DOREFA, "table 1")
DOREFA_TABLE_2 = Source(_DOREFA, "table 2")
PACT_CIFAR10 = Source(_PACT, "table of CIFAR-10")
PACT_IMAGENET = Source(_PACT, "table of ImageNet")
LSQ_TABLE_1 = Source("LSQ, arXiv 1902.08153", "table 1")

#: DoReFa-Net on SVHN: nets A, B, C and D, which have 1, 1/2, 1/4 and 1/8 of the channels. None: not in the table.
TABLE1: dict[Bits, tuple[float | None, float | None, float, float]] = {
    (1, 1, 2): (0.934, 0.924, 0.910, 0.803),
    (1, 1, 4): (0.968, 0.961, 0.916, 0.846),
    (1, 1, 8): (0.970, 0.962, 0.902, 0.828),
    (1, 1, 32): (0.971, 0.963, 0.921, 0.841),
    (1, 2, 2): (0.909, 0.930, 0.900, 0.808),
    (1, 2, 3): (0.968, 0.964, 0.934, 0.878),
    (1, 2, 4): (0.975, 0.969, 0.939, 0.878),
    (1, 2, 8): (0.975, 0.971, 0.946, 0.866),
    (1, 2, 32): (0.976, 0.970, 0.950, 0.865),
    (1, 3, 3): (0.968, 0.964, 0.946, 0.887),
    (1, 3, 4): (0.974, 0.974, 0.959, 0.897),
    (1, 3, 6): (0.977, 0.974, 0.949, 0.916),
    (1, 4, 2): (0.815, 0.898, 0.911, 0.868),
    (1, 4, 4): (0.975, 0.974, 0.962, 0.915),
    (1, 4, 8): (0.977, 0.975, 0.955, 0.895),
    (2, 1, 2): (0.927, 0.928, 0.909, 0.846),
    (2, 1, 4): (0.969, 0.957, 0.904, 0.827),
    (2, 2, 2): (0.900, 0.919, 0.856, 0.842),
    (8, 8, 8): (None, None, 0.970, 0.955),
    (32, 32, 32): (0.975, 0.975, 0.972, 0.950),
}

#: DoReFa-Net's AlexNet on ImageNet, by what the net began with. Its lines of other papers are left out.
TABLE2: dict[tuple[Bits, Start], float] = {
    ((1, 1, 6), "random"): 0.395,
    ((1, 1, 8), "random"): 0.395,
    ((1, 1, 32), "random"): 0.401,
    ((1, 1, 32), "float"): 0.436,
    ((1, 2, 6), "random"): 0.461,
    ((1, 2, 8), "random"): 0.463,
    ((1, 2, 32), "random"): 0.477,
    ((1, 2, 32), "float"): 0.498,
    ((1, 3, 6), "random"): 0.471,
    ((1, 3, 32), "random"): 0.484,
    ((1, 4, 6), "random"): 0.482,
    ((1, 4, 32), "random"): 0.503,
    ((1, 4, 32), "float"): 0.530,
    ((8, 8, 8), "random"): 0.530,
    (FLOAT, "random"): 0.559,
}

#: ResNet-20 on CIFAR-10, all of PACT's paper, which has trained DoReFa-Nets as well.
RESNET20: dict[tuple[Method, Bits], float] = {
    ("float", FLOAT): 0.916,
    ("dorefa", (2, 2, 32)): 0.882,
    ("dorefa", (3, 3, 32)): 0.899,
    ("dorefa", (4, 4, 32)): 0.905,
    ("pact", (2, 2, 32)): 0.897,
    ("pact", (3, 3, 32)): 0.911,
    ("pact", (4, 4, 32)): 0.917,
}

#: ResNet-18 on ImageNet in PACT's paper.
RESNET18_PACT: dict[tuple[Method, Bits], float] = {
    ("float", FLOAT): 0.702,
    ("dorefa", (2, 2, 32)): 0.626,
    ("dorefa", (3, 3, 32)): 0.675,
    ("dorefa", (4, 4, 32)): 0.681,
    ("pact", (2, 2, 32)): 0.644,
    ("pact", (3, 3, 32)): 0.681,
    ("pact", (4, 4, 32)): 0.692,
}

#: ResNet-18 on ImageNet in LSQ's paper.
RESNET18_LSQ: dict[tuple[Method, Bits], float] = {
    ("float", FLOAT): 0.705,
    ("lsq", (2, 2, 32)): 0.676,
    ("lsq", (3, 3, 32)): 0.702,
    ("lsq", (4, 4, 32)): 0.711,
    ("lsq", (8, 8, 32)): 0.711,
}


def reported(net: str, method: Method, bits: Bits, start: Start) -> tuple[Reported, ...]:
    """Return what papers report of a net: "svhn-a" to "svhn-d", "resnet-20", "alexnet" or "resnet-18"; () for nothing.

    Args:
        net: its name in `bitorch.models`; another one has no numbers here.
        method: float, or how weights and activations became low-bit.
        bits: of the net.
        start: what it began with. Where a paper's nets all begin with float weights, both have that number.
    """
    found: list[tuple[float | None, Source]] = []
    if method in ("float", "dorefa") and net in _SVHN and bits in TABLE1:
        found.append((TABLE1[bits][_SVHN.index(net)], DOREFA_TABLE_1))
    if method in ("float", "dorefa") and net == "alexnet":
        found.append((TABLE2.get((bits, start)), DOREFA_TABLE_2))
    if net == "resnet-20":
        found.append((RESNET20.get((method, bits)), PACT_CIFAR10))
    if net == "resnet-18":
        found += [
            (RESNET18_PACT.get((method, bits)), PACT_IMAGENET),
            (RESNET18_LSQ.get((method, bits)), LSQ_TABLE_1),
        ]
    return tuple(Reported(accuracy, source) for accuracy, source in found if accuracy is not None)


_SVHN = ("svhn-a", "svhn-b", "svhn-c", "svhn-d")
