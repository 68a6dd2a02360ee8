"""A small GPT on few bits, trained from scratch on Python's standard library, and deployed.

    python recipes/gpt.py --method w2a8
    python recipes/gpt.py --method float --width 256 --layers 6 --steps 5000

Prints the perplexity of files that were never trained on, the bytes of the packed file, and how many tokens a second
one thread reads. It needs the package tokenizers. The embedding and the head are one table, of 8 bits
where the layers between them have few.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import bitorch
import bitorch_runtime
from gpt_net import GPT
from gpt_text import Corpus, corpus
from recipe import run

Method = Literal["float", "bitnet", "w1a8", "w2a8", "w4"]

#: What a method gives the layers between the embedding and the head.
_INNER: dict[str, dict[str, Any]] = {
    "bitnet": {"weight_bits": 2, "activation_bits": 8, "weights": "absmean", "range": "dynamic"},
    "w1a8": {"weight_bits": 1, "activation_bits": 8, "weight_scale": "channel", "range": "dynamic"},
    "w2a8": {"weight_bits": 2, "activation_bits": 8, "weights": "seq", "weight_scale": "channel", "range": "dynamic"},
    "w4": {"weight_bits": 4, "activation_bits": 32, "weights": "absmax", "group_size": 32},
}
#: The table, for every method.
_TABLE = bitorch.LowBitConfig(8, 8, weights="absmax", range="dynamic")


@dataclass(frozen=True)
class Options:
    """Train, deploy and measure a small GPT."""

    method: Method = "w2a8"
    """bitnet: ternary weights of BitNet b1.58; w1a8, w2a8: weights of 1 or 2 bits (ParetoQ's grid), all three with
    activations of 8 bits, a step for each token; w4: weights of 4 bits in groups of 32 alone, beside floats."""
    width: int = 128
    """Of the net."""
    layers: int = 4
    """Blocks of attention and two linear layers."""
    heads: int = 4
    """Of attention; the width is a multiple."""
    context: int = 64
    """Tokens that the net reads at once."""
    vocabulary: int = 1024
    """Of the byte-pair tokenizer, at least 256."""
    characters: int = 4_000_000
    """Of the standard library to read."""
    steps: int = 1000
    """Of training."""
    batch: int = 16
    """Windows of a step."""
    lr: float = 2e-3
    """The largest; it rises at first, and falls to 0."""
    seed: int = 0
    """Of the weights and the windows."""
    out: Path | None = None
    """Where to write the packed file."""


@dataclass(frozen=True)
class Outcome:
    """What is known of a net: perplexity, bytes as it is stored, and tokens a second on one thread."""

    perplexity: float
    nbytes: int
    rate: float


def windows(tokens: Tensor, context: int, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Return tokens and those that follow them, [len(starts), context] each."""
    index = starts.unsqueeze(1) + torch.arange(context)
    return tokens[index], tokens[index + 1]


def loss_of(model: nn.Module, tokens: Tensor, following: Tensor) -> Tensor:
    """Return the mean cross-entropy of the tokens that follow, in nats."""
    return F.cross_entropy(model(tokens).flatten(0, 1), following.flatten())


def built(options: Options, text: Corpus) -> GPT:
    """Return a net of the method, before training."""
    torch.manual_seed(options.seed)
    model = GPT(text.vocabulary, options.width, options.layers, options.heads, options.context)
    if options.method == "float":
        return model
    inner = bitorch.LowBitConfig(first="same", last="same", **_INNER[options.method])
    bitorch.quantize_(model, [("*", inner), ("embedding", _TABLE), ("head", _TABLE)])
    return model


def train(model: nn.Module, options: Options, text: Corpus, console: Console) -> None:
    """Train with AdamW; what has fewer than two dimensions, as what quantizers learn, does not decay."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, options.lr, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=options.steps, pct_start=0.1)
    model.train()
    for step in range(options.steps):
        starts = torch.randint(len(text.train) - options.context, (options.batch,))
        optimizer.zero_grad()
        loss = loss_of(model, *windows(text.train, options.context, starts))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            console.print(f"step {step + 1}: loss {float(loss.detach()):.3f}")
    model.eval()


@torch.inference_mode()
def perplexity(model: nn.Module, tokens: Tensor, options: Options) -> float:
    """Return e to the mean cross-entropy over windows side by side, at most 200 of them."""
    starts = torch.arange(0, len(tokens) - options.context, options.context)[:200]
    losses = [loss_of(model, *windows(tokens, options.context, some)) for some in starts.split(20)]
    sizes = [len(some) for some in starts.split(20)]
    return math.exp(sum(float(loss) * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes))


def rate(call: Callable[[], object], tokens: int) -> float:
    """Return tokens a second, of the median of ten calls that read so many tokens each."""
    times = []
    for _ in range(10):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return tokens / statistics.median(times)


def measured(model: nn.Module, options: Options, text: Corpus) -> Outcome:
    """Deploy a trained net, and return what is known of it; a float net is measured in PyTorch.

    Raises:
        RuntimeError: the packed file is not the net.
    """
    found = perplexity(model, text.validation, options)
    tokens = windows(text.validation, options.context, torch.zeros(1, dtype=torch.int64))[0]
    if options.method == "float":
        with torch.inference_mode():
            nbytes = sum(parameter.nbytes for parameter in model.parameters())
            return Outcome(found, nbytes, rate(lambda: model(tokens), options.context))
    packed = bitorch.deploy(model, tokens)
    verification = bitorch.verify(model, packed, tokens)
    if not verification:
        raise RuntimeError(f"the packed file is not the low-bit net: {verification}")
    if options.out is not None:
        packed.save(options.out)
    return Outcome(found, packed.nbytes, rate(lambda: packed(tokens), options.context))


def show(options: Options, console: Console) -> Outcome:
    """Train, deploy, and print a row."""
    torch.set_num_threads(1)
    bitorch_runtime.set_num_threads(1)
    text = corpus(options.vocabulary, options.characters)
    model = built(options, text)
    train(model, options, text, console)
    outcome = measured(model, options, text)
    table = Table(title=f"width {options.width}, layers {options.layers}, steps {options.steps}")
    for column in ("method", "perplexity", "bytes", "tokens/s"):
        table.add_column(column, justify="left" if column == "method" else "right")
    table.add_row(options.method, f"{outcome.perplexity:.2f}", f"{outcome.nbytes:,}", f"{outcome.rate:,.0f}")
    console.print(table)
    return outcome


def main(options: Options) -> None:
    """Show it on the terminal."""
    show(options, Console(width=100))


if __name__ == "__main__":
    run(main, Options)
