"""Times of a net's first convolution on images, by PyTorch and by the runtime's kernels for few channels.

Forward, and the gradients of weight and bias together, channels-last; everything is called in turn, and the shortest
time counts. Before that, results are compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

import bitorch_runtime
from bitorch.operators.few_channels import few_channels, few_channels_backward


@dataclass(frozen=True)
class Options:
    """Time first convolutions."""

    batch: int = 64
    """Images."""
    threads: int = 1
    """Threads of PyTorch, on which both compute."""
    rounds: int = 20
    """How often each is called."""


class Case(NamedTuple):
    """A square convolution of square images."""

    net: str
    channels: int
    size: int
    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0

    def __str__(self) -> str:
        return f"{self.net}: {self.channels}×{self.size}×{self.size} → {self.outputs}, {self.kernel}×{self.kernel}"


CASES = [
    Case("SVHN-A", 3, 40, 48, 5),
    Case("ResNet-18, CIFAR", 3, 32, 64, 3, padding=1),
    Case("ResNet-18", 3, 64, 64, 7, 2, 3),
    Case("LeNet", 1, 28, 32, 5),
    Case("MobileNetV2", 3, 64, 32, 3, 2, 1),
    Case("VGG-small", 3, 32, 128, 3, padding=1),
]


class Layer:
    """A case's tensors, and what is timed."""

    def __init__(self, case: Case, batch: int) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (batch, case.channels, case.size, case.size)
        last = torch.channels_last
        self.x = torch.rand(shape, generator=generator).contiguous(memory_format=last)
        self.weight = torch.randn(
            (case.outputs, case.channels, case.kernel, case.kernel), generator=generator
        ).contiguous(memory_format=last)
        self.bias = torch.randn(case.outputs, generator=generator)
        self.stride, self.padding, self.size = [case.stride] * 2, [case.padding] * 2, [case.kernel] * 2
        y = self.theirs()
        self.products = y.numel() * case.kernel**2 * case.channels
        self.g = torch.randn(y.shape, generator=generator).contiguous(memory_format=last)

    def theirs(self) -> Tensor:
        return F.conv2d(self.x, self.weight, self.bias, self.stride, self.padding)

    def ours(self) -> Tensor:
        y: Tensor = few_channels(self.x, self.weight, self.bias, self.stride, self.padding)
        return y

    def their_gradients(self) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
            self.g, self.x, self.weight, [len(self.bias)], self.stride, self.padding, [1, 1], False, [0, 0], 1,
            [False, True, True],
        )  # fmt: skip
        return found[1], found[2]

    def our_gradients(self) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = few_channels_backward(self.g, self.x, self.size, True, self.stride, self.padding)
        return found

    def check(self) -> None:
        """Compare, by the largest number of each result.

        Raises:
            AssertionError: other numbers.
        """
        for ours, theirs in zip(
            (self.ours(), *self.our_gradients()), (self.theirs(), *self.their_gradients()), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))

    def times(self, rounds: int) -> list[float]:
        """Milliseconds of each, the shortest."""
        calls: list[Callable[[], object]] = [self.theirs, self.ours, self.their_gradients, self.our_gradients]
        times = [float("inf")] * len(calls)
        for _ in range(rounds):
            for i, call in enumerate(calls):
                start = time.perf_counter()
                call()
                times[i] = min(times[i], (time.perf_counter() - start) * 1e3)
        return times


@torch.no_grad()
def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    console = Console(width=150)
    cpu = bitorch_runtime.cpu()
    console.print(
        f"{cpu['name']}, kernels {cpu['kernel']}, {options.threads} threads, batch {options.batch}, "
        f"PyTorch {torch.__version__}, NumPy {np.__version__}",
        highlight=False,
    )
    table = Table(
        "first layer", *("PyTorch", "ours", "ratio", "10⁹ products/s") * 2, title="ms: y; gradients of weight"
    )
    for case in CASES:
        layer = Layer(case, options.batch)
        layer.check()
        y, our_y, w, our_w = layer.times(options.rounds)
        cells = [
            cell
            for theirs, ours in ((y, our_y), (w, our_w))
            for cell in (
                f"{theirs:.2f}",
                f"{ours:.2f}",
                f"{ours / theirs:.2f}",
                f"{layer.products / ours / 1e6:.0f}",
            )
        ]
        table.add_row(str(case), *cells)
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Options))
