"""Tokens a second of a small GPT: float, low-bit in PyTorch, and with packed layers, on one thread.

The low-bit nets have learned ranges, set by a few batches, and weights as they were drawn: what is measured does not
depend on them. The packed net has to give the tokens of the low-bit net, or this fails. The three take turns.

    OMP_NUM_THREADS=1 python benchmarks/generation.py
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from dataclasses import dataclass

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import bitorch
import bitorch_runtime
from generation_model import GPT, generate

NETS = ("float", "low-bit", "packed")


@dataclass(frozen=True)
class Options:
    """Generate with a small GPT, and count tokens a second."""

    bits: tuple[str, ...] = ("W1A8", "W2A2", "W4A4")
    """Bits of weights and activations."""
    tokens: int = 64
    """Tokens of one turn."""
    prompt: int = 16
    """Tokens that come before."""
    rounds: int = 5
    """Turns of each net."""
    width: int = 384
    """Of the net."""
    blocks: int = 6
    """Of the net."""


@dataclass(frozen=True)
class Row:
    """Tokens a second, the median of the turns, by the net."""

    bits: str
    rates: dict[str, float]


def low_bit(model: GPT, bits: str) -> GPT:
    """Return a low-bit copy in eval mode: learned ranges, the head in float."""
    weight_bits, activation_bits = (int(number) for number in bits.removeprefix("W").split("A"))
    net = copy.deepcopy(model)
    config = bitorch.LowBitConfig(weight_bits, activation_bits, range="learned", learned_by="lsq+", first="same")
    bitorch.quantize_(net, config)
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(256, (net.context,), generator=generator) for _ in range(4)]
    bitorch.calibrate(net, texts)
    return net.eval()


def seconds(model: nn.Module, plain: GPT, prompt: Tensor, count: int) -> tuple[float, list[int]]:
    """Generate; return the seconds for a token behind the prompt, and the tokens."""
    caches = plain.caches()
    first = generate(model, caches, prompt, 1)
    start = time.perf_counter()
    rest = generate(model, caches, torch.tensor(first), count)
    return (time.perf_counter() - start) / count, first + rest


def measure(model: GPT, bits: str, options: Options) -> Row:
    """Compare the three nets.

    Raises:
        RuntimeError: the packed net gives other tokens than the low-bit net.
    """
    net = low_bit(model, bits)
    nets: dict[str, nn.Module] = {"float": model, "low-bit": net, "packed": bitorch.deploy(net, partial=True)}
    prompt = torch.randint(256, (options.prompt,), generator=torch.Generator().manual_seed(2))
    found: dict[str, list[float]] = {name: [] for name in nets}
    for _ in range(options.rounds):
        tokens = {}
        for name, one in nets.items():
            taken, tokens[name] = seconds(one, model, prompt, options.tokens)
            found[name].append(taken)
        if tokens["packed"] != tokens["low-bit"]:
            raise RuntimeError(f"{bits}: the packed net gives other tokens: {tokens['packed']}, {tokens['low-bit']}")
    return Row(bits, {name: 1 / statistics.median(taken) for name, taken in found.items()})


def main(arguments: list[str] | None = None) -> None:
    """Print a table."""
    options = tyro.cli(Options, args=arguments)
    torch.set_num_threads(1)
    bitorch_runtime.set_num_threads(1)
    torch.manual_seed(0)
    model = GPT(width=options.width, blocks=options.blocks).eval()
    table = Table(title=f"Tokens a second, {options.blocks} blocks of {options.width}, one thread")
    for column in ("bits", *NETS, "packed : float"):
        table.add_column(column, justify="right" if column != "bits" else "left")
    for bits in options.bits:
        rates = measure(model, bits, options).rates
        cells = [f"{rates[name]:.0f}" for name in NETS]
        table.add_row(bits, *cells, f"{rates['packed'] / rates['float']:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
