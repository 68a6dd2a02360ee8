"""Whole networks: ResNet-18 and the SVHN net A with 1-bit weights and 2-bit activations, beside PyTorch in float32 and
bfloat16, and ONNX Runtime and OpenVINO in int8.

All run in this process, one sample each in turn, so that a drift of the machine meets all alike. A time is that of the
whole Python call, from pixels to scores. Weights are random. Ours is what `bitorch.deploy` makes of the model, verified
tensor by tensor; ResNet-18 has its first and last layer at 8 bits, the SVHN net in float32. In the int8 engines all
layers are int8. Every output is checked before it is timed.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import numpy as np
import numpy.typing as npt
import tyro
from rich.console import Console
from rich.table import Table

import bitorch_runtime
import networks_ours
from layers_timing import Contestant, Samples, play
from networks_deployed import deployed, float_model

Net = Literal["resnet18", "svhn-a"]
Engine = Literal["torch", "onnxruntime", "openvino"]
IMAGE_SIZE: dict[Net, int] = {"resnet18": 224, "svhn-a": 40}
PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class Options:
    """Measure whole networks."""

    nets: tuple[Net, ...] = ("resnet18", "svhn-a")
    engines: tuple[Engine, ...] = ("torch", "onnxruntime", "openvino")
    """Who else takes part."""
    threads: tuple[int, ...] = (1, 2)
    """Threads of every engine."""
    batches: tuple[int, ...] = (1, 8)
    rounds: int = 15
    """Samples of each contestant."""
    profile: bool = False
    """Show what each operation of ours takes, too."""
    seed: int = 0

    def check(self) -> None:
        """
        Raises:
            ValueError: a number is below 1.
        """
        if min(*self.threads, *self.batches, self.rounds) < 1:
            raise ValueError("--threads, --batches and --rounds must be at least 1")


def main(options: Options) -> None:
    options.check()
    console = Console(width=None if sys.stdout.isatty() else 140)
    show_machine(options, console)
    for net in options.nets:
        ours, nbytes = deployed(net, IMAGE_SIZE[net])
        floats = 4 * sum(parameter.numel() for parameter in float_model(net).parameters())
        console.print(f"\n{net}: packed file of {nbytes:,} bytes, float32 weights of {floats:,}", highlight=False)
        for threads in options.threads:
            for batch in options.batches:
                images = _images(net, batch, options.seed)
                everybody = others(net, images, threads, options)
                everybody.append(networks_ours.contestant(ours, images))
                samples = play(everybody, options.rounds, PAUSE_SECONDS if threads > 1 else 0.0)
                console.print(net_table(net, threads, batch, samples))
                if options.profile:
                    console.print(ours.profile(networks_ours.as_input(images), repeats=50))


def _images(net: Net, batch: int, seed: int) -> npt.NDArray[np.uint8]:
    """The first images of a larger batch are those of a smaller one."""
    size = IMAGE_SIZE[net]
    return np.random.default_rng(seed).integers(0, 255, (batch, size, size, 3), np.uint8, endpoint=True)


def others(net: Net, images: npt.NDArray[np.uint8], threads: int, options: Options) -> list[Contestant]:
    """Sets the threads of all engines, ours too.

    Raises:
        ImportError: an engine is not installed.
    """
    bitorch_runtime.set_num_threads(threads)
    found: list[Contestant] = []
    if "torch" in options.engines:
        import networks_torch

        found += networks_torch.contestants(net, images, threads)
    if "onnxruntime" in options.engines:
        import networks_onnxruntime
        from networks_int8 import int8_net

        found.append(
            networks_onnxruntime.contestant(int8_net(net, np.random.default_rng(options.seed)), images, threads)
        )
    if "openvino" in options.engines:
        import networks_openvino
        from networks_int8 import int8_net

        found.append(networks_openvino.contestant(int8_net(net, np.random.default_rng(options.seed)), images, threads))
    return found


def net_table(net: Net, threads: int, batch: int, samples: list[Samples]) -> Table:
    ours = statistics.median(samples[-1].call)
    title = f"{net}, {'1 thread' if threads == 1 else f'{threads} threads'}, batch {batch}"
    table = Table("", "ms per image", "least", "bitorch-runtime is", "kernel", title=title)
    for column in table.columns[1:4]:
        column.justify = "right"
    for each in samples:
        seconds, least = statistics.median(each.call) / batch, min(each.call) / batch
        times = "" if each is samples[-1] else f"{statistics.median(each.call) / ours:.2f}× as fast"
        name, kernel = each.contestant.name, each.contestant.kernel
        table.add_row(name, f"{seconds * 1e3:.3f}", f"{least * 1e3:.3f}", times, kernel)
    return table


def show_machine(options: Options, console: Console) -> None:
    cpu = bitorch_runtime.cpu()
    packages = ", ".join(f"{name} {version(name)}" for name in ("bitorch-runtime", "numpy", *options.engines))
    for line in (
        f"CPU: {cpu['name']}",
        f"kernels: {cpu['kernel']} ({cpu['reason']})",
        f"versions: Python {platform.python_version()}, {packages}",
        f"samples: {options.rounds} of each, in turn",
        f"load before: {os.getloadavg()[0]:.2f} of {cpu['cpus']} CPUs",
    ):
        console.print(line, highlight=False)


if __name__ == "__main__":
    main(tyro.cli(Options))
