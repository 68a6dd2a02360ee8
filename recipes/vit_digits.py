"""A vision transformer that reads digits of 32×32 pixels: low-bit attention and layers with learned ranges, deployed.

python recipes/vit_digits.py --out vit.bit.safetensors
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from bitorch import LowBitConfig
from bitorch.data import digits
from example import Budget, Outcome, Task, run_example
from recipe import run

SIDE, PATCH = 32, 4


@cache
def _pictures() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All digits at 32×32, [count, 1, 32, 32] from 0 to 1, and what they are: of training, then of test."""
    data = digits()
    x_train, x_test = (
        F.interpolate(part.images.float() / 255, size=(SIDE, SIDE), mode="bilinear") for part in (data.train, data.test)
    )
    return x_train, data.train.labels, x_test, data.test.labels


def drawn(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """So many digits to train on, drawn at random, each moved by up to two pixels."""
    x, labels, _, _ = _pictures()
    index = torch.randint(len(x), (count,), generator=generator)
    padded = F.pad(x[index], (2, 2, 2, 2))
    windows = padded.unfold(2, SIDE, 1).unfold(3, SIDE, 1)  # [count, 1, 5, 5, 32, 32]
    top, left = torch.randint(5, (2, count), generator=generator)
    return windows[torch.arange(count), :, top, left], labels[index]


def unseen(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The first of the digits that are never trained on, as they are; there are 360."""
    _, _, x, labels = _pictures()
    return x[:count], labels[:count]


class Block(nn.Module):
    """Attention, then two layers with GELU between them, each on normalised tokens and added to them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [batch, T, width] to tokens."""
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        tokens: Tensor = x + self.mlp(self.norm2(x))
        return tokens


class ViT(nn.Module):
    """Patches of 4×4 pixels as tokens, and one more, the class token, whose last state decides."""

    def __init__(self, width: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, PATCH, PATCH)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, (SIDE // PATCH) ** 2 + 1, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores [batch, 10] of pictures [batch, 1, 32, 32]."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), tokens], 1) + self.positions
        scores: Tensor = self.head(self.norm(self.blocks(tokens)[:, 0]))
        return scores


def accuracy(results: Tensor, labels: Tensor) -> float:
    """The share of digits whose class is the one of the largest score."""
    return float((results.argmax(1) == labels).float().mean())


TASK = Task(drawn, unseen, F.cross_entropy, "accuracy", lambda results, labels: f"{accuracy(results, labels):.1%}")


@dataclass(frozen=True)
class Options:
    """Train a vision transformer on digits in float and low-bit, deploy it whole, and compare."""

    weight_bits: int = 2
    activation_bits: int = 2
    attention_bits: int = 4
    """Of queries, keys, probabilities and values, whose products are computed on codes; 32: in float."""
    out: Path | None = None
    """Where the packed file goes."""
    budget: Budget = field(default_factory=lambda: Budget(steps=300, batch=32, test=360, lr=2e-3))


def main(options: Options, console: Console | None = None) -> Outcome:
    config = LowBitConfig(
        weight_bits=options.weight_bits,
        activation_bits=options.activation_bits,
        attention_bits=options.attention_bits,
        range="learned",
        learned_by="lsq+",  # behind norms and GELU stand numbers below 0
    )
    return run_example(ViT, TASK, config, options.budget, options.out, Console() if console is None else console)


def _main(options: Options) -> None:
    main(options)


if __name__ == "__main__":
    run(_main, Options)
