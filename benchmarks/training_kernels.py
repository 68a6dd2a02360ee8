"""Times of the runtime's training kernels, stage by stage, beside PyTorch's convolutions in float32 and bfloat16.

One convolution at a time, channels-last, with nothing around it: quantizing is part of the runtime's times, and
PyTorch's are of the product alone. Everything is called in turn, and the shortest time counts. Before that y, dx and dW
are compared with PyTorch's products of the same codes. On a CPU with AMX oneDNN multiplies bfloat16 on its tiles, at
many times the rate of AVX-512; the runtime's training kernels do not use them.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

import bitorch_runtime
from bitorch_runtime import training

Floats = NDArray[np.float32]
KEY = (1, 2)
MASKS = {"dx": [True, False, False], "dW": [False, True, False]}


@dataclass(frozen=True)
class Options:
    """Time the training kernels."""

    batch: int = 64
    """Images."""
    threads: int = 1
    """Threads, of the runtime and of PyTorch."""
    rounds: int = 30
    """How often each stage is called."""


@dataclass(frozen=True)
class Case:
    """A square convolution."""

    channels: int
    outputs: int
    size: int
    bits: tuple[int, int, int]
    kernel: int = 3
    padding: int = 1

    def __str__(self) -> str:
        weight, activation, gradient = self.bits
        return f"{self.channels}→{self.outputs}, {self.size}×{self.size}, W{weight}A{activation}G{gradient}"

    @property
    def out(self) -> int:
        return self.size + 2 * self.padding - self.kernel + 1

    def weights(self) -> NDArray[np.int8]:
        """Random codes."""
        n = 2 ** self.bits[0] - 1
        shape = (self.outputs, self.kernel, self.kernel, self.channels)
        codes: NDArray[np.int8] = (2 * np.random.default_rng(0).integers(0, n + 1, shape) - n).astype(np.int8)
        return codes

    def method(self, batch: int) -> str:
        """What y is computed on."""
        x_shape = (batch, self.size, self.size, self.channels)
        return training.forward_method(x_shape, self.weights(), bits=self.bits[1], padding=self.padding)

    def products(self, batch: int) -> int:
        return batch * self.out**2 * self.outputs * self.kernel**2 * self.channels


CASES = [
    *(
        Case(channels, channels, size, bits)
        for channels, size in [(64, 20), (128, 10), (128, 20)]
        for bits in [(1, 2, 6), (2, 4, 8)]
    ),
    Case(128, 512, 5, (1, 2, 6), kernel=5, padding=0),
]


class Layer:
    """Arrays of a case, as the runtime and as PyTorch has them, and what is timed."""

    def __init__(self, case: Case, options: Options) -> None:
        rng = np.random.default_rng(1)
        self.case, self.options = case, options
        self.weight = case.weights()
        self.x = rng.normal(0.4, 0.5, (options.batch, case.size, case.size, case.channels)).astype(np.float32)
        self.g = rng.standard_normal((options.batch, case.out, case.out, case.outputs)).astype(np.float32)
        self.scale_x, self.scale_w = 1 / (2 ** case.bits[1] - 1), 0.037
        self.saved = self.forward().saved

    def forward(self, save: bool = True) -> training.Forward:
        return training.conv2d(
            self.x,
            self.weight,
            self.scale_x,
            self.scale_w,
            bits=self.case.bits[1],
            padding=self.case.padding,
            save=save,
            threads=self.options.threads,
        )

    def backward(self, x: bool, weight: bool) -> training.Gradients:
        assert self.saved is not None
        return training.conv2d_backward(
            self.g,
            self.saved,
            self.weight,
            self.scale_x,
            self.scale_w,
            x_shape=self.x.shape,
            bits=self.case.bits[1],
            gradient_bits=self.case.bits[2],
            key=KEY,
            padding=self.case.padding,
            needs=(x, weight, False),
            threads=self.options.threads,
        )

    def ours(self) -> dict[str, Callable[[], object]]:
        return {
            "y": lambda: self.forward(save=False),
            "y, saved": self.forward,
            "codes": lambda: training.gradient_codes(self.g, self.case.bits[2], KEY, threads=self.options.threads),
            "dx": lambda: self.backward(True, False),
            "dW": lambda: self.backward(False, True),
            "dx, dW": lambda: self.backward(True, True),
        }

    def theirs(self, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
        x, weight, g = (as_nchw(array).to(dtype) for array in (self.x, self.weight.astype(np.float32), self.g))
        return {
            "y": lambda: torch.nn.functional.conv2d(x, weight, padding=self.case.padding),
            **{name: partial(self.convolve_back, g, x, weight, mask) for name, mask in MASKS.items()},
            "dx, dW": lambda: self.convolve_back(g, x, weight, [True, True, False]),
        }

    def convolve_back(self, g: Tensor, x: Tensor, weight: Tensor, mask: list[bool]) -> tuple[Tensor, ...]:
        pads = [self.case.padding] * 2
        results: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
            g, x, weight, None, [1, 1], pads, [1, 1], False, [0, 0], 1, mask
        )
        return results

    def check(self) -> None:
        """Compare with PyTorch's products of the same codes, which double holds exactly.

        Raises:
            AssertionError: other numbers.
        """
        n = 2 ** self.case.bits[1] - 1
        q = as_nchw(np.rint(np.clip(self.x, 0, 1) * np.float32(n))).double()
        weight = as_nchw(self.weight).double()
        codes, scale = training.gradient_codes(self.g, self.case.bits[2], KEY)
        code = as_nchw(2 * codes.astype(np.float64) + 1)
        y = torch.nn.functional.conv2d(q, weight, padding=self.case.padding).float()
        factor = np.float32(self.scale_x) * np.float32(self.scale_w)
        assert torch.equal(as_nchw(self.forward().y), y * float(factor))
        found = self.backward(True, True)
        dx = self.convolve_back(code, q, weight, MASKS["dx"])[0].float()
        dx *= as_nchw((scale * np.float32(self.scale_w))[:, None, None, None])
        x = as_nchw(self.x)
        assert found.x is not None
        assert found.weight is not None
        assert torch.equal(as_nchw(found.x), torch.where((x >= 0) & (x <= 1), dx, 0))
        values = code * as_nchw(scale[:, None, None, None]).double()
        dw = self.convolve_back(values, q, weight, MASKS["dW"])[1] * self.scale_x
        torch.testing.assert_close(as_nchw(found.weight).double(), dw, rtol=1e-5, atol=1e-5 * float(dw.abs().max()))


def as_nchw(array: NDArray[np.generic]) -> Tensor:
    """A tensor [N, C, H, W] in the memory of an array [N, H, W, C]."""
    return torch.from_numpy(array).permute(0, 3, 1, 2)


def shortest(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each, called in turn."""
    times = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name] = min(times[name], (time.perf_counter() - start) * 1e3)
    return times


