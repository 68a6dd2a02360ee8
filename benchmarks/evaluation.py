"""Passes of evaluation: low-bit layers as they train, and on packed weights, in turns; packing is part of a pass.

Weights and images are random: what is measured does not depend on them. Both have to give the same bits, or this fails.

    OMP_NUM_THREADS=1 python benchmarks/evaluation.py
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import bitorch
from bitorch.deployment.partial.evaluation_choice import EvaluationChoice
from bitorch.deployment.partial.evaluation_pass import EvaluationPass
from bitorch.models import build

#: By name: channels, height and width of the images.
NETS = {"lenet-28": (1, 28, 28), "svhn-a": (3, 40, 40), "resnet-18": (3, 64, 64), "resnet-20": (3, 32, 32)}


@dataclass(frozen=True)
class Options:
    """Evaluate nets with random weights, and time the passes."""

    nets: tuple[str, ...] = tuple(NETS)
    """Of lenet-28, svhn-a, resnet-18 and resnet-20."""
    bits: tuple[int, int] = (1, 2)
    """Of weights and activations; the ends are float."""
    batches: tuple[int, ...] = (1, 64, 256)
    """Images of a batch."""
    images: int = 1024
    """Of a pass, or one batch of more; batches of one image have an eighth of them."""
    rounds: int = 3
    """Passes of each kind."""


@dataclass(frozen=True)
class Row:
    """Milliseconds of a pass, the medians of the rounds, and which of the low-bit layers were packed."""

    net: str
    batch: int
    images: int
    own: float
    packed: float
    layers: str


def low_bit(name: str, bits: tuple[int, int]) -> nn.Module:
    """Return a net in eval mode, channels last."""
    torch.manual_seed(0)
    model = build(name, NETS[name][0], num_classes=10)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its overloads lack the memory format
    bitorch.quantize_(model, bitorch.LowBitConfig(*bits, absorb_relu=True))
    return model.eval()


@torch.inference_mode()
def timed(model: nn.Module, x: Tensor, batches: int, choice: EvaluationChoice) -> tuple[float, Tensor, EvaluationPass]:
    """Return the milliseconds of a pass, the last output, and the pass."""
    start = time.perf_counter()
    one = EvaluationPass(model, choice, batches=batches)
    for _ in range(batches):
        with one.running():
            y = model(x)
    return (time.perf_counter() - start) * 1e3, y, one


def measured(name: str, options: Options, batch: int) -> Row:
    """Time one net with batches of one size."""
    model = low_bit(name, options.bits)
    images = max(options.images // 8, 1) if batch == 1 else max(options.images, batch)
    x = torch.rand(batch, *NETS[name]).contiguous(memory_format=torch.channels_last)
    times: dict[EvaluationChoice, list[float]] = {"unpacked": [], "auto": []}
    timed(model, x, 1, "unpacked")
    for _ in range(options.rounds):
        outputs = []
        for choice, found in times.items():
            taken, y, one = timed(model, x, images // batch, choice)
            found.append(taken)
            outputs.append(y)
        if not torch.equal(*outputs):
            raise SystemExit(f"{name}, batches of {batch}: the packed layers give other numbers")
    forms = one.forms
    own, packed = (statistics.median(found) for found in times.values())
    layers = f"{len(forms.packed)} of {len(forms.layers)}"
    return Row(name, batch, images // batch * batch, own, packed, layers)


def main(options: Options) -> None:
    table = Table("net", "batch", "images", "as it trains, ms", "packed, ms", "×", "layers packed")
    for name in options.nets:
        for batch in options.batches:
            row = measured(name, options, batch)
            table.add_row(
                row.net, str(batch), str(row.images), f"{row.own:.1f}", f"{row.packed:.1f}",
                f"{row.own / row.packed:.2f}", row.layers,
            )  # fmt: skip
    Console().print(table)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, W{options.bits[0]}A{options.bits[1]}")


if __name__ == "__main__":
    main(tyro.cli(Options))
