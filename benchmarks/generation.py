"""Tokens a second of a small GPT, one after the other with a cache: float, low-bit in PyTorch, and with packed layers.

Weights are as they were drawn, and learned ranges are set by a few batches: what is measured does not depend on them.
The packed net has to give the tokens of the low-bit net, or this fails. All take turns.

    python benchmarks/generation.py --widths 384 768
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import bitorch
import bitorch_runtime
from generation_model import GPT, generate

Method = Literal["bitnet", "w1a8", "w2a8", "w4a8", "w4", "w2a2", "w4a4"]
NETS = ("float32", "bfloat16", "low-bit", "packed")

#: The head stays float.
METHODS: dict[Method, bitorch.LowBitConfig] = {
    "bitnet": bitorch.LowBitConfig(2, 8, weights="absmean", range="dynamic", first="same"),
    "w1a8": bitorch.LowBitConfig(1, 8, weight_scale="channel", range="dynamic", first="same"),
    "w2a8": bitorch.LowBitConfig(2, 8, weights="seq", weight_scale="channel", range="dynamic", first="same"),
    "w4a8": bitorch.LowBitConfig(4, 8, weights="absmax", group_size=32, range="dynamic", first="same"),
    "w4": bitorch.LowBitConfig(4, 32, weights="absmax", group_size=32, first="same"),
    "w2a2": bitorch.LowBitConfig(2, 2, range="learned", learned_by="lsq+", first="same"),
    "w4a4": bitorch.LowBitConfig(4, 4, range="learned", learned_by="lsq+", first="same"),
}


@dataclass(frozen=True)
class Options:
    """Generate with a small GPT, and count tokens a second."""

    methods: tuple[Method, ...] = ("bitnet", "w1a8", "w2a8", "w4a8", "w4")
    """bitnet: ternary weights of BitNet b1.58; w1a8, w2a8: weights of 1 or 2 bits (ParetoQ's grid); w4a8: of 4 bits in
    groups of 32; all four with activations of 8 bits, a step for each token; w4: weights of 4 bits in groups of 32
    alone; w2a2, w4a4: learned."""
    tokens: int = 64
    """Tokens of one turn."""
    prompt: int = 16
    """Tokens that come before."""
    rounds: int = 5
    """Turns of each net."""
    widths: tuple[int, ...] = (384,)
    """Of the nets, multiples of 6."""
    blocks: int = 6
    """Of each net."""
    threads: int = 1
    """Of PyTorch, and of the runtime."""


@dataclass(frozen=True)
class Row:
    """Tokens a second, the median of the turns, by the net; bytes of the packed layers' weights and of float32's."""

    method: Method
    rates: dict[str, float]
    packed_bytes: int
    float_bytes: int


def low_bit(model: GPT, method: Method) -> GPT:
    """Return a low-bit copy in eval mode, with the head in float."""
    net = copy.deepcopy(model)
    bitorch.quantize_(net, METHODS[method])
    if METHODS[method].range == "learned":
        generator = torch.Generator().manual_seed(1)
        bitorch.calibrate(net, [torch.randint(256, (net.context,), generator=generator) for _ in range(4)])
    return net.eval()


def seconds(model: nn.Module, plain: GPT, prompt: Tensor, count: int) -> tuple[float, list[int]]:
    """Generate; return the seconds for a token behind the prompt, and the tokens."""
    dtype = next(parameter.dtype for parameter in plain.parameters())
    caches = plain.caches(dtype)
    first = generate(model, caches, prompt, 1)
    start = time.perf_counter()
    rest = generate(model, caches, torch.tensor(first), count)
    return (time.perf_counter() - start) / count, first + rest


def measure(model: GPT, method: Method, options: Options) -> Row:
    """Compare the nets.

    Raises:
        RuntimeError: the packed net gives other tokens than the low-bit net.
    """
    net, halved = low_bit(model, method), copy.deepcopy(model).bfloat16()
    packed = bitorch.deploy(net, partial=True)
    nets: dict[str, tuple[nn.Module, GPT]] = {
        "float32": (model, model), "bfloat16": (halved, halved), "low-bit": (net, model), "packed": (packed, model)
    }  # fmt: skip
    prompt = torch.randint(256, (options.prompt,), generator=torch.Generator().manual_seed(2))
    found: dict[str, list[float]] = {name: [] for name in nets}
    for _ in range(options.rounds):
        tokens = {}
        for name, (one, plain) in nets.items():
            taken, tokens[name] = seconds(one, plain, prompt, options.tokens)
            found[name].append(taken)
        if tokens["packed"] != tokens["low-bit"]:
            raise RuntimeError(f"{method}: the packed net gives other tokens: {tokens['packed']}, {tokens['low-bit']}")
    rates = {name: 1 / statistics.median(taken) for name, taken in found.items()}
    return Row(method, rates, _bytes(packed), _bytes(model))


def _bytes(net: nn.Module) -> int:
    """Bytes of all parameters and buffers."""
    return sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers()))


def table_of(model: GPT, options: Options) -> Table:
    """Measure all methods."""
    cpu = bitorch_runtime.cpu()
    table = Table(
        title=f"Tokens a second, {options.blocks} blocks of {model.width}, {options.threads} threads",
        caption=f"{cpu['name']}, kernels {cpu['kernel']}, PyTorch {torch.__version__}",
    )
    for column in ("method", *NETS, "packed : float32", "bytes", "of float32's"):
        table.add_column(column, justify="right" if column != "method" else "left")
    for method in options.methods:
        row = measure(model, method, options)
        cells = [f"{row.rates[name]:.0f}" for name in NETS]
        ratio, share = row.rates["packed"] / row.rates["float32"], row.packed_bytes / row.float_bytes
        table.add_row(method, *cells, f"{ratio:.2f}", f"{row.packed_bytes:,}", f"{share:.1%}")
    return table


def main(arguments: list[str] | None = None) -> None:
    """Print a table for each width."""
    options = tyro.cli(Options, args=arguments)
    torch.set_num_threads(options.threads)
    bitorch_runtime.set_num_threads(options.threads)
    for width in options.widths:
        torch.manual_seed(0)
        Console(width=120).print(table_of(GPT(width=width, blocks=options.blocks).eval(), options))


if __name__ == "__main__":
    main(sys.argv[1:])