def measure(case: Case, options: Options) -> dict[str, float]:
    layer = Layer(case, options)
    layer.check()
    calls = {f"ours {name}": call for name, call in layer.ours().items()}
    for kind, dtype in {"float32": torch.float32, "bfloat16": torch.bfloat16}.items():
        calls |= {f"{kind} {name}": call for name, call in layer.theirs(dtype).items()}
    return shortest(calls, options.rounds)


def share_threads() -> str:
    """Let training kernels compute on PyTorch's threads, where those are libgomp's; return whose threads they are."""
    libraries = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    if not libraries:
        return "the runtime's own"
    function = ctypes.CDLL(str(libraries[0])).GOMP_parallel
    training.set_executor(ctypes.cast(function, ctypes.c_void_p).value)
    return "PyTorch's"


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    owner = share_threads()
    cpu = bitorch_runtime.cpu()
    has_amx = "amx-int8" in cpu["flags"]
    table = Table(title=f"ms, batch {options.batch}; in brackets 10^12 products a second; y + dx, dW beside PyTorch's")
    for column in ("layer", "y on", "y", "y, saved", "codes", "dx", "dW", "dx, dW", "÷ float32", "÷ bfloat16"):
        table.add_column(column, justify="left" if column in ("layer", "y on") else "right", no_wrap=True)
    for case in CASES:
        times = measure(case, options)
        rate = case.products(options.batch) / 1e9
        cells = [f"{times[f'ours {name}']:.2f}" for name in ("y", "y, saved", "codes", "dx", "dW", "dx, dW")]
        for at, name in ((0, "y"), (3, "dx"), (4, "dW")):
            cells[at] += f" ({rate / times[f'ours {name}']:.3f})"
        step = times["ours y, saved"] + times["ours dx, dW"]
        ratios = [step / (times[f"{kind} y"] + times[f"{kind} dx, dW"]) for kind in ("float32", "bfloat16")]
        table.add_row(str(case), case.method(options.batch), *cells, *(f"{ratio:.2f}" for ratio in ratios))
    console = Console(width=140)
    console.print(table)
    amx = "; AMX, which bfloat16 runs on in PyTorch" if has_amx else "; no AMX"
    console.print(f"{cpu['name']}{amx}; {options.threads} thread(s), {owner}; kernels {training.kernel()}")
    console.print(f"torch {torch.__version__}")


if __name__ == "__main__":
    main(tyro.cli(Options))
